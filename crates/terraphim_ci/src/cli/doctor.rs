//! `tci doctor`: can this host run virtual machines, and what is to be done if not.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::Serialize;
use terraphim_github_runner::store::{RunStore, StoreError};
use terraphim_vm::{
    Accelerator, Paths, VmError, VmSpec, host_memory_mib, image::ImageError, registry::Registry,
};

use super::{Global, small_runtime};
use crate::{
    exit::Exit,
    failure::{Failure, chain},
    output::{self, Paint},
};

#[derive(Debug, Args)]
#[command(after_help = "Ends with 3 when runs cannot work, with 0 when they can; remarks do not count.\n\n\
                        Example:\n  tci doctor")]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The microvm machine with ACPI and the migration that forks rely on (QEMU's change log).
const OLDEST_QEMU: (u32, u32) = (7, 0);
/// The Debian image, its build and a few VMs.
const NEEDED_DISK_MIB: u64 = 5 * 1024;

/// One requirement.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, but not as well as it could, or not everything does.
    Remark,
    Bad,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn bad(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn remark(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { verdict: Verdict::Remark, ..Check::bad(what, found, remedy) }
    }
}

pub(crate) fn main(args: &DoctorArgs, global: &Global) -> Result<Exit, Failure> {
    let paths = global.paths()?;
    let checks = [
        qemu(),
        acceleration(&paths),
        memory(),
        data_directory(paths.data()),
        registry(&paths),
        run_store(paths.data())?,
        disk_space(paths.data()),
        git(),
        image(global),
        build_tools(),
        user_namespaces(),
        limits(),
        hypervisor_user(),
    ];
    if args.json {
        output::json(&checks)?;
    } else {
        output::data(&text(&checks, Paint::for_stdout()))?;
    }
    let is_bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if is_bad { Exit::Infrastructure } else { Exit::Success })
}

fn text(checks: &[Check], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let sign = match check.verdict {
            Verdict::Good => paint.green("ok  "),
            Verdict::Remark => paint.yellow("note"),
            Verdict::Bad => paint.red("FAIL"),
        };
        let remedy = check.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        text += &format!("{sign}  {:<width$}  {}{remedy}\n", check.what, check.found);
    }
    text
}

fn qemu() -> Check {
    let what = "qemu";
    let install = "install it: sudo apt-get install qemu-system-x86";
    let Some(said) = said(terraphim_vm::driver::qemu::PROGRAM, &["--version"]) else {
        return Check::bad(what, "qemu-system-x86_64 is missing", install);
    };
    let first = said.lines().next().unwrap_or_default().to_owned();
    match version(&first) {
        Some(version) if version >= OLDEST_QEMU => Check::good(what, first),
        Some(_) => Check::bad(what, first, "7.0 or newer is needed: use Debian 12, Ubuntu 24.04 or newer"),
        None => Check::remark(what, format!("its version is unreadable: {first}"), install),
    }
}

/// `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)` has version 7.2.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn acceleration(paths: &Paths) -> Check {
    let what = "acceleration";
    match Accelerator::detect(&paths.cache()) {
        Ok(Accelerator::Kvm) => Check::good(what, "KVM works"),
        Ok(Accelerator::Tcg { reason }) => Check::remark(
            what,
            format!("{reason}: guests are emulated"),
            "runs work, some ten times slower than with KVM",
        ),
        // It is found out once, and kept in the data directory.
        Err(error @ VmError::Io { .. }) => {
            Check::bad(what, chain(&error), "see the line about the data directory")
        }
        Err(error) => Check::bad(what, chain(&error), "see the line about qemu"),
    }
}

fn memory() -> Check {
    let what = "memory";
    let (all, needed) = (host_memory_mib(), u64::from(VmSpec::default().memory_mib));
    let available = available_memory_mib().unwrap_or(all);
    let found = format!("{available} MiB of {all} MiB are available");
    if all < needed {
        Check::bad(what, found, format!("a VM has {needed} MiB by default: use `--memory` with less"))
    } else if available < 2 * needed {
        Check::remark(what, found, format!("a VM has {needed} MiB by default"))
    } else {
        Check::good(what, found)
    }
}

fn available_memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

fn data_directory(data: &Path) -> Check {
    let what = "data directory";
    let shown = data.display().to_string();
    let existing = nearest_existing(data);
    match rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Check::good(what, shown),
        Err(errno) => {
            let found = format!("{shown} cannot be written: {}", io::Error::from(errno));
            Check::bad(what, found, "choose another one with `--data-dir` or TCI_DATA_DIR")
        }
    }
}

/// Whether the registry of VMs can be read, with every row of it.
fn registry(paths: &Paths) -> Check {
    let what = "registry";
    let path = paths.registry();
    let rows = Registry::read_only(&path).and_then(|registry| registry.list());
    let count = rows.and_then(|rows| rows.into_iter().collect::<Result<Vec<_>, _>>()).map(|rows| rows.len());
    match count {
        Ok(count) => Check::good(what, format!("{count} VMs")),
        Err(error) => unusable(what, &Failure::from(VmError::from(error)), &path),
    }
}

/// Whether the store of runs can be read.
fn run_store(data: &Path) -> Result<Check, Failure> {
    let what = "run store";
    let read = async {
        let Some(store) = RunStore::open_to_read(data).await? else { return Ok::<_, StoreError>(None) };
        let newest = store.runs(1).await;
        store.close().await;
        Ok(Some(newest?.first().map_or(0, |run| run.id.0)))
    };
    let path = data.join("runs.db");
    Ok(match small_runtime()?.block_on(read) {
        Ok(None) => Check::good(what, "nothing was run yet"),
        Ok(Some(newest)) => Check::good(what, format!("newest run: {newest}")),
        Err(error) => unusable(what, &Failure::from(error), &path),
    })
}

fn unusable(what: &'static str, failure: &Failure, path: &Path) -> Check {
    let otherwise =
        || format!("`sqlite3 {} 'PRAGMA integrity_check'` says whether it is damaged", path.display());
    let remedy = failure.remedy().map_or_else(otherwise, str::to_owned);
    Check::bad(what, failure.message(), remedy)
}

fn disk_space(data: &Path) -> Check {
    let what = "disk space";
    let Ok(stat) = rustix::fs::statvfs(nearest_existing(data)) else {
        return Check::remark(what, "unknown", "check it with `df`");
    };
    let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024);
    let found = format!("{} free", output::size(free_mib * 1024 * 1024));
    if free_mib >= NEEDED_DISK_MIB {
        Check::good(what, found)
    } else {
        Check::remark(
            what,
            found,
            "an image and a few VMs take 5 GiB: remove old runs and images (`tci runs rm`, `tci image rm`)",
        )
    }
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn git() -> Check {
    match said("git", &["--version"]) {
        Some(version) => Check::good("git", version.trim()),
        None => Check::bad("git", "git is missing", "install it: sudo apt-get install git"),
    }
}

fn image(global: &Global) -> Check {
    let what = "image";
    let name = VmSpec::default().image;
    let found = global.host().and_then(|host| Ok(host.images()?.resolve(&name)));
    match found {
        Ok(Ok(image)) => {
            Check::good(what, format!("{name} {}, {}", image.digest.short(), output::size(image.size)))
        }
        Ok(Err(ImageError::NotFound(_))) => Check::remark(
            what,
            format!("{name} is not built yet"),
            "`tci image build` builds it, or the first run does",
        ),
        Ok(Err(error)) => {
            Check::bad(what, chain(&error), format!("`tci image rm {name}`, then `tci image build`"))
        }
        Err(failure) => {
            let remedy = failure
                .remedy()
                .unwrap_or("the directory `images` of the data directory must be yours")
                .to_owned();
            Check::bad(what, failure.message(), remedy)
        }
    }
}

/// What builds images, by the Debian package that has it.
const BUILD_TOOLS: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("sqfstar", "squashfs-tools"),
    ("mkfs.ext4", "e2fsprogs"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("unshare", "util-linux"),
    ("newuidmap", "uidmap"),
];
const KEYRING: (&str, &str) = ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");

fn build_tools() -> Check {
    let what = "image tools";
    let needs_uidmap = !rustix::process::geteuid().is_root();
    let mut packages: Vec<&str> = BUILD_TOOLS
        .into_iter()
        .filter(|(program, _)| (needs_uidmap || *program != "newuidmap") && !is_installed(program))
        .map(|(_, package)| package)
        .collect();
    if !Path::new(KEYRING.0).exists() {
        packages.push(KEYRING.1);
    }
    if packages.is_empty() {
        return Check::good(what, "all installed");
    }
    let remedy = format!("needed to build images: sudo apt-get install {}", packages.join(" "));
    Check::remark(what, format!("{} missing", packages.len()), remedy)
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian leaves the directories of mkfs and its like out of an ordinary user's path.
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let is_program = |dir: PathBuf| {
        fs::metadata(dir.join(program))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&path).chain(more).any(is_program)
}

fn user_namespaces() -> Check {
    let what = "user namespaces";
    if rustix::process::geteuid().is_root() {
        return Check::good(what, "not needed for root");
    }
    match said("unshare", &["--user", "--map-root-user", "true"]) {
        Some(_) => Check::good(what, "work"),
        None => Check::remark(
            what,
            "this user may not make any, which building images needs",
            "sudo sysctl kernel.unprivileged_userns_clone=1 (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0)",
        ),
    }
}

fn limits() -> Check {
    let what = "limits per VM";
    let (good, bad) = terraphim_vm::limits_support();
    if bad.is_empty() {
        return Check::good(what, format!("control groups for {}; disks by QEMU", good.join(", ")));
    }
    let remedy = "VMs run, but limits of these are not kept, and `tci vm start` says so";
    Check::remark(what, bad.join("; "), remedy)
}

fn hypervisor_user() -> Check {
    let what = "hypervisor's user";
    if rustix::process::geteuid().is_root() {
        Check::good(what, "one of its own for every VM, without rights")
    } else {
        Check::good(what, "you (as root, tci gives each VM a user of its own)")
    }
}

/// What a program that succeeds says; `None` when it is missing or fails.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some((7, 2)));
        assert!(version("QEMU emulator version 10.0.3").unwrap() > OLDEST_QEMU);
        assert_eq!(version("something"), None);
    }

    #[test]
    fn each_check_is_one_line_with_its_remedy() {
        let checks = [Check::good("git", "2.39"), Check::bad("qemu", "missing", "install it")];
        assert_eq!(text(&checks, Paint::plain()), "ok    git   2.39\nFAIL  qemu  missing; install it\n");
    }
}
