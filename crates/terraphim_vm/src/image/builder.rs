//! Builds an image: everything in a directory of its own, which gets its name when all is there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::apt::{Apt, Source};
use super::error::{ImageError, IoContext};
use super::files::{self, Lock, TEMPORARY};
use super::manifest::{
    Content, FORMAT, FileContent, Kernel, MANIFEST, MODULES, Manifest, ROOTFS, RootfsFormat, now,
};
use super::progress::Progress;
use super::rootfs::{self, Job};
use super::{Digest, Recipe, kernel, scratch_space};

/// One build.
pub(super) struct Build<'a> {
    pub(super) recipe: &'a Recipe,
    /// The directory of all images.
    pub(super) images: &'a Path,
    pub(super) cache: &'a Path,
    /// Ask the package servers even if our lists are fresh.
    pub(super) refresh: bool,
    /// The lock of the store.
    pub(super) lock: &'a Lock,
    pub(super) progress: &'a dyn Progress,
}

/// Where the packages of one suite come from.
pub(super) fn suite_source<'a>(recipe: &'a Recipe, suite: &'a str) -> Source<'a> {
    Source { suite, mirror: &recipe.mirror, security_mirror: &recipe.security_mirror }
}

impl Build<'_> {
    /// Builds the image and returns its digest.
    pub(super) fn run(&self) -> Result<Digest, ImageError> {
        clear_unfinished(self.images)?;
        rootfs::require(self.recipe, self.images)?;
        let staging = unfinished(self.images)?;
        let (kernel, mut files) = self.add_kernel(staging.path())?;
        let packages = self.add_rootfs(staging.path())?;
        let (sha256, size) = Digest::of_file(&staging.path().join(ROOTFS))?;
        files.insert(PathBuf::from(ROOTFS), FileContent { size, sha256 });
        let content = Content {
            format: FORMAT,
            recipe: self.recipe.clone(),
            kernel,
            rootfs_format: RootfsFormat::Squashfs,
            packages,
            files,
        };
        self.finish(staging, content)
    }

    fn add_kernel(&self, staging: &Path) -> Result<(Kernel, BTreeMap<PathBuf, FileContent>), ImageError> {
        let apt =
            Apt::open(self.cache, &suite_source(self.recipe, &self.recipe.kernel.suite), self.progress)?;
        apt.update(self.refresh, self.progress)?;
        let (directory, cached) = kernel::provide(self.cache, &apt, &self.recipe.kernel, self.progress)?;
        let modules = staging.join(MODULES);
        fs::create_dir(&modules).io("create", &modules)?;
        for file in cached.files.keys() {
            files::link_or_copy(&directory.join(file), &staging.join(file))?;
        }
        Ok((cached.kernel, cached.files))
    }

    fn add_rootfs(&self, staging: &Path) -> Result<Vec<super::PackageVersion>, ImageError> {
        // Not in the cache itself: another store's build may clear what is unfinished there.
        let work = unfinished(self.images)?;
        // Other users may pass through it, as those of the new system will have to, but not look around.
        fs::set_permissions(work.path(), PermissionsExt::from_mode(0o711))
            .io("open to passers-by", work.path())?;
        let modules = self.recipe.kernel.all_modules.then(|| work.path().join(MODULES));
        if let Some(modules) = &modules {
            let source = suite_source(self.recipe, &self.recipe.kernel.suite);
            let apt = Apt::open(self.cache, &source, self.progress)?;
            kernel::write_all_modules(&apt, &self.recipe.kernel, modules, self.progress)?;
        }
        let target = staging.join(ROOTFS);
        let packages = rootfs::build(&Job {
            recipe: self.recipe,
            cache: self.cache,
            work: work.path(),
            target: &target,
            modules: modules.as_deref(),
            refresh: self.refresh,
            lock: self.lock,
            progress: self.progress,
        })?;
        let path = work.keep();
        scratch_space::remove_tree(&path)?;
        Ok(packages)
    }

    /// Gives the finished image its name.
    fn finish(&self, staging: TempDir, content: Content) -> Result<Digest, ImageError> {
        let digest = content.digest();
        let manifest = Manifest { content, built_at: now() };
        files::write_atomically(&staging.path().join(MANIFEST), manifest.to_json().as_bytes())?;
        fs::set_permissions(staging.path(), PermissionsExt::from_mode(0o755))
            .io("open to readers", staging.path())?;
        files::sync(staging.path())?;
        let target = self.images.join(digest.to_string());
        if target.exists() {
            // The same content under the same name, or what is left of it when it was damaged.
            files::remove(&target)?;
        }
        fs::rename(staging.path(), &target).io("rename", staging.path())?;
        // It has another name now, so there is nothing to remove any more.
        let _ = staging.keep();
        files::sync(self.images)?;
        Ok(digest)
    }
}

fn unfinished(directory: &Path) -> Result<TempDir, ImageError> {
    tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(directory).io("create a directory in", directory)
}

/// Removes what builds that were killed left behind.
pub(super) fn clear_unfinished(images: &Path) -> Result<(), ImageError> {
    for path in files::unfinished(images)? {
        scratch_space::remove_tree(&path)?;
    }
    Ok(())
}
