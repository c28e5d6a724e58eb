//! The twenty behaviours of a VM with a supervisor of its own, against real supervisors and real hypervisors.
//!
//! Most need no booted guest: the hypervisor runs as soon as `start` returns. Every test has a host of its own and ends
//! with a leak audit (see `host.rs`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod host;

use std::{os::unix::fs::PermissionsExt, time::Duration};

use host::TestHost;
use rustix::process::{Pid, Signal, getsid, kill_process};
use terraphim_vm::{EndReason, ProcessId, StopOptions, StopStep, VmError, VmRecord, VmState};

/// The guest is not asked, so nothing waits for it to boot.
const NOW: StopOptions = StopOptions { grace: Duration::ZERO };

fn kill(process: &Option<ProcessId>) {
    let process = process.as_ref().unwrap();
    kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
}

fn is_dead(process: &Option<ProcessId>) -> bool {
    !process.as_ref().unwrap().is_alive()
}

fn reason(row: Option<VmRecord>) -> EndReason {
    row.unwrap().end.unwrap().reason
}

#[tokio::test]
async fn test_spawn_runner_process() {
    let test = TestHost::new();
    let vm = test.running().await;
    let supervisor = vm.supervisor.clone().unwrap();
    assert!(supervisor.is_alive());
    assert_eq!(vm.epoch, 1);
    let pid = Pid::from_raw(supervisor.pid);
    assert_eq!(getsid(pid).unwrap(), pid.unwrap(), "it leads a session of its own");
    let proc = format!("/proc/{}", supervisor.pid);
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(std::fs::read_link(format!("{proc}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
    let parent = format!("PPid:\t{}\n", std::process::id());
    assert!(!status.contains(&parent), "it is not a child of who started it");
    let socket = vm.socket.clone().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_starts_qemu() {
    let test = TestHost::new();
    let vm = test.running().await;
    let qemu = vm.hypervisor.clone().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", qemu.pid)).unwrap();
    assert!(status.contains(&format!("PPid:\t{}\n", vm.supervisor.as_ref().unwrap().pid)), "{status}");
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", qemu.pid)).unwrap();
    assert!(line.contains(vm.id.as_str()), "{line}");
    let answer = test.host.client(&vm.id).unwrap().qmp("query-status", None).await.unwrap();
    assert_eq!(answer["status"], "running");
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_survives_cli_exit() {
    let test = TestHost::new();
    let vm = test.create();
    // A real `tci vm start` in a session of its own, which ends with it.
    let output = std::process::Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_tci"), "--data-dir"])
        .arg(test.host.paths().data())
        .args(["vm", "start", vm.id.as_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let row = test.row(&vm).unwrap();
    assert_eq!(row.state, VmState::Running);
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_exits_when_qemu_dies() {
    let test = TestHost::new();
    let vm = test.running().await;
    kill(&vm.hypervisor);
    test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
    let row = test.row(&vm).unwrap();
    assert_eq!(row.state, VmState::Stopped);
    let end = row.end.unwrap();
    assert_eq!((end.reason, end.signal), (EndReason::HypervisorDied, Some(9)));
    assert!(!vm.socket.unwrap().exists());
}

#[tokio::test]
async fn test_qmp_via_ipc() {
    let test = TestHost::new();
    let vm = test.running().await;
    let client = test.host.client(&vm.id).unwrap();
    assert_eq!(client.qmp("query-status", None).await.unwrap()["running"], true);
    let schema = client.qmp("query-qmp-schema", None).await.unwrap();
    assert!(schema.as_array().unwrap().len() > 100);
    let refused = client.qmp("no-such-command", None).await.unwrap_err().to_string();
    assert!(refused.contains("CommandNotFound"), "{refused}");
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_stop_via_ipc() {
    let test = TestHost::new();
    let vm = test.running().await;
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::Quit);
    assert!(is_dead(&vm.hypervisor) && is_dead(&vm.supervisor));
    assert_eq!(reason(test.row(&vm)), EndReason::Requested);
}

#[tokio::test]
async fn test_ipc_socket_not_found() {
    let test = TestHost::new();
    let vm = test.running().await;
    let socket = vm.socket.clone().unwrap();
    std::fs::remove_file(&socket).unwrap();
    let error = test.host.client(&vm.id).unwrap().ping().await.unwrap_err();
    assert!(matches!(&error, VmError::Unreachable { socket: named, .. } if *named == socket), "{error}");
    assert_eq!(test.row(&vm).unwrap().effective_state(), VmState::Running);
    // Stopping works all the same, by way of the process.
    test.host.stop(&vm.id, &NOW).await.unwrap();
    assert!(is_dead(&vm.hypervisor));
}

#[tokio::test]
async fn test_ping_command() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_cleanup_dead_processes_on_init() {
    let test = TestHost::new();
    let (lost, alive) = (test.running().await, test.running().await);
    kill(&lost.supervisor);
    test.until("the supervisor's end", || is_dead(&lost.supervisor)).await;
    test.host.repair_all().unwrap();
    assert_eq!(reason(test.row(&lost)), EndReason::SupervisorDied);
    assert!(!lost.socket.unwrap().exists());
    assert_eq!(test.row(&alive).unwrap().state, VmState::Running);
    test.host.stop(&alive.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn a_reused_pid_is_not_mistaken_for_the_supervisor() {
    let test = TestHost::new();
    let vm = test.running().await;
    kill(&vm.supervisor);
    test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
    // The row now names this test's own pid, which lives but started at another time.
    test.sql(&format!("UPDATE vms SET runner_pid = {}", std::process::id()));
    test.host.repair_all().unwrap();
    assert_eq!(test.row(&vm).unwrap().state, VmState::Stopped);
    let again = test.host.start(&vm.id).await.unwrap();
    test.host.stop(&again.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_detects_db_stop_command() {
    let test = TestHost::new();
    let vm = test.running().await;
    // The guest boots and cannot be asked yet, so the ladder's first step is skipped.
    test.sql(&format!("UPDATE vms SET desired = 'stopped' WHERE id = '{}'", vm.id));
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    assert_eq!(reason(test.row(&vm)), EndReason::Requested);
}

#[tokio::test]
async fn test_runner_detects_vm_deleted() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.sql(&format!("DELETE FROM vms WHERE id = '{}'", vm.id));
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    assert!(!test.host.paths().vm(&vm.id).exists(), "its disk is gone");
}

#[tokio::test]
async fn test_start_already_running_vm() {
    let test = TestHost::new();
    let vm = test.running().await;
    let again = test.host.start(&vm.id).await.unwrap();
    assert_eq!((again.supervisor, again.hypervisor), (vm.supervisor, vm.hypervisor));
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn many_starts_at_once_start_one_hypervisor() {
    let test = TestHost::new();
    let vm = test.create();
    let starts = (0..8).map(|_| test.host.start(&vm.id));
    let rows = futures_util::future::join_all(starts).await;
    let pids: std::collections::BTreeSet<_> =
        rows.into_iter().map(|row| row.unwrap().hypervisor.unwrap().pid).collect();
    assert_eq!(pids.len(), 1);
    assert_eq!(test.processes().len(), 2, "one supervisor, one hypervisor");
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_start_with_stale_running_status() {
    let test = TestHost::new();
    let vm = test.running().await;
    kill(&vm.supervisor);
    let again = test.host.start(&vm.id).await.unwrap();
    assert_eq!((again.state, again.epoch), (VmState::Running, 2));
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_stop_already_stopped_vm() {
    let test = TestHost::new();
    let vm = test.create();
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::NotRunning);
    assert_eq!(test.row(&vm).unwrap().state, VmState::Created);
}

#[tokio::test]
async fn test_qmp_on_stopped_vm() {
    let test = TestHost::new();
    let vm = test.create();
    let error = test.host.client(&vm.id).unwrap_err();
    assert!(matches!(&error, VmError::WrongState { state: VmState::Created, .. }), "{error}");
}

#[tokio::test]
async fn test_runner_crash_detection() {
    let test = TestHost::new();
    let vm = test.running().await;
    kill(&vm.supervisor);
    // Nobody does anything: the kernel ends the hypervisor.
    test.until("the hypervisor's end", || is_dead(&vm.hypervisor)).await;
    assert_eq!(test.row(&vm).unwrap().effective_state(), VmState::Stopped);
    test.host.repair_all().unwrap();
    assert_eq!(reason(test.row(&vm)), EndReason::SupervisorDied);
}

#[tokio::test]
async fn a_stopped_supervisor_and_hypervisor_can_be_stopped() {
    let test = TestHost::new();
    let vm = test.running().await;
    for process in [&vm.hypervisor, &vm.supervisor] {
        kill_process(Pid::from_raw(process.as_ref().unwrap().pid).unwrap(), Signal::STOP).unwrap();
    }
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::Kill);
    assert!(is_dead(&vm.hypervisor) && is_dead(&vm.supervisor));
}

#[tokio::test]
async fn test_socket_conflict_resolution() {
    let test = TestHost::new();
    let vm = test.create();
    let directory = test.host.paths().vm_runtime(&vm.id);
    std::fs::create_dir_all(&directory).unwrap();
    for level in directory.ancestors().take(3) {
        std::fs::set_permissions(level, PermissionsExt::from_mode(0o700)).unwrap();
    }
    std::fs::write(test.host.paths().socket(&vm.id, 1), "left by a dead one").unwrap();
    let vm = test.host.start(&vm.id).await.unwrap();
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_start_multiple_vms() {
    let test = TestHost::new();
    let vms: Vec<_> = (0..4).map(|_| test.create()).collect();
    let started = futures_util::future::join_all(vms.iter().map(|vm| test.host.start(&vm.id))).await;
    let started: Vec<VmRecord> = started.into_iter().map(Result::unwrap).collect();
    let distinct = |of: &dyn Fn(&VmRecord) -> String| {
        started.iter().map(of).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(distinct(&|vm| vm.supervisor.as_ref().unwrap().pid.to_string()), 4);
    assert_eq!(distinct(&|vm| vm.hypervisor.as_ref().unwrap().pid.to_string()), 4);
    assert_eq!(distinct(&|vm| vm.socket.as_ref().unwrap().display().to_string()), 4);
    for vm in &started {
        test.host.stop(&vm.id, &NOW).await.unwrap();
    }
}

#[tokio::test]
async fn test_stop_one_vm_doesnt_affect_others() {
    let test = TestHost::new();
    let (one, other) = (test.running().await, test.running().await);
    test.host.stop(&one.id, &NOW).await.unwrap();
    let client = test.host.client(&other.id).unwrap();
    assert_eq!(client.qmp("query-status", None).await.unwrap()["status"], "running");
    assert_eq!(test.row(&other).unwrap().hypervisor, other.hypervisor);
    test.host.remove(&other.id, true).await.unwrap();
    assert!(test.row(&other).is_none());
}

#[tokio::test]
async fn test_rapid_start_stop_cycles() {
    let test = TestHost::new();
    let vm = test.create();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    test.host.start(&vm.id).await.unwrap();
    test.host.stop(&vm.id, &NOW).await.unwrap();
    test.assert_clean();
    let before = descriptors();
    let cycles = std::env::var("TCI_TEST_CYCLES").map_or(20, |text| text.parse().unwrap());
    for _ in 0..cycles {
        test.host.start(&vm.id).await.unwrap();
        test.host.stop(&vm.id, &NOW).await.unwrap();
    }
    test.assert_clean();
    // Other tests of this process open and close descriptors at the same time, so this sees a leak of one per cycle only
    // in the 200 cycles of `make soak`.
    assert!(descriptors() < before + 40, "{before} -> {}", descriptors());
}

#[tokio::test]
async fn the_guest_is_asked_first() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.host.client(&vm.id).unwrap().wait_agent().await.unwrap();
    let report = test.host.stop(&vm.id, &StopOptions { grace: Duration::from_secs(30) }).await.unwrap();
    assert_eq!(report.step, StopStep::Guest);
}

#[tokio::test]
async fn a_vm_ends_with_the_process_it_was_started_for() {
    let test = TestHost::new();
    let mut owner = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let vm = test.create();
    let id = ProcessId::of(owner.id().cast_signed()).unwrap();
    let vm = test.host.start_owned(&vm.id, &id).await.unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    assert!(test.row(&vm).is_none());
    assert!(!test.host.paths().vm(&vm.id).exists());
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let test = TestHost::new();
    let vm = test.create();
    test.sql("UPDATE vms SET spec = json_set(spec, '$.image', 'gone')");
    let error = test.host.start(&vm.id).await.unwrap_err();
    assert!(matches!(error, VmError::Start { .. }) && error.to_string().contains("gone"), "{error}");
    let row = test.row(&vm).unwrap();
    assert_eq!((row.state, row.end.unwrap().reason), (VmState::Failed, EndReason::StartFailed));
}

/// Keeps one core busy.
struct Busy(std::process::Child);

impl Busy {
    fn new() -> Busy {
        Busy(std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "soak: twenty boots while every core is busy take minutes"]
async fn soak_twenty_boots_while_every_core_is_busy() {
    let test = TestHost::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let _busy: Vec<Busy> = (0..cores).map(|_| Busy::new()).collect();
    for boot in 1..=20 {
        let vm = test.running().await;
        let agent = test.host.client(&vm.id).unwrap().wait_agent().await;
        assert!(agent.is_ok(), "boot {boot} of 20: {agent:?}");
        test.host.remove(&vm.id, true).await.unwrap();
    }
}
