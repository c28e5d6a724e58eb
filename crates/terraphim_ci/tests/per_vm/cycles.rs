//! Starts and stops in quick succession, counted exactly.
//!
//! What a process has open can be compared only where nothing else happens at the same time: the test runs itself again, as
//! the only test of a process.

use std::{collections::BTreeMap, fs, process::Command};

use futures_util::future::join_all;
use rusqlite::Connection;
use terraphim_vm::VmRecord;

use crate::{
    audit,
    host::{LIMIT, NOW, TestHost},
    processes::Process,
};

/// Runs one ignored test of this binary in a process of its own.
pub(crate) fn alone(test: &str) {
    let itself = std::env::current_exe().unwrap();
    let output = Command::new(itself).args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "there is no such test: {said}");
}

/// What a guest's kernel writes to its console in one start at most: some hundred bytes when it boots to its end, nothing when
/// it is stopped before.
const CONSOLE_BYTES_EACH: u64 = 256;

/// Everything that a cycle could leave.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    descriptors: Vec<String>,
    processes: Vec<Process>,
    inventory: audit::Inventory,
    disk_blocks: BTreeMap<String, u64>,
}

impl Count {
    fn take(test: &TestHost) -> Count {
        test.wait_until("the end of all processes", || test.processes().is_empty());
        // The log of the database is emptied when the last to close it wrote; here somebody may have read later.
        let registry = Connection::open(test.host.paths().registry()).unwrap();
        registry.busy_timeout(LIMIT).unwrap();
        registry.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(registry);
        let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .map(|link| link.split(':').next().unwrap_or_default().to_owned())
            .collect();
        descriptors.sort();
        let mut disk_blocks = audit::blocks(test.path());
        // The log of the console is kept over starts, and how far guests come is chance: see `console_bytes`.
        disk_blocks.retain(|path, _| !path.ends_with("console.log"));
        Count {
            descriptors,
            processes: test.processes(),
            inventory: audit::Inventory::take(test.path()),
            disk_blocks,
        }
    }
}

/// What all consoles hold.
fn console_bytes(test: &TestHost) -> u64 {
    let logs = test.rows().into_iter().map(|vm| test.host.paths().vm(&vm.id).join("console.log"));
    logs.map(|log| fs::metadata(log).unwrap().len()).sum()
}

/// Everything is as it was before so many starts.
fn is_as_before(test: &TestHost, before: &Count, console_before: u64, starts: u64) {
    assert_eq!(&Count::take(test), before, "(second: before)");
    let grown = console_bytes(test) - console_before;
    assert!(grown <= starts * CONSOLE_BYTES_EACH, "{starts} starts wrote {grown} bytes to consoles");
}

async fn cycle(test: &TestHost, vm: &VmRecord, times: usize) {
    for _ in 0..times {
        test.host.start(&vm.id).await.unwrap();
        test.host.stop(&vm.id, &NOW).await.unwrap();
    }
}

/// The history is bounded: filled to its bound before anything is counted, it grows no further.
fn fill_history(test: &TestHost, vm: &VmRecord) {
    test.sql(&format!(
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 11000)
         INSERT INTO events (vm_id, at_ms, epoch, state, end)
         SELECT '{}', 1700000000000, 1, 'stopped', '{{\"reason\":\"requested\",\"exit_code\":0,\"detail\":\"stopped by quit\"}}'
         FROM n",
        vm.id
    ));
}

async fn leave_nothing(cycles: usize) {
    let test = TestHost::new();
    let vm = test.create();
    fill_history(&test, &vm);
    cycle(&test, &vm, 5).await;
    let (before, console) = (Count::take(&test), console_bytes(&test));
    cycle(&test, &vm, cycles).await;
    is_as_before(&test, &before, console, cycles as u64);
}

#[tokio::test]
#[ignore = "run by test_rapid_start_stop_cycles, in a process of its own"]
async fn a_hundred_cycles_leave_nothing() {
    leave_nothing(100).await;
}

#[tokio::test]
#[ignore = "run by soak_two_hundred_cycles, in a process of its own"]
async fn two_hundred_cycles_leave_nothing() {
    leave_nothing(200).await;
}

#[tokio::test]
#[ignore = "run by soak_cycles_of_ten_vms_at_once, in a process of its own"]
async fn ten_vms_at_once_leave_nothing() {
    let test = TestHost::new();
    let vms: Vec<VmRecord> = (0..10).map(|_| test.create()).collect();
    fill_history(&test, &vms[0]);
    join_all(vms.iter().map(|vm| cycle(&test, vm, 1))).await;
    let (before, console) = (Count::take(&test), console_bytes(&test));
    join_all(vms.iter().map(|vm| cycle(&test, vm, 20))).await;
    is_as_before(&test, &before, console, 10 * 20);
}

#[test]
#[ignore = "soak: 200 cycles"]
fn soak_two_hundred_cycles() {
    alone("cycles::two_hundred_cycles_leave_nothing");
}

#[test]
#[ignore = "soak: 200 cycles of ten VMs"]
fn soak_cycles_of_ten_vms_at_once() {
    alone("cycles::ten_vms_at_once_leave_nothing");
}
