//! The twenty behaviours of a VM with a supervisor of its own, against real supervisors and real hypervisors.
//!
//! Most need no booted guest: the hypervisor runs as soon as `start` returns. Every test has a host of its own and ends
//! with a leak audit (`host.rs`, `audit.rs`). What is stronger than the twenty is in the files below; what takes minutes is
//! named `soak_` and run by `make soak`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod cycles;
mod failures;
mod host;
mod isolation;
mod kill;
mod loss;
mod nonsense;
mod processes;
mod registry;
mod release;
mod soak;

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt, net::UnixListener, process::ExitStatusExt as _},
    },
    path::Path,
};

use futures_util::future::join_all;
use host::{NOW, TestHost, error, finish};
use processes::Role;
use rustix::process::{Pid, Signal, getsid, kill_process};
use terraphim_vm::{
    EndReason, ProcessId, StopStep, VmError, VmRecord, VmState,
    fault::{Action, Point},
};

pub(crate) fn signal(process: &Option<ProcessId>, signal: Signal) {
    kill_process(Pid::from_raw(process.as_ref().unwrap().pid).unwrap(), signal).unwrap();
}

pub(crate) fn kill(process: &Option<ProcessId>) {
    signal(process, Signal::KILL);
}

pub(crate) fn is_dead(process: &Option<ProcessId>) -> bool {
    !process.as_ref().unwrap().is_alive()
}

pub(crate) fn reason(row: Option<VmRecord>) -> EndReason {
    row.unwrap().end.unwrap().reason
}

fn status(process: &Option<ProcessId>) -> String {
    fs::read_to_string(format!("/proc/{}/status", process.as_ref().unwrap().pid)).unwrap()
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
    assert_eq!(fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_link(format!("{proc}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    let said = status(&vm.supervisor);
    assert!(said.contains("Umask:\t0077") && said.contains("Threads:\t1\n"), "{said}");
    let keeper = test.process(Role::Keeper).unwrap();
    assert!(
        said.contains(&format!("PPid:\t{}\n", keeper.pid)),
        "its parent is its keeper, not who started it"
    );
    let of = |role| test.processes().iter().filter(|process| process.role == role).count();
    assert_eq!((of(Role::Supervisor), of(Role::Keeper), of(Role::Qemu)), (1, 1, 1));
    let socket = vm.socket.clone().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    // Nobody saw it in another state than one that names its owner.
    assert_eq!(test.history(&vm), ["created", "starting", "running"]);
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_starts_qemu() {
    let test = TestHost::new();
    let vm = test.running().await;
    let qemu = vm.hypervisor.clone().unwrap();
    assert!(status(&vm.hypervisor).contains(&format!("PPid:\t{}\n", vm.supervisor.as_ref().unwrap().pid)));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", qemu.pid)).unwrap();
    assert!(line.contains(vm.id.as_str()), "{line}");
    let answer = test.host.client(&vm.id).unwrap().qmp("query-status", None).await.unwrap();
    assert_eq!(answer["status"], "running");
    // Of the supervisor it has its own ends of the two connections and of the pipe that ends it with the supervisor, and the
    // log, nothing else.
    let links = |pid: i32| -> BTreeSet<String> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let links = all.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    };
    let of_both = links(qemu.pid);
    let supervisors = links(vm.supervisor.as_ref().unwrap().pid);
    let shared: BTreeSet<_> = of_both.intersection(&supervisors).collect();
    let harmless = |link: &str| link == "/dev/null" || link.starts_with("anon_inode:");
    let (pipes, others): (Vec<_>, Vec<_>) = shared.into_iter().partition(|link| link.starts_with("pipe:"));
    assert_eq!(pipes.len(), 1, "{pipes:?}");
    assert!(others.iter().all(|link| harmless(link)), "{others:?}");
    for secret in ["vms.db", "locks/", "supervisor.log"] {
        assert!(!of_both.iter().any(|link| link.contains(secret)), "{secret} in {of_both:?}");
    }
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_survives_cli_exit() {
    let test = TestHost::new();
    // The command is killed when the VM runs.
    let vm = test.create();
    let mut starter =
        test.faulty(&["vm", "start", vm.id.as_str()], Point::CliStartReady, Action::Kill).spawn().unwrap();
    assert_eq!(starter.wait().unwrap().signal(), Some(9));
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    test.host.stop(&vm.id, &NOW).await.unwrap();
    // Its terminal is closed under it: `script` has the other end of a real one, and is killed.
    let command = format!(
        "{} --data-dir {} vm start {}; exec sleep 600",
        env!("CARGO_BIN_EXE_tci"),
        test.host.paths().data().display(),
        vm.id
    );
    let mut terminal = std::process::Command::new("script");
    test.hermetic(&mut terminal);
    let terminal = terminal.args(["-qec", &command, "/dev/null"]).stdout(std::process::Stdio::null());
    let mut terminal = terminal.spawn().unwrap();
    test.until("the start", || test.row(&vm).unwrap().state == VmState::Running).await;
    let running = test.row(&vm).unwrap();
    let is_there = |role| test.process(role).is_some();
    assert!(is_there(Role::Cli), "it waits for the guest, in the terminal");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    test.until("the end of the command with its terminal", || !is_there(Role::Cli)).await;
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    assert_eq!(test.row(&vm).unwrap(), running);
    // Neither did the keeper go: it will record a crash.
    assert!(is_there(Role::Keeper));
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_exits_when_qemu_dies() {
    let test = TestHost::new();
    let vm = test.create();
    for number in [Signal::KILL, Signal::VTALARM, Signal::TERM] {
        let vm = test.host.start(&vm.id).await.unwrap();
        signal(&vm.hypervisor, number);
        test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
        let row = test.row(&vm).unwrap();
        let end = row.end.unwrap();
        let expected = if number == Signal::TERM {
            // QEMU takes it as a wish and leaves in order.
            (EndReason::HypervisorDied, None, Some(0))
        } else {
            (EndReason::HypervisorDied, Some(number.as_raw()), None)
        };
        assert_eq!((row.state, (end.reason, end.signal, end.exit_code)), (VmState::Stopped, expected));
        assert!(!vm.socket.unwrap().exists());
    }
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
    let typed = serde_json::json!({"path": "/machine", "property": "no-such-property"});
    let refused = client.qmp("qom-get", Some(typed)).await.unwrap_err().to_string();
    assert!(refused.contains("GenericError") && refused.contains("no-such-property"), "{refused}");
    // A hypervisor that stands still holds up nobody but who asks it.
    signal(&vm.hypervisor, Signal::STOP);
    let mut asking = tokio::spawn({
        let client = client.clone();
        async move { client.qmp("query-status", None).await }
    });
    client.ping().await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(&mut asking).is_none());
    signal(&vm.hypervisor, Signal::CONT);
    assert_eq!(asking.await.unwrap().unwrap()["running"], true);
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_stop_via_ipc() {
    let test = TestHost::new();
    let vm = test.running().await;
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::Quit);
    assert!(is_dead(&vm.hypervisor) && is_dead(&vm.supervisor));
    let row = test.row(&vm).unwrap();
    assert_eq!(row.end.as_ref().unwrap().exit_code, Some(0));
    assert_eq!((row.supervisor, row.hypervisor, row.socket), (None, None, None));
    assert_eq!(row.end.unwrap().reason, EndReason::Requested);
    assert_eq!(test.history(&vm), ["created", "starting", "running", "stopping", "stopped"]);
}

#[tokio::test]
async fn test_ipc_socket_not_found() {
    let test = TestHost::new();
    let vm = test.running().await;
    let client = test.host.client(&vm.id).unwrap();
    let socket = vm.socket.clone().unwrap();
    // Stopped, so that it cannot put the socket back.
    signal(&vm.supervisor, Signal::STOP);
    fs::remove_file(&socket).unwrap();
    let failed = error(client.ping().await);
    assert!(matches!(&failed, VmError::Unreachable { socket: named, .. } if *named == socket), "{failed}");
    test.tell(&["vm", "qmp", vm.id.as_str(), "query-status"])
        .ends(3, &[socket.to_str().unwrap(), vm.id.as_str()]);
    test.tell(&["vm", "ls"]).ends(0, &["running"]);
    signal(&vm.supervisor, Signal::CONT);
    // It notices, and is reachable again under the same name.
    test.until("the socket's return", || socket.exists()).await;
    client.ping().await.unwrap();
    // With its whole directory gone and something foreign in its place, stopping goes by signal.
    signal(&vm.supervisor, Signal::STOP);
    fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    fs::create_dir(&socket).unwrap();
    signal(&vm.supervisor, Signal::CONT);
    test.host.stop(&vm.id, &NOW).await.unwrap();
    assert!(is_dead(&vm.hypervisor) && is_dead(&vm.supervisor));
    assert_eq!(reason(test.row(&vm)), EndReason::Requested, "it was asked, not killed");
    assert!(socket.is_dir(), "the foreign directory is not touched");
}

#[tokio::test]
async fn test_ping_command() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    test.tell(&["vm", "ping", vm.id.as_str()]).ends(0, &[]);
    test.host.stop(&vm.id, &NOW).await.unwrap();
    test.tell(&["vm", "ping", vm.id.as_str()]).ends(2, &["stopped"]);
}

#[tokio::test]
async fn test_cleanup_dead_processes_on_init() {
    let test = TestHost::new();
    let (lost, alive) = (test.running().await, test.running().await);
    // With the keeper gone nobody has recorded anything when the next command comes.
    for process in test.processes().iter().filter(|process| process.role == Role::Keeper) {
        process.kill();
    }
    kill(&lost.supervisor);
    test.until("the end of the VM", || is_dead(&lost.supervisor) && is_dead(&lost.hypervisor)).await;
    assert_eq!(test.row(&lost).unwrap().state, VmState::Running, "as it was written");
    let id = loss::stale_rows(&test, &alive);
    test.tell(&["vm", "ls"]).ends(0, &["stopped", "running"]);
    for row in test.rows() {
        if row.id == alive.id {
            assert_eq!((row.state, &row.supervisor), (VmState::Running, &alive.supervisor));
        } else {
            assert_eq!(row.state, VmState::Stopped, "{row:?}");
            let expected = if id.rebooted == row.id.as_str() {
                EndReason::HostRebooted
            } else {
                EndReason::SupervisorDied
            };
            assert_eq!(row.end.unwrap().reason, expected, "{}", row.id);
        }
    }
    assert!(!lost.socket.unwrap().exists());
    test.host.client(&alive.id).unwrap().ping().await.unwrap();
    test.sql("DELETE FROM vms WHERE name LIKE 'row-%'");
    test.host.stop(&alive.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_runner_detects_db_stop_command() {
    let test = TestHost::new();
    let vm = test.running().await;
    // The guest boots and cannot be asked yet, so the ladder's first step is skipped.
    assert_eq!(test.sql(&format!("UPDATE vms SET desired = 'stopped' WHERE id = '{}'", vm.id)), 1);
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    assert_eq!(reason(test.row(&vm)), EndReason::Requested);
}

#[tokio::test]
async fn test_runner_detects_vm_deleted() {
    let test = TestHost::new();
    let vm = test.running().await;
    assert_eq!(test.sql(&format!("DELETE FROM vms WHERE id = '{}'", vm.id)), 1);
    // The name is free at once, and its new bearer is none of the old one's business.
    let spec = terraphim_vm::VmSpec { name: Some(vm.name.clone()), ..TestHost::spec() };
    let heir = test.host.create(&spec).unwrap();
    let heir = test.host.start(&heir.id).await.unwrap();
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    let paths = test.host.paths();
    test.until("the end of its files", || !paths.vm(&vm.id).exists() && !paths.lock(&vm.id).exists()).await;
    test.host.client(&heir.id).unwrap().ping().await.unwrap();
    test.host.stop(&heir.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_start_already_running_vm() {
    let test = TestHost::new();
    let vm = test.create();
    // Eight processes at the same instant, half by name, half by id.
    let start =
        |name: &str| test.tci(&["vm", "start", name]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let starts: Vec<_> = (0..8).map(|n| start(if n % 2 == 0 { &vm.name } else { vm.id.as_str() })).collect();
    for said in starts.into_iter().map(finish) {
        said.ends(0, &[]);
    }
    let running = test.row(&vm).unwrap();
    assert_eq!(running.epoch, 1, "it was started once");
    assert_eq!(test.history(&vm), ["created", "starting", "running"]);
    let again = test.host.start(&vm.id).await.unwrap();
    assert_eq!((&again.supervisor, &again.hypervisor), (&running.supervisor, &running.hypervisor));
    // The supervisors that came too late have said so, and may not have ended yet.
    test.until("one keeper, one supervisor, one hypervisor", || test.processes().len() == 3).await;
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

#[tokio::test]
async fn test_start_with_stale_running_status() {
    let test = TestHost::new();
    let mut vm = test.running().await;
    for epoch in 2..7 {
        kill(&vm.supervisor);
        vm = test.host.start(&vm.id).await.unwrap();
        assert_eq!((vm.state, vm.epoch), (VmState::Running, epoch));
    }
    test.host.stop(&vm.id, &NOW).await.unwrap();
    let ends = test.history(&vm).iter().filter(|state| *state == "stopped").count();
    assert_eq!(ends, 6, "every start has its end");
}

#[tokio::test]
async fn test_stop_already_stopped_vm() {
    let test = TestHost::new();
    let vm = test.create();
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::NotRunning);
    assert_eq!(test.row(&vm).unwrap().state, VmState::Created);
    // Thirty-two stops of one running VM: one of them does it, all succeed.
    test.host.start(&vm.id).await.unwrap();
    let stops = join_all((0..32).map(|_| test.host.stop(&vm.id, &NOW))).await;
    assert!(stops.iter().all(Result::is_ok), "{stops:?}");
    assert_eq!(test.history(&vm), ["created", "starting", "running", "stopping", "stopped"]);
    test.sql("UPDATE vms SET state = 'failed'");
    test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(test.row(&vm).unwrap().state, VmState::Failed);
}

#[tokio::test]
async fn test_qmp_on_stopped_vm() {
    let test = TestHost::new();
    let vm = test.create();
    for state in ["created", "stopped", "failed"] {
        test.sql(&format!("UPDATE vms SET state = '{state}'"));
        let before = test.row(&vm).unwrap();
        let failed = error(test.host.client(&vm.id));
        assert!(
            matches!(&failed, VmError::WrongState { state: named, .. } if named.as_str() == state),
            "{failed}"
        );
        test.tell(&["vm", "qmp", vm.id.as_str(), "query-status"]).ends(2, &[state, "tci vm start"]);
        assert_eq!(test.row(&vm).unwrap(), before);
    }
    test.host.remove(&vm.id, false).await.unwrap();
    test.tell(&["vm", "qmp", vm.id.as_str(), "query-status"]).ends(2, &["there is no VM"]);
}

#[tokio::test]
async fn test_runner_crash_detection() {
    let test = TestHost::new();
    let vm = test.running().await;
    kill(&vm.supervisor);
    // Nobody does anything: the kernel ends the hypervisor, the keeper records the end. `row` only reads.
    test.until("the record of the end", || test.row(&vm).unwrap().state == VmState::Stopped).await;
    assert!(is_dead(&vm.supervisor) && is_dead(&vm.hypervisor));
    let end = test.row(&vm).unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::SupervisorDied);
    assert!(end.detail.contains("signal 9"), "{end:?}");
    assert!(!vm.socket.as_ref().unwrap().exists());
    assert_eq!(test.history(&vm), ["created", "starting", "running", "stopped"]);
}

#[tokio::test]
async fn test_socket_conflict_resolution() {
    let test = TestHost::new();
    let vm = test.create();
    let directory = test.host.paths().vm_runtime(&vm.id);
    fs::create_dir_all(&directory).unwrap();
    for level in directory.ancestors().take(3) {
        fs::set_permissions(level, PermissionsExt::from_mode(0o700)).unwrap();
    }
    let place = |epoch| test.host.paths().socket(&vm.id, epoch);
    // What dead supervisors leave is replaced: a socket on which nobody listens, and a file.
    drop(UnixListener::bind(place(1)).unwrap());
    fs::write(place(7), "left by a dead one").unwrap();
    let running = test.host.start(&vm.id).await.unwrap();
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    assert!(!place(7).exists());
    // A supervisor that lives is not replaced, wherever its socket is.
    let again = test.host.start(&vm.id).await.unwrap();
    assert_eq!(again.supervisor, running.supervisor);
    test.host.stop(&vm.id, &NOW).await.unwrap();
    // Anything else is somebody's: the start is refused and it stays as it is.
    let next = place(2);
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    fs::create_dir(&next).unwrap();
    refused(&test, &vm, "directory").await;
    assert!(next.is_dir());
    fs::remove_dir(&next).unwrap();
    let next = place(3);
    rustix::fs::mknodat(rustix::fs::CWD, &next, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    refused(&test, &vm, "named pipe").await;
    fs::remove_file(&next).unwrap();
    let next = place(4);
    std::os::unix::fs::symlink("/etc/passwd", &next).unwrap();
    refused(&test, &vm, "symbolic link").await;
    assert_eq!(fs::read_link(&next).unwrap(), Path::new("/etc/passwd"));
    fs::remove_file(&next).unwrap();
    let next = place(5);
    let foreign = UnixListener::bind(&next).unwrap();
    refused(&test, &vm, "another process listens").await;
    assert!(next.exists() && foreign.as_raw_fd() > 0);
    drop(foreign);
    let recovered = test.host.start(&vm.id).await.unwrap();
    assert_eq!(recovered.state, VmState::Running);
    test.host.stop(&vm.id, &NOW).await.unwrap();
    let _ = fs::remove_file(&next);
}

async fn refused(test: &TestHost, vm: &VmRecord, what: &str) {
    let failed = error(test.host.start(&vm.id).await).to_string();
    assert!(failed.contains(what) && failed.contains("control-"), "{failed}");
    let row = test.row(vm).unwrap();
    assert_eq!((row.state, row.end.unwrap().reason), (VmState::Failed, EndReason::StartFailed));
    test.until("the end of the supervisor", || test.processes().is_empty()).await;
}

#[tokio::test]
async fn test_start_multiple_vms() {
    let test = TestHost::new();
    let vms: Vec<_> = (0..10).map(|_| test.create()).collect();
    let started = join_all(vms.iter().map(|vm| test.host.start(&vm.id))).await;
    let started: Vec<VmRecord> = started.into_iter().map(Result::unwrap).collect();
    let distinct = |of: &dyn Fn(&VmRecord) -> String| started.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&|vm| vm.supervisor.as_ref().unwrap().pid.to_string()), 10);
    assert_eq!(distinct(&|vm| vm.hypervisor.as_ref().unwrap().pid.to_string()), 10);
    assert_eq!(distinct(&|vm| vm.socket.as_ref().unwrap().display().to_string()), 10);
    assert!(started.iter().all(|vm| vm.state == VmState::Running));
    let stops = join_all(started.iter().map(|vm| test.host.stop(&vm.id, &NOW))).await;
    assert!(stops.iter().all(Result::is_ok), "{stops:?}");
}

#[tokio::test]
async fn test_stop_one_vm_doesnt_affect_others() {
    let test = TestHost::new();
    let other = test.running().await;
    let client = test.host.client(&other.id).unwrap();
    for end in ["stop", "remove", "kill", "delete", "forge"] {
        let one = test.running().await;
        match end {
            "stop" => drop(test.host.stop(&one.id, &NOW).await.unwrap()),
            "remove" => test.host.remove(&one.id, true).await.unwrap(),
            "kill" => kill(&one.supervisor),
            "delete" => drop(test.sql(&format!("DELETE FROM vms WHERE id = '{}'", one.id))),
            _ => loss::forge(&test, &one, &other).await,
        }
        test.until("its end", || is_dead(&one.supervisor) && is_dead(&one.hypervisor)).await;
        assert_eq!(client.qmp("query-status", None).await.unwrap()["status"], "running", "after {end}");
        assert_eq!(test.row(&other).unwrap(), other, "after {end}");
        client.ping().await.unwrap();
    }
    test.host.remove(&other.id, true).await.unwrap();
    assert!(test.row(&other).is_none());
}

#[test]
fn test_rapid_start_stop_cycles() {
    cycles::alone("cycles::a_hundred_cycles_leave_nothing");
}
