//! Who is taken for dead, and who is not: reused pids, other VMs' processes, earlier boots, zombies.

use std::{fs, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use terraphim_vm::{EndReason, ProcessId, StopOptions, StopStep, VmRecord, VmState};

use crate::{
    host::{NOW, TestHost},
    is_dead, kill,
    processes::Role,
    reason, signal,
};

pub(crate) struct Stale {
    /// The row of an earlier boot.
    pub(crate) rebooted: String,
}

/// A hundred rows that say they run, and do not. In some the pid lives and is a stranger's, or another VM's supervisor; one
/// is of an earlier boot; one cannot be read at all and is gone when this test's host ends.
pub(crate) fn stale_rows(test: &TestHost, alive: &VmRecord) -> Stale {
    let me = ProcessId::current().unwrap();
    let supervisor = alive.supervisor.as_ref().unwrap();
    // No pid is as large (proc(5), `pid_max`).
    let nobody = ProcessId { pid: 1 << 22, ..me.clone() };
    let rebooted =
        ProcessId { boot_id: "00000000-0000-0000-0000-000000000000".to_owned(), ..supervisor.clone() };
    for n in 0..100 {
        let process = match n {
            0 => &me,
            1 => supervisor,
            2 => &rebooted,
            _ => &nobody,
        };
        insert_running(test, alive, &format!("{n:012x}"), process);
    }
    insert_running(test, alive, "bad000000bad", &nobody);
    test.sql("UPDATE vms SET spec = 'not JSON' WHERE id = 'bad000000bad'");
    test.tell(&["vm", "inspect", "bad000000bad"]).ends(3, &["damaged (spec)", "DELETE FROM vms"]);
    test.sql("DELETE FROM vms WHERE id = 'bad000000bad'");
    Stale { rebooted: format!("{:012x}", 2) }
}

fn insert_running(test: &TestHost, like: &VmRecord, id: &str, process: &ProcessId) {
    let ProcessId { pid, start_time, boot_id } = process;
    let inserted = test.sql(&format!(
        "INSERT INTO vms (id, name, spec, state, epoch, runner_pid, runner_start, boot_id, created_at_ms, updated_at_ms)
         SELECT '{id}', 'row-{id}', spec, 'running', 1, {pid}, {start_time}, '{boot_id}', 0, 0
         FROM vms WHERE id = '{}'",
        like.id
    ));
    assert_eq!(inserted, 1);
}

/// The row of `one` names the processes of `other`, and is then stopped.
pub(crate) async fn forge(test: &TestHost, one: &VmRecord, other: &VmRecord) {
    let (supervisor, qemu) = (other.supervisor.as_ref().unwrap(), other.hypervisor.as_ref().unwrap());
    let forged = test.sql(&format!(
        "UPDATE vms SET runner_pid = {}, runner_start = {}, qemu_pid = {}, qemu_start = {} WHERE id = '{}'",
        supervisor.pid, supervisor.start_time, qemu.pid, qemu.start_time, one.id
    ));
    assert_eq!(forged, 1);
    test.host.stop(&one.id, &NOW).await.unwrap();
    test.host.remove(&one.id, true).await.unwrap();
}

#[tokio::test]
async fn a_reused_pid_is_not_mistaken_for_the_supervisor() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.process(Role::Keeper).unwrap().kill();
    kill(&vm.supervisor);
    test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
    // The row now names this test's own process, start time included.
    let me = ProcessId::current().unwrap();
    test.sql(&format!("UPDATE vms SET runner_pid = {}, runner_start = {}", me.pid, me.start_time));
    test.host.reconcile().unwrap();
    assert_eq!(test.row(&vm).unwrap().state, VmState::Stopped);
    let again = test.host.start(&vm.id).await.unwrap();
    test.host.stop(&again.id, &NOW).await.unwrap();
}

/// A process that dies loses its arguments before its files: for a moment nothing tells that it is a supervisor but its lock.
#[tokio::test]
async fn a_lock_that_goes_with_a_dying_supervisor_is_waited_for() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.process(Role::Keeper).unwrap().kill();
    kill(&vm.supervisor);
    test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
    let lock = test.host.paths().lock(&vm.id);
    let mut dying = Command::new("flock").arg(&lock).args(["sleep", "1"]).spawn().unwrap();
    let holds =
        || Command::new("flock").arg("--nonblock").arg(&lock).arg("true").status().unwrap().code() == Some(1);
    test.until("the lock being taken", holds).await;
    let itself = ProcessId::of(i32::try_from(dying.id()).unwrap()).unwrap();
    test.sql(&format!("UPDATE vms SET runner_pid = {}, runner_start = {}", itself.pid, itself.start_time));
    test.host.reconcile().unwrap();
    assert_eq!(test.row(&vm).unwrap().state, VmState::Stopped);
    assert!(dying.wait().unwrap().success());
}

#[tokio::test]
async fn a_hypervisor_that_hears_nothing_is_killed_by_the_ladder() {
    let test = TestHost::new();
    let vm = test.running().await;
    signal(&vm.hypervisor, Signal::STOP);
    let report = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(report.step, StopStep::Kill);
    let end = test.row(&vm).unwrap().end.unwrap();
    assert_eq!((end.reason, end.signal), (EndReason::Requested, Some(9)));
    assert_eq!(end.detail, "stopped by kill");
}

#[tokio::test]
async fn the_guest_is_asked_first_and_a_second_stop_may_hurry() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.host.client(&vm.id).unwrap().wait_agent().await.unwrap();
    let report = test.host.stop(&vm.id, &StopOptions { grace: crate::host::LIMIT }).await.unwrap();
    assert_eq!(report.step, StopStep::Guest);
    // A hypervisor that stands still never lets its guest shut down; who comes later has less patience.
    let vm = test.host.start(&vm.id).await.unwrap();
    test.host.client(&vm.id).unwrap().wait_agent().await.unwrap();
    signal(&vm.hypervisor, Signal::STOP);
    let patient = tokio::spawn({
        let (host, id) = (test.host.clone(), vm.id.clone());
        async move { host.stop(&id, &StopOptions { grace: crate::host::LIMIT }).await }
    });
    test.until("the first stop", || test.row(&vm).unwrap().state == VmState::Stopping).await;
    let hurried = test.host.stop(&vm.id, &NOW).await.unwrap();
    assert_eq!(hurried.step, StopStep::Kill);
    assert_eq!(patient.await.unwrap().unwrap().step, StopStep::Kill);
}

#[tokio::test]
async fn a_vm_ends_with_the_process_it_was_started_for() {
    let test = TestHost::new();
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let id = ProcessId::of(owner.id().cast_signed()).unwrap();
    let vm = test.host.create_owned(&TestHost::spec(), &id).unwrap();
    let never_started = test.host.create_owned(&TestHost::spec(), &id).unwrap();
    let lost = test.host.create_owned(&TestHost::spec(), &id).unwrap();
    let vm = test.host.start_owned(&vm.id, &id).await.unwrap();
    let lost = test.host.start_owned(&lost.id, &id).await.unwrap();
    // With its supervisor it goes as well: it is of no use to anybody else.
    kill(&lost.supervisor);
    test.until("the removal of the lost one", || test.row(&lost).is_none()).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    test.until("the end of both processes", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    test.until("the removal", || test.row(&vm).is_none() && !test.host.paths().vm(&vm.id).exists()).await;
    // Nobody watches over one that was not started: the next command does.
    assert!(test.row(&never_started).is_some());
    test.tell(&["vm", "ls"]).ends(0, &[]);
    assert!(test.rows().is_empty());
}

#[tokio::test]
async fn a_keeper_that_is_killed_harms_nothing() {
    let test = TestHost::new();
    let vm = test.running().await;
    test.process(Role::Keeper).unwrap().kill();
    test.until("its end", || test.process(Role::Keeper).is_none()).await;
    test.host.client(&vm.id).unwrap().ping().await.unwrap();
    kill(&vm.supervisor);
    test.until("the end of the hypervisor", || is_dead(&vm.hypervisor)).await;
    assert_eq!(test.row(&vm).unwrap().effective_state(), VmState::Stopped);
    // Reading says what is true; it is also written by then.
    test.tell(&["vm", "ls"]).ends(0, &["stopped"]);
    assert_eq!(reason(test.row(&vm)), EndReason::SupervisorDied);
}

/// In a PID namespace whose first process never waits for anybody: everybody who dies there without a parent stays a
/// zombie. Making one takes root.
#[test]
fn zombies_are_dead_where_pid_1_does_not_reap() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a PID namespace of its own takes root");
        return;
    }
    let test = TestHost::new();
    let vm = test.create();
    let mut init = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "sleep", "600"])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", init.id());
    let first = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    let is_asleep =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim() == "sleep");
    test.wait_until("the namespace", || is_asleep(&first()));
    let first = first();
    let inside = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        test.hermetic(&mut command);
        command.args(["--target", &first, "--pid", "--mount", env!("CARGO_BIN_EXE_tci"), "--data-dir"]);
        command.arg(test.host.paths().data()).args(args);
        crate::host::Said::of(&command.output().unwrap())
    };
    inside(&["vm", "start", vm.id.as_str()]).ends(0, &[]);
    for role in [Role::Keeper, Role::Supervisor] {
        test.process(role).unwrap().kill();
    }
    test.wait_until("the end of the VM", || test.process(Role::Qemu).is_none());
    inside(&["vm", "ls"]).ends(0, &["stopped"]);
    assert_eq!(reason(test.row(&vm)), EndReason::SupervisorDied);
    inside(&["vm", "start", vm.id.as_str()]).ends(0, &[]);
    inside(&["vm", "rm", "--force", vm.id.as_str()]).ends(0, &[]);
    test.wait_until("the end of its processes", || {
        test.processes().iter().all(|it| it.line.contains("nsenter"))
    });
    kill_process(Pid::from_raw(first.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    init.wait().unwrap();
}
