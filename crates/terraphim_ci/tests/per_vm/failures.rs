//! Starts that fail say why and stay failed; starts that nobody wants any more are abandoned.
//!
//! Where QEMU itself has to misbehave, a script stands in its place: the real one cannot be made to.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use terraphim_vm::{EndReason, StopStep, VmRecord, VmState};

use crate::{
    host::{TestHost, finish},
    is_dead,
    processes::Role,
    signal,
};

/// `tci` that finds this script as QEMU, or none when there is no script.
fn with_qemu(test: &TestHost, script: Option<&str>, args: &[&str]) -> Command {
    let directory = test.path().join("home/bin");
    fs::create_dir_all(&directory).unwrap();
    // A hypervisor that root starts runs as somebody else, who has to get there.
    for level in directory.ancestors().take_while(|level| level.starts_with(test.path())) {
        fs::set_permissions(level, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = directory.join("qemu-system-x86_64");
    let mut path = directory.into_os_string();
    let mut command = test.tci(args);
    if let Some(script) = script {
        fs::write(&program, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
    }
    command.env("PATH", path).env("TCI_ACCEL", "tcg");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The row is `failed`, says why, and goes on saying so.
fn assert_failed(test: &TestHost, vm: &VmRecord, why: &str) {
    test.wait_until("the end of its processes", || test.processes().is_empty());
    test.tell(&["vm", "ls"]).ends(0, &["failed"]);
    let row = test.row(vm).unwrap();
    let end = row.end.unwrap();
    assert_eq!((row.state, end.reason), (VmState::Failed, EndReason::StartFailed));
    assert!(end.detail.contains(why), "{end:?}");
}

#[test]
fn a_start_that_fails_says_why() {
    let test = TestHost::new();
    let vm = test.create();
    let id = vm.id.as_str();
    let start = |script| finish(with_qemu(&test, script, &["vm", "start", id]).spawn().unwrap());
    start(None).ends(3, &["cannot run qemu-system-x86_64", "apt install"]);
    assert_failed(&test, &vm, "qemu-system-x86_64");
    start(Some("exit 0")).ends(3, &["said nothing", "exit status: 0"]);
    assert_failed(&test, &vm, "said nothing");
    start(Some("echo 'no such machine' >&2; exit 1")).ends(3, &["no such machine"]);
    assert_failed(&test, &vm, "no such machine");
    start(Some("kill -KILL $$")).ends(3, &["signal: 9"]);
    assert_failed(&test, &vm, "signal: 9");
    fs::remove_dir_all(test.path().join("home/bin")).unwrap();
}

#[test]
fn a_start_that_the_real_qemu_refuses_says_why() {
    let test = TestHost::new();
    let vm = test.create();
    let start = || test.tell(&["vm", "start", vm.id.as_str()]);
    test.sql("UPDATE vms SET spec = json_set(spec, '$.image', 'gone')");
    start().ends(3, &["gone"]);
    assert_failed(&test, &vm, "gone");
    test.sql("UPDATE vms SET spec = json_set(spec, '$.image', 'busybox', '$.memory_mib', 4294967295)");
    start().ends(3, &["memory"]);
    assert_failed(&test, &vm, "memory");
    test.sql("UPDATE vms SET spec = json_set(spec, '$.memory_mib', 128)");
    let disk = test.host.paths().vm(&vm.id).join("scratch.qcow2");
    fs::write(&disk, "no disk at all").unwrap();
    start().ends(3, &["qcow2"]);
    assert_failed(&test, &vm, "qcow2");
    fs::remove_file(&disk).unwrap();
    fs::create_dir(&disk).unwrap();
    start().ends(3, &["scratch.qcow2"]);
    assert_failed(&test, &vm, "scratch.qcow2");
    fs::remove_dir(&disk).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test.host.start(&vm.id)).unwrap();
}

/// Never says a word, and is known by its arguments as QEMU is.
const HANGS: &str = "exec -a \"qemu-system-x86_64 $*\" sleep 600";

/// A VM whose hypervisor was spawned and does not answer.
fn hanging(test: &TestHost) -> (VmRecord, Child) {
    let vm = test.create();
    let starter = with_qemu(test, Some(HANGS), &["vm", "start", vm.id.as_str()]).spawn().unwrap();
    test.wait_until("the hypervisor", || test.row(&vm).is_some_and(|row| row.hypervisor.is_some()));
    (test.row(&vm).unwrap(), starter)
}

#[test]
fn a_stop_during_the_start_abandons_it() {
    let test = TestHost::new();
    let (vm, starter) = hanging(&test);
    assert_eq!(vm.state, VmState::Starting);
    // Without force a VM that starts is not removed, like one that runs.
    test.tell(&["vm", "rm", vm.id.as_str()]).ends(2, &["starting"]);
    // A second start waits for the first, and its fate is the first's: it begins anew.
    test.tell(&["vm", "stop", vm.id.as_str()]).ends(0, &[]);
    finish(starter).ends(3, &["it was stopped while it started"]);
    test.wait_until("the end of its processes", || test.processes().is_empty());
    let row = test.row(&vm).unwrap();
    assert_eq!((row.state, row.end.unwrap().reason), (VmState::Stopped, EndReason::Requested));
    assert_eq!(test.history(&vm), ["created", "starting", "stopping", "stopped"]);
    fs::remove_dir_all(test.path().join("home/bin")).unwrap();
}

#[test]
fn a_removal_a_signal_and_a_deletion_during_the_start_end_it() {
    let test = TestHost::new();
    let (vm, starter) = hanging(&test);
    test.tell(&["vm", "rm", "--force", vm.id.as_str()]).ends(0, &[]);
    finish(starter).ends(3, &["it was stopped while it started"]);
    assert!(test.row(&vm).is_none());
    let (vm, starter) = hanging(&test);
    signal(&vm.supervisor, Signal::TERM);
    finish(starter).ends(3, &["it was stopped while it started"]);
    assert_eq!(test.row(&vm).unwrap().state, VmState::Stopped);
    let (vm, starter) = hanging(&test);
    test.sql(&format!("DELETE FROM vms WHERE id = '{}'", vm.id));
    finish(starter).ends(3, &["it was stopped while it started"]);
    test.wait_until("the end of its files", || !test.host.paths().vm(&vm.id).exists());
    // The hypervisor is killed while the supervisor waits for its first word.
    let (vm, starter) = hanging(&test);
    signal(&vm.hypervisor, Signal::KILL);
    finish(starter).ends(3, &["signal: 9"]);
    assert_failed(&test, &vm, "signal: 9");
    fs::remove_dir_all(test.path().join("home/bin")).unwrap();
}

#[tokio::test]
async fn a_start_during_the_stop_waits_for_it_and_starts_anew() {
    let test = TestHost::new();
    let vm = test.running().await;
    // The stop takes the two seconds that a hypervisor has to quit.
    signal(&vm.hypervisor, Signal::STOP);
    let stop = tokio::spawn({
        let (host, id) = (test.host.clone(), vm.id.clone());
        async move { host.stop(&id, &crate::host::NOW).await }
    });
    test.until("the stop", || test.row(&vm).unwrap().state == VmState::Stopping).await;
    let again = test.host.start(&vm.id).await.unwrap();
    assert_eq!((again.state, again.epoch), (VmState::Running, 2));
    stop.await.unwrap().unwrap();
    let states = ["created", "starting", "running", "stopping", "stopped", "starting", "running"];
    assert_eq!(test.history(&vm), states);
    test.host.stop(&vm.id, &crate::host::NOW).await.unwrap();
}

/// Both wait ten seconds for a sign of life, so they do at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_hangs_is_told_of_and_can_be_stopped_with_its_hypervisor() {
    let test = TestHost::new();
    let (vm, silent) = (test.running().await, test.running().await);
    for process in [&vm.supervisor, &silent.hypervisor, &silent.supervisor] {
        signal(process, Signal::STOP);
    }
    let stop = tokio::spawn({
        let (host, id) = (test.host.clone(), silent.id.clone());
        async move { host.stop(&id, &crate::host::NOW).await }
    });
    let id = vm.id.as_str();
    let hint = format!("tci vm stop {id}");
    test.tell(&["vm", "ping", id]).ends(3, &[id, "has not answered for 10 s", &hint]);
    test.tell(&["vm", "ls"]).ends(0, &["running"]);
    signal(&vm.supervisor, Signal::CONT);
    test.tell(&["vm", "ping", id]).ends(0, &[]);
    test.host.stop(&vm.id, &crate::host::NOW).await.unwrap();

    assert_eq!(stop.await.unwrap().unwrap().step, StopStep::Kill);
    assert!(is_dead(&silent.hypervisor) && is_dead(&silent.supervisor));
    assert_eq!(test.row(&silent).unwrap().state, VmState::Stopped);
}

#[tokio::test]
#[ignore = "soak: waits three times for a sign of life"]
async fn soak_a_supervisor_that_hangs_is_told_of_by_every_call_and_can_be_ended() {
    let test = TestHost::new();
    let vm = test.running().await;
    signal(&vm.supervisor, Signal::STOP);
    let id = vm.id.as_str();
    for call in [&["vm", "status", id][..], &["vm", "exec", id, "--", "true"]] {
        test.tell(call).ends(3, &[id, "has not answered for 20 s"]);
    }
    test.host.stop(&vm.id, &crate::host::NOW).await.unwrap();
    test.wait_until("the end of its processes", || test.processes().is_empty());
}

#[test]
fn a_stop_during_an_execution_ends_it_as_lost() {
    let test = TestHost::new();
    let vm = test.create();
    test.tell(&["vm", "start", vm.id.as_str()]).ends(0, &[]);
    let mut exec = test.tci(&["vm", "exec", vm.id.as_str(), "--", "sh", "-c", "echo ready; sleep 600"]);
    let exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = || {
        let all = test.host.executions(&vm.id).unwrap();
        let outputs = all.iter().map(|exec| fs::read(test.host.paths().exec_output(&vm.id, &exec.id)));
        outputs.flatten().any(|it| it.windows(5).any(|w| w == b"ready"))
    };
    test.wait_until("its first output", said);
    test.tell(&["vm", "stop", "--grace", "0", vm.id.as_str()]).ends(0, &[]);
    finish(exec).ends(3, &["ready", "the VM was stopped"]);
    assert!(test.process(Role::Cli).is_none());
}

#[test]
#[ignore = "soak: a supervisor gives its hypervisor half a minute for its first word"]
fn soak_a_hypervisor_that_never_answers_is_given_up() {
    let test = TestHost::new();
    let (vm, starter) = hanging(&test);
    finish(starter).ends(3, &["did not answer"]);
    assert_failed(&test, &vm, "did not answer");
    fs::remove_dir_all(test.path().join("home/bin")).unwrap();
}
