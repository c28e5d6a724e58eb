//! The kernel of an image: fetched as a Debian package, taken apart once, kept in the cache.

mod modules;
mod vmlinux;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use modules::ModuleError;
pub use vmlinux::VmlinuxError;

use super::apt::{Apt, Package};
use super::deb;
use super::error::{ImageError, IoContext};
use super::files;
use super::manifest::{FileContent, KERNEL, Kernel, MODULES, PackageVersion};
use super::progress::Progress;
use super::{Digest, KernelRecipe};
use modules::Available;

/// Changes when we take something else out of the same package.
const LAYOUT: u32 = 1;
const INDEX: &str = "kernel.json";

/// A kernel in the cache, in the shape that it has in an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CachedKernel {
    pub(super) kernel: Kernel,
    pub(super) files: BTreeMap<PathBuf, FileContent>,
}

/// The newest kernel of the recipe and where it is, fetched and taken apart unless it is in the cache.
pub(super) fn provide(
    cache: &Path,
    apt: &Apt,
    recipe: &KernelRecipe,
    progress: &dyn Progress,
) -> Result<(PathBuf, CachedKernel), ImageError> {
    let package = newest(apt, recipe)?;
    let kernels = cache.join("kernels");
    fs::create_dir_all(&kernels).io("create", &kernels)?;
    files::remove_unfinished(&kernels)?;
    let directory = kernels.join(format!("{}-{LAYOUT}", package.sha256));
    let index = directory.join(INDEX);
    // A torn or foreign index is not worth an error: the package is still there to be unpacked again.
    let cached = fs::read(&index).ok().and_then(|text| serde_json::from_slice::<CachedKernel>(&text).ok());
    if let Some(cached) = cached {
        return Ok((directory, cached));
    }
    let file = apt.fetch(&package, progress)?;
    progress.stage("unpacking the kernel");
    let staging = tempfile::Builder::new()
        .prefix(files::TEMPORARY)
        .tempdir_in(&kernels)
        .io("create a directory in", &kernels)?;
    let cached = unpack(&file, &package, staging.path())?;
    let json = serde_json::to_vec(&cached).expect("the index has string keys only");
    files::write_atomically(&staging.path().join(INDEX), &json)?;
    if directory.exists() {
        files::remove(&directory)?;
    }
    fs::rename(staging.path(), &directory).io("rename", staging.path())?;
    Ok((directory, cached))
}

/// Puts every module of the recipe's newest kernel, and what `depmod` needs to know of the others, into `target`, as
/// `/lib/modules` of a root file system has them.
pub(super) fn write_all_modules(
    apt: &Apt,
    recipe: &KernelRecipe,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let package = newest(apt, recipe)?;
    let file = apt.fetch(&package, progress)?;
    progress.stage("unpacking all modules of the kernel");
    deb::for_each_file(&file, |path, content| {
        let path = path.strip_prefix(".").unwrap_or(path);
        let Some(path) = in_modules(path) else { return Ok(()) };
        let content = content()?;
        // Checking a signature is most of the work of loading a module, and the kernel asks for none.
        let is_module = path.extension().is_some_and(|extension| extension == "ko");
        let content = if is_module { modules::without_signature(&content) } else { &content };
        let path = target.join(path);
        let directory = path.parent().unwrap_or(target);
        fs::create_dir_all(directory).io("create", directory)?;
        fs::write(&path, content).io("write", &path)
    })
}

/// The path below `lib/modules`; no path of a package leads out of it.
fn in_modules(path: &Path) -> Option<&Path> {
    let path = ["lib/modules", "usr/lib/modules"].iter().find_map(|top| path.strip_prefix(top).ok())?;
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Follows packages that only depend on the newest kernel.
fn newest(apt: &Apt, recipe: &KernelRecipe) -> Result<Package, ImageError> {
    let package = apt.show(&recipe.package)?;
    match package.depends.iter().find(|name| name.starts_with("linux-image-")) {
        Some(newest) => apt.show(newest),
        None => Ok(package),
    }
}

fn unpack(package: &Path, named: &Package, target: &Path) -> Result<CachedKernel, ImageError> {
    let parts = Parts::read(package)?;
    let vmlinux = vmlinux::extract(&parts.image)
        .map_err(|source| ImageError::Vmlinux { path: package.to_owned(), source })?;
    let wrap = |source| ImageError::Modules { version: parts.version.clone(), source };
    let mut depends = BTreeMap::new();
    for (stem, module) in &parts.modules {
        depends.insert(modules::normal_name(stem), modules::depends(stem, module).map_err(wrap)?);
    }
    let order = Available { depends, built_in: parts.built_in.clone() }.load_order().map_err(wrap)?;

    let mut files = BTreeMap::from([write(target, Path::new(KERNEL), &vmlinux)?]);
    let directory = target.join(MODULES);
    fs::create_dir(&directory).io("create", &directory)?;
    let mut stems = Vec::new();
    for name in order {
        let found = parts.modules.iter().find(|(stem, _)| modules::normal_name(stem) == name);
        let (stem, module) = found.expect("the order holds only modules that are there");
        let path = Path::new(MODULES).join(format!("{stem}.ko"));
        files.extend([write(target, &path, modules::without_signature(module))?]);
        stems.push(stem.clone());
    }
    let package = PackageVersion { name: named.name.clone(), version: named.version.clone() };
    Ok(CachedKernel { kernel: Kernel { version: parts.version, package, modules: stems }, files })
}

fn write(target: &Path, name: &Path, content: &[u8]) -> Result<(PathBuf, FileContent), ImageError> {
    let path = target.join(name);
    fs::write(&path, content).io("write", &path)?;
    files::make_read_only(&path)?;
    files::sync(&path)?;
    Ok((name.to_owned(), FileContent { size: content.len() as u64, sha256: Digest::of(content) }))
}

/// What we take from a kernel package.
#[derive(Default)]
struct Parts {
    version: String,
    image: Vec<u8>,
    built_in: BTreeSet<String>,
    /// By the stem of their file. A cloud kernel's modules are some 30 MB in all: small enough to choose from in memory.
    modules: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    fn read(package: &Path) -> Result<Parts, ImageError> {
        let mut parts = Parts::default();
        deb::for_each_file(package, |path, content| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(version) = name.strip_prefix("vmlinuz-") {
                version.clone_into(&mut parts.version);
                parts.image = content()?;
            } else if name == "modules.builtin" {
                parts.built_in = built_in(&String::from_utf8_lossy(&content()?));
            } else if let Some(stem) = name.strip_suffix(".ko") {
                parts.modules.insert(stem.to_owned(), content()?);
            }
            Ok(())
        })?;
        if parts.image.is_empty() {
            return Err(ImageError::PackageLacks { package: package.to_owned(), what: "boot/vmlinuz" });
        }
        Ok(parts)
    }
}

/// Names in `modules.builtin`, whose lines are paths such as `kernel/fs/ext4/ext4.ko`.
fn built_in(list: &str) -> BTreeSet<String> {
    let stem = |line: &str| Some(modules::normal_name(Path::new(line).file_stem()?.to_str()?));
    list.lines().filter_map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_directory_of_modules_is_taken() {
        let path = |path: &'static str| in_modules(Path::new(path)).map(|path| path.to_str().unwrap());
        assert_eq!(path("lib/modules/6.1/kernel/a.ko"), Some("6.1/kernel/a.ko"));
        assert_eq!(path("usr/lib/modules/6.1/modules.order"), Some("6.1/modules.order"));
        assert_eq!(path("boot/vmlinuz"), None);
        assert_eq!(path("lib/modules/../../etc/x"), None);
    }
}
