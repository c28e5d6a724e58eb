//! A small Debian system, put together by mmdebstrap from packages that our own apt has fetched and checked.

use std::fs::{self, File};
use std::path::Path;

use super::Job;
use super::squash::squash;
use super::users::{HOSTNAME, HOSTS, RESOLV_CONF, RUNNER_ID};
use crate::image::Recipe;
use crate::image::apt::Apt;
use crate::image::builder::suite_source;
use crate::image::error::{ImageError, IoContext};
use crate::image::files;
use crate::image::manifest::PackageVersion;
use crate::image::scratch_space::ScratchSpace;
use crate::image::tool::Tool;

/// Documentation and translations: nobody reads them in a guest, and they are half of all files. Licences stay.
const LEFT_OUT: [&str; 7] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
];

/// What mmdebstrap says it does and takes long.
const STEPS: [&str; 4] = [
    "extracting archives",
    "installing essential packages",
    "installing remaining packages inside the chroot",
    "creating tarball",
];

pub(super) fn build(job: &Job<'_>) -> Result<Vec<PackageVersion>, ImageError> {
    let source = suite_source(job.recipe, &job.recipe.suite);
    {
        let apt = Apt::open(job.cache, &source, job.progress)?;
        apt.update(job.refresh, job.progress)?;
        apt.fetch_system(&job.recipe.packages, job.progress)?;
        // Links, so that a build beside ours may fetch and clear packages while we use these.
        link_files(&apt.archives(), &job.work.join("debs"), |name| name.ends_with(".deb"))?;
        link_files(&apt.lists(), &job.work.join("lists"), |name| name != "lock")?;
    }
    fs::write(job.work.join("customize.sh"), customization(job.recipe)).io("write", job.work)?;

    let tar = job.work.join("rootfs.tar");
    bootstrap(job, &source.lines(), File::create_new(&tar).io("create", &tar)?)?;
    job.progress.stage("packing the root file system");
    squash(super::open(&tar)?, job.target)?;
    let status = job.work.join("status");
    let text = fs::read_to_string(&status).io("read", &status)?;
    Ok(installed(&text))
}

/// Runs mmdebstrap without network: lists and packages are handed in. Paths are relative to the working directory, because
/// mmdebstrap splits hooks into words.
fn bootstrap(job: &Job<'_>, sources: &[String], tar: File) -> Result<(), ImageError> {
    job.progress.stage("installing packages");
    let space = ScratchSpace::prepare(job.work)?;
    let packages = job.recipe.packages.join(",");
    let tool = if space.is_root() { Tool::confined } else { Tool::new };
    let mut tool = tool("mmdebstrap", "mmdebstrap", "installing packages")
        .directory(job.work)
        .holding(job.lock)
        .env("TMPDIR", space.path())
        .args([
            "--mode",
            if space.is_root() { "root" } else { "unshare" },
            "--variant",
            "minbase",
            "--architectures",
            "amd64",
            "--format",
            "tar",
        ])
        .args(["--aptopt=Acquire::Languages \"none\"", "--skip=update,check/signed-by"])
        .args(LEFT_OUT.map(|option| format!("--dpkgopt={option}")))
        .arg("--setup-hook=mkdir -p \"$1/var/cache/apt/archives/partial\" \"$1/var/lib/apt/lists/partial\"")
        .arg("--setup-hook=sync-in lists /var/lib/apt/lists")
        .arg("--setup-hook=sync-in debs /var/cache/apt/archives")
        .args(job.modules.iter().flat_map(|modules| modules_hooks(modules)))
        .arg("--customize-hook=upload customize.sh /customize.sh")
        .arg("--customize-hook=chroot \"$1\" /bin/sh /customize.sh")
        .arg("--customize-hook=rm \"$1/customize.sh\"")
        .arg("--customize-hook=download /var/lib/dpkg/status status");
    if !packages.is_empty() {
        tool = tool.arg(format!("--include={packages}"));
    }
    let outcome = tool.arg(&job.recipe.suite).arg("-").args(sources).stdout(tar).watch(|line| {
        if let Some(step) = line.strip_prefix("I: ").and_then(|step| step.strip_suffix("...")) {
            // The steps in between are about our own hooks and directories.
            if STEPS.contains(&step) {
                job.progress.stage(step);
            }
        }
    });
    space.clear()?;
    outcome
}

/// Brings the kernel's modules, which are in a directory of the working directory.
fn modules_hooks(modules: &Path) -> [String; 2] {
    let name = modules.file_name().unwrap_or_default().to_string_lossy();
    [
        "--customize-hook=mkdir -p \"$1/lib/modules\"".to_owned(),
        format!("--customize-hook=sync-in {name} /lib/modules"),
    ]
}

/// The script that makes a guest of a Debian system. It runs as root inside. The directories that it gives to root had been
/// filled from ours and became the caller's with that.
fn customization(recipe: &Recipe) -> String {
    let user = &recipe.user;
    let mut script = format!(
        "set -eu\n\
         cat > /etc/hostname <<'EOF'\n{HOSTNAME}EOF\n\
         cat > /etc/hosts <<'EOF'\n{HOSTS}EOF\n\
         cat > /etc/resolv.conf <<'EOF'\n{RESOLV_CONF}EOF\n\
         echo LANG=C.UTF-8 > /etc/default/locale\n\
         if ! id {user} > /dev/null 2>&1; then\n\
         \tgroupadd --gid {RUNNER_ID} {user}\n\
         \tuseradd --uid {RUNNER_ID} --gid {RUNNER_ID} --create-home --shell /bin/bash {user}\n\
         fi\n\
         if [ -d /etc/sudoers.d ] && [ {user} != root ]; then\n\
         \techo '{user} ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user}\n\
         \tchmod 440 /etc/sudoers.d/{user}\n\
         fi\n\
         install -d -o {user} -g {user} /workspace /opt/hostedtoolcache\n\
         chown root:root /var/lib/apt/lists /var/cache/apt/archives\n"
    );
    if recipe.kernel.all_modules {
        // The kernel is not of this system's suite, so no package of it makes the index that modprobe reads.
        script += "chown -R root:root /lib/modules/*\nfor kernel in /lib/modules/*; do depmod \"${kernel##*/}\"; done\n";
    }
    for command in &recipe.run {
        script += command;
        script.push('\n');
    }
    script
}

/// Links every file of `from` whose name is `wanted` into the new directory `to`.
fn link_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), ImageError> {
    fs::create_dir(to).io("create", to)?;
    for path in files::entries(from)? {
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_file()
            && wanted(name)
        {
            let link = to.join(name);
            files::link_or_copy(&path, &link)?;
        }
    }
    Ok(())
}

/// The packages that dpkg's status file says are installed.
fn installed(status: &str) -> Vec<PackageVersion> {
    let package = |stanza: &str| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        if field("Status")? != "install ok installed" {
            return None;
        }
        Some(PackageVersion { name: field("Package")?, version: field("Version")? })
    };
    let mut packages: Vec<_> = status.split("\n\n").filter_map(package).collect();
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_read_from_dpkgs_status() {
        let status = "Package: b\nStatus: install ok installed\nVersion: 2\n\nPackage: a\nStatus: install ok installed\nVersion: 1\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 3\n";
        let names: Vec<String> = installed(status).into_iter().map(|p| p.name + " " + &p.version).collect();
        assert_eq!(names, ["a 1", "b 2"]);
    }

    #[test]
    fn the_commands_of_a_recipe_come_last() {
        let mut recipe = Recipe::named("debian").unwrap();
        recipe.run = vec!["echo one".into(), "echo two".into()];
        assert!(customization(&recipe).ends_with("/archives\necho one\necho two\n"));
    }
}
