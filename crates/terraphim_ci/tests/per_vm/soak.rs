//! What takes minutes: `make soak`.

use std::{collections::BTreeSet, process::Command};

use futures_util::future::join_all;
use terraphim_vm::{VmRecord, VmState};

use crate::{
    host::{NOW, TestHost},
    is_dead, kill,
    processes::Role,
};

/// Keeps one core busy.
struct Busy(std::process::Child);

impl Busy {
    fn new() -> Busy {
        Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }

    fn every_core() -> Vec<Busy> {
        let cores = std::thread::available_parallelism().unwrap().get();
        (0..cores).map(|_| Busy::new()).collect()
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
    let _busy = Busy::every_core();
    for boot in 1..=20 {
        let vm = test.running().await;
        let agent = test.host.client(&vm.id).unwrap().wait_agent().await;
        assert!(agent.is_ok(), "boot {boot} of 20: {agent:?}");
        test.host.remove(&vm.id, true).await.unwrap();
    }
}

/// P13: a start right after a kill never fails, whatever else the machine does.
#[tokio::test]
#[ignore = "soak: a hundred kills"]
async fn soak_a_hundred_kills_and_starts_while_every_core_is_busy() {
    let test = TestHost::new();
    let _busy = Busy::every_core();
    let mut vm = test.running().await;
    for epoch in 2..=101 {
        kill(&vm.supervisor);
        vm = test.host.start(&vm.id).await.unwrap();
        assert_eq!((vm.state, vm.epoch), (VmState::Running, epoch));
        assert_eq!(test.processes().iter().filter(|it| it.role == Role::Qemu).count(), 1);
    }
    test.host.stop(&vm.id, &NOW).await.unwrap();
}

/// P4: a hundred hypervisors killed, a hundred ends recorded.
#[tokio::test]
#[ignore = "soak: a hundred kills"]
async fn soak_a_hundred_killed_hypervisors() {
    let test = TestHost::new();
    let vm = test.create();
    for _ in 0..100 {
        let vm = test.host.start(&vm.id).await.unwrap();
        kill(&vm.hypervisor);
        test.until("the supervisor's end", || is_dead(&vm.supervisor)).await;
        let row = test.row(&vm).unwrap();
        assert_eq!((row.state, row.end.unwrap().signal), (VmState::Stopped, Some(9)));
    }
}

/// P9: a thousand stale rows are repaired by one command.
#[tokio::test]
#[ignore = "soak: a thousand rows"]
async fn soak_a_thousand_stale_rows() {
    let test = TestHost::new();
    let vm = test.create();
    test.sql(&format!(
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000)
         INSERT INTO vms (id, name, spec, state, epoch, runner_pid, runner_start, boot_id, created_at_ms, updated_at_ms)
         SELECT printf('%012x', x), 'row-' || x, spec, 'running', 1, 4194304, 1, 'another', 0, 0
         FROM n, vms WHERE id = '{}'",
        vm.id
    ));
    test.tell(&["vm", "ls"]).ends(0, &["stopped"]);
    assert_eq!(test.rows().iter().filter(|row| row.state == VmState::Stopped).count(), 1000);
    // Removed as an operator would: a thousand removals take longer than what is tested here.
    test.sql("DELETE FROM vms");
    test.tell(&["vm", "ls"]).ends(0, &[]);
}

/// P10: fifty VMs are asked to stop through the database at once.
#[tokio::test]
#[ignore = "soak: fifty VMs"]
async fn soak_fifty_vms_stop_by_the_database() {
    let test = TestHost::new();
    let mut vms = Vec::new();
    for _ in 0..5 {
        let ten: Vec<VmRecord> = (0..10).map(|_| test.create()).collect();
        let started = join_all(ten.iter().map(|vm| test.host.start(&vm.id))).await;
        vms.extend(started.into_iter().map(Result::unwrap));
    }
    assert_eq!(test.sql("UPDATE vms SET desired = 'stopped'"), 50);
    test.until("the end of all", || vms.iter().all(|vm| is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)))
        .await;
    assert!(test.rows().iter().all(|row| row.state == VmState::Stopped));
}

/// P10: a writer that keeps the database locked delays the wish, and no more.
#[tokio::test]
#[ignore = "soak: thirty seconds of a locked database"]
async fn soak_a_wish_behind_a_long_lock_is_heard() {
    let test = TestHost::new();
    let vm = test.running().await;
    let mut writer = rusqlite::Connection::open(test.host.paths().registry()).unwrap();
    let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    transaction.execute("UPDATE vms SET desired = 'stopped'", []).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(!is_dead(&vm.supervisor), "it is not committed");
    transaction.commit().unwrap();
    test.until("the end", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
}

/// P12 and P17: many supervisors race for one VM, again and again; one wins and stays whole.
#[tokio::test]
#[ignore = "soak: a hundred races"]
async fn soak_a_hundred_races_of_thirty_two_starts() {
    let test = TestHost::new();
    let vm = test.create();
    for _ in 0..100 {
        let rows = join_all((0..32).map(|_| test.host.start(&vm.id))).await;
        let pids: BTreeSet<i32> = rows.into_iter().map(|row| row.unwrap().hypervisor.unwrap().pid).collect();
        assert_eq!(pids.len(), 1);
        test.host.client(&vm.id).unwrap().ping().await.unwrap();
        assert_eq!(test.processes().iter().filter(|it| it.role == Role::Qemu).count(), 1);
        test.host.stop(&vm.id, &NOW).await.unwrap();
    }
}

/// P18: ten at a time start and end while others list, define, remove and clear up without pause.
#[tokio::test]
#[ignore = "soak: two hundred starts among other commands"]
async fn soak_starts_among_other_commands() {
    let test = TestHost::new();
    let others = async {
        loop {
            let vm = test.create();
            test.host.reconcile().unwrap();
            test.host.list().unwrap();
            test.host.remove(&vm.id, false).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let rounds = async {
        for _ in 0..20 {
            let vms: Vec<VmRecord> = (0..10).map(|_| test.create()).collect();
            let started = join_all(vms.iter().map(|vm| test.host.start(&vm.id))).await;
            for vm in started {
                let vm = vm.unwrap();
                assert!(!is_dead(&vm.hypervisor));
            }
            let removed = join_all(vms.iter().map(|vm| test.host.remove(&vm.id, true))).await;
            assert!(removed.iter().all(Result::is_ok), "{removed:?}");
        }
    };
    tokio::select! {
        () = rounds => {}
        () = others => {}
    }
}
