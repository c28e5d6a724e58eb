//! The groups of one VM.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::place::{self, Controller, Version};
use crate::{
    Limits, Paths, VmId,
    error::{IoContext as _, VmError},
};

/// Which of a VM's limits are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// The control groups that its hypervisor is in.
    pub groups: Vec<PathBuf>,
    /// Limits that this host cannot keep, one sentence each with its reason.
    pub unenforced: Vec<String>,
}

/// The groups of a VM that is about to run. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Group {
    paths: Paths,
    id: VmId,
    report: LimitsReport,
}

/// The period of a processor quota, in microseconds: the kernel's own default.
const CPU_PERIOD: u32 = 100_000;
/// How long a killed process may take to leave its group.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

impl Group {
    /// Makes the groups that the limits need; `None` when they need none. A limit that the host cannot keep is told of
    /// in the report and stops nothing.
    pub(crate) fn create(paths: &Paths, id: &VmId, limits: &Limits) -> Result<Option<Group>, VmError> {
        remove_left(paths, id)?;
        let mut wanted = Vec::new();
        let mut report = LimitsReport::default();
        for controller in Controller::ALL {
            let settings = |version| settings(controller, version, limits);
            if settings(Version::Two).is_empty() {
                continue;
            }
            match place::find(controller) {
                Ok(place) => {
                    let directory = place.directory.join(format!("tci-{id}"));
                    wanted.push((controller, directory, settings(place.version)));
                }
                Err(why) => report.unenforced.push(format!("{} is not limited: {why}", noun(controller))),
            }
        }
        if wanted.is_empty() && report.unenforced.is_empty() {
            return Ok(None);
        }
        // Noted before they are made.
        let directories: Vec<&Path> = wanted.iter().map(|(_, directory, _)| directory.as_path()).collect();
        let note = note(paths, id);
        fs::write(&note, serde_json::to_vec(&directories).expect("paths are JSON")).io("write", &note)?;
        let mut group = Group { paths: paths.clone(), id: id.clone(), report };
        for (controller, directory, settings) in wanted {
            match make(&directory, &settings) {
                Ok(()) if group.report.groups.contains(&directory) => {}
                Ok(()) => group.report.groups.push(directory),
                Err(error) => {
                    let why =
                        format!("{} is not limited: {}: {error}", noun(controller), directory.display());
                    group.report.unenforced.push(why);
                }
            }
        }
        Ok(Some(group))
    }

    pub(crate) fn report(&self) -> &LimitsReport {
        &self.report
    }

    /// The files to which the hypervisor writes `0` to enter.
    pub(crate) fn entrances(&self) -> Result<Vec<File>, VmError> {
        let open = |directory: &PathBuf| {
            let path = directory.join("cgroup.procs");
            File::options().write(true).open(&path).io("open", &path)
        };
        self.report.groups.iter().map(open).collect()
    }

    /// Whether the kernel has killed the hypervisor for its memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        ["memory.events", "memory.oom_control"].iter().any(|file| {
            self.report.groups.iter().any(|group| {
                let text = fs::read_to_string(group.join(file)).unwrap_or_default();
                text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
            })
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be removed is noted still; the next command that looks after this VM tries again.
        if let Err(error) = remove_left(&self.paths, &self.id) {
            tracing::warn!("{error}");
        }
    }
}

fn note(paths: &Paths, id: &VmId) -> PathBuf {
    paths.vm(id).join("cgroups.json")
}

/// Ends what is in the groups of a VM and removes them. The caller holds the VM's lock.
pub(crate) fn remove_left(paths: &Paths, id: &VmId) -> Result<(), VmError> {
    let note = note(paths, id);
    let text = match fs::read(&note) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.io("read", &note)?,
    };
    // A note that was cut short was followed by no group.
    let directories: Vec<PathBuf> = serde_json::from_slice(&text).unwrap_or_default();
    let name = format!("tci-{id}");
    for directory in directories.iter().filter(|directory| directory.ends_with(&name)) {
        empty(directory);
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).io("remove control group", directory);
            }
            _ => {}
        }
    }
    fs::remove_file(&note).io("remove", &note)
}

/// Kills what is in a group and waits until it has left. Usually nothing is.
fn empty(directory: &Path) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    for pidfd in pids.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        let limit = rustix::time::Timespec::try_from(LEAVE_LIMIT).ok();
        let mut wait = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let _ = rustix::event::poll(&mut wait, limit.as_ref());
    }
}

fn make(directory: &Path, settings: &[(&'static str, String)]) -> io::Result<()> {
    match fs::create_dir(directory) {
        // Version 2 has one directory for all controllers.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for (file, value) in settings {
        match fs::write(directory.join(file), value) {
            // Kernels without accounting of swap have no such file; then there is no swap to escape to, or no limit on it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("sw") => {}
            written => written.map_err(|error| io::Error::other(format!("{file}: {error}")))?,
        }
    }
    Ok(())
}

fn noun(controller: Controller) -> &'static str {
    match controller {
        Controller::Cpu => "processor time",
        Controller::Memory => "memory",
        Controller::Pids => "the number of processes",
    }
}

/// What to write into which file of a group.
fn settings(controller: Controller, version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    match (controller, version) {
        (Controller::Cpu, Version::One) => {
            if let Some(percent) = limits.cpu_percent {
                all.push(("cpu.cfs_period_us", CPU_PERIOD.to_string()));
                all.push((
                    "cpu.cfs_quota_us",
                    (u64::from(percent) * u64::from(CPU_PERIOD) / 100).to_string(),
                ));
            }
            // 1024 shares are what version 2 calls a weight of 100.
            all.extend(
                limits
                    .cpu_weight
                    .map(|weight| ("cpu.shares", (u64::from(weight) * 1024 / 100).max(2).to_string())),
            );
        }
        (Controller::Cpu, Version::Two) => {
            all.extend(limits.cpu_percent.map(|percent| {
                ("cpu.max", format!("{} {CPU_PERIOD}", u64::from(percent) * u64::from(CPU_PERIOD) / 100))
            }));
            all.extend(limits.cpu_weight.map(|weight| ("cpu.weight", weight.to_string())));
        }
        (Controller::Memory, version) => {
            if let Some(mib) = limits.memory_mib {
                let bytes = (u64::from(mib) << 20).to_string();
                match version {
                    // In this order: memory and swap together cannot be less than memory.
                    Version::One => all.extend([
                        ("memory.limit_in_bytes", bytes.clone()),
                        ("memory.memsw.limit_in_bytes", bytes),
                    ]),
                    Version::Two => all.extend([("memory.max", bytes), ("memory.swap.max", "0".to_owned())]),
                }
            }
        }
        (Controller::Pids, _) => {
            all.extend(limits.processes.map(|most| ("pids.max", most.to_string())));
        }
    }
    all
}

/// What of processor, memory and processes this host can limit, and why not the rest; for people.
#[must_use]
pub fn limits_support() -> (Vec<&'static str>, Vec<String>) {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for controller in Controller::ALL {
        match place::find(controller) {
            Ok(_) => good.push(controller.name()),
            Err(why) => bad.push(format!("{}: {why}", controller.name())),
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_interfaces_mean_the_same() {
        let limits = Limits {
            cpu_percent: Some(150),
            cpu_weight: Some(200),
            memory_mib: Some(1),
            processes: Some(40),
            ..Limits::default()
        };
        let of = |controller, version| settings(controller, version, &limits);
        assert_eq!(
            of(Controller::Cpu, Version::One),
            [
                ("cpu.cfs_period_us", "100000".to_owned()),
                ("cpu.cfs_quota_us", "150000".to_owned()),
                ("cpu.shares", "2048".to_owned())
            ]
        );
        assert_eq!(of(Controller::Cpu, Version::Two)[0], ("cpu.max", "150000 100000".to_owned()));
        assert_eq!(of(Controller::Memory, Version::One)[0], ("memory.limit_in_bytes", (1 << 20).to_string()));
        assert_eq!(of(Controller::Pids, Version::One), of(Controller::Pids, Version::Two));
    }

    #[test]
    fn a_note_removes_only_groups_of_its_vm() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path()).unwrap();
        let id = VmId::random();
        fs::create_dir_all(paths.vm(&id)).unwrap();
        let (ours, strange) = (dir.path().join(format!("tci-{id}")), dir.path().join("other"));
        fs::create_dir(&ours).unwrap();
        fs::create_dir(&strange).unwrap();
        fs::write(note(&paths, &id), serde_json::to_vec(&[&ours, &strange]).unwrap()).unwrap();
        remove_left(&paths, &id).unwrap();
        assert!(!ours.exists() && strange.exists() && !note(&paths, &id).exists());
        remove_left(&paths, &id).unwrap();
    }

    /// Why this host cannot show it: written past the captured output, which is not shown of a test that passes.
    fn skipped(why: &str) {
        let line = format!("SKIPPED the_kernel_keeps_what_a_group_says: {why}\n");
        std::io::Write::write_all(&mut io::stderr(), line.as_bytes()).unwrap();
    }

    /// Runs a script in the groups; it enters them as a hypervisor does.
    fn run(group: &Group, script: &str) -> std::process::Output {
        let enter = "for group; do echo 0 >$group/cgroup.procs || exit 99; done;";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{enter} {script}"), "sh"]).args(&group.report.groups);
        command.output().unwrap()
    }

    #[test]
    fn the_kernel_keeps_what_a_group_says() {
        let versions: Result<Vec<Version>, String> =
            Controller::ALL.iter().map(|controller| Ok(place::find(*controller)?.version)).collect();
        let versions = match versions {
            Ok(versions) => versions,
            Err(why) => return skipped(&why),
        };
        println!("control groups of versions {versions:?}");
        let dir = tempfile::tempdir().unwrap();
        let (paths, id) = (Paths::new(dir.path()).unwrap(), VmId::random());
        fs::create_dir_all(paths.vm(&id)).unwrap();
        let limits =
            Limits { cpu_percent: Some(5), memory_mib: Some(32), processes: Some(6), ..Limits::default() };
        let group = Group::create(&paths, &id, &limits).unwrap().unwrap();
        assert_eq!(group.report.unenforced, [] as [String; 0]);

        // A twentieth of one processor's time, of which it wants all; a busy host leaves it more than that.
        let busy = run(&group, "timeout 2 sh -c 'while :; do :; done'");
        let throttled = group.report.groups.iter().find_map(|group| {
            let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok())
        });
        assert!(throttled.is_some_and(|times| times > 0), "{throttled:?}: {busy:?}");

        assert!(!group.was_out_of_memory());
        let greedy = run(&group, "exec tail /dev/zero");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&greedy.status), Some(9), "{greedy:?}");
        assert!(group.was_out_of_memory());

        let many = run(&group, "for n in 1 2 3 4 5 6 7 8; do sleep 1 & done");
        assert!(String::from_utf8_lossy(&many.stderr).contains("fork"), "{many:?}");

        let groups = group.report.groups.clone();
        drop(group);
        assert!(!groups.is_empty() && groups.iter().all(|group| !group.exists()), "{groups:?}");
    }

    /// This host may have the one version; the kernel of a guest has the other, and is a host as good as any.
    #[tokio::test]
    #[ignore = "soak: carries this program into a guest"]
    async fn soak_the_kernel_of_a_guest_keeps_what_a_group_of_version_two_says() {
        use crate::{ExecEvent, Host, ProcessId, VmSpec, protocol::message::ExecRequest};
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().nth(3).unwrap();
        let images =
            std::env::var_os("TCI_TEST_IMAGES").map_or_else(|| target.join("tci-test"), PathBuf::from);
        let directory = tempfile::Builder::new().prefix("tci-groups-").tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for name in ["images", "cache"] {
            let place = fs::canonicalize(images.join(name)).expect("guest images: run `make test` once");
            std::os::unix::fs::symlink(place, data.join(name)).unwrap();
        }
        let tci = program.ancestors().nth(2).unwrap().join("tci");
        crate::make_private_directory(&directory.path().join("run")).unwrap();
        let paths = Paths::from_parts(data, directory.path().join("run/host"));
        let host = Host::open(paths).unwrap().with_supervisor_program(tci);
        let id = host.create(&VmSpec { image: "debian".to_owned(), ..VmSpec::default() }).unwrap().id;
        // It goes with this process, should an assertion fail.
        host.start_owned(&id, &ProcessId::current().unwrap()).await.unwrap();
        let vm = host.client(&id).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_path_with_name(&program, "program").unwrap();
        vm.upload("/opt/groups", None, io::Cursor::new(tar.into_inner().unwrap())).await.unwrap();
        let test = "cgroup::group::tests::the_kernel_keeps_what_a_group_says";
        // The guest gives its groups no share of the processor to divide, a host of systemd does.
        let script = format!(
            "echo +cpu >/sys/fs/cgroup/cgroup.subtree_control && /opt/groups/program --exact {test} --nocapture 2>&1"
        );
        let request = ExecRequest {
            argv: vec!["sh".to_owned(), "-c".to_owned(), script],
            inherit_env: true,
            ..ExecRequest::default()
        };
        let mut exec = vm.exec(&request).await.unwrap();
        let (mut said, mut code) = (String::new(), None);
        while let Some(event) = exec.next().await.unwrap() {
            match event {
                ExecEvent::Stdout(bytes) => said += &String::from_utf8_lossy(&bytes),
                ExecEvent::Exited(exited) => code = Some(exited.status.shell_code()),
                _ => {}
            }
        }
        match host.remove(&id, true).await {
            // Its supervisor removes what was started for one process.
            Ok(()) | Err(VmError::NotFound(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("versions [Two, Two, Two]") && said.contains("1 passed"), "{said}");
    }
}
