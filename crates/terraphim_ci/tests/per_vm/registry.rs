//! The registry under bad conditions: damage, a full disk, many first commands at once.

use std::{fs, process::Command, process::Stdio};

use rusqlite::Connection;
use terraphim_vm::VmState;

use crate::{
    host::{NOW, TestHost, finish},
    is_dead, kill,
};

#[tokio::test]
async fn a_damaged_registry_is_refused_kept_and_costs_no_vm() {
    let test = TestHost::new();
    let vm = test.running().await;
    let client = test.host.client(&vm.id).unwrap();
    let registry = test.host.paths().registry();
    let log = registry.with_extension("db-wal");
    // Readers and the supervisor have it open; the damage is made in place, and again as another file.
    let (good, good_log) = (fs::read(&registry).unwrap(), fs::read(&log).unwrap_or_default());
    let damage = vec![b'x'; good.len().max(8192)];
    let _ = fs::remove_file(&log);
    fs::write(&registry, &damage).unwrap();
    for args in [&["vm", "ls"][..], &["vm", "stop", vm.id.as_str()], &["vm", "create", "--image", "busybox"]]
    {
        test.tell(args).ends(3, &["cannot use the VM registry"]);
    }
    assert!(fs::read(&registry).unwrap() == damage, "not a byte is changed");
    // A look at the registry is over when a call that came after it is answered.
    client.ping().await.unwrap();
    assert!(!is_dead(&vm.supervisor) && !is_dead(&vm.hypervisor), "the VM runs on");
    assert_eq!(client.qmp("query-status", None).await.unwrap()["status"], "running");
    let moved = registry.with_extension("db.moved");
    fs::rename(&registry, &moved).unwrap();
    test.tell(&["vm", "ls"]).ends(0, &[]);
    client.ping().await.unwrap();
    fs::remove_file(&moved).unwrap();
    fs::write(&registry, &good).unwrap();
    if !good_log.is_empty() {
        fs::write(&log, &good_log).unwrap();
    }
    let _ = fs::remove_file(registry.with_extension("db-shm"));
    test.tell(&["vm", "ls"]).ends(0, &["running"]);
    kill(&vm.supervisor);
    test.until("the end", || is_dead(&vm.supervisor) && is_dead(&vm.hypervisor)).await;
    test.until("the record of it", || {
        test.host.reconcile().unwrap();
        test.row(&vm).unwrap().state == VmState::Stopped
    })
    .await;
}

#[test]
fn a_newer_registry_is_refused_by_every_command_and_kept() {
    let test = TestHost::new();
    let vm = test.create();
    let registry = test.host.paths().registry();
    let set_version = |version: i64| {
        let connection = Connection::open(&registry).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    };
    let version: i64 = Connection::open(&registry)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    set_version(99);
    let before = fs::read(&registry).unwrap();
    for args in [&["vm", "ls"][..], &["vm", "start", vm.id.as_str()], &["vm", "rm", vm.id.as_str()]] {
        test.tell(args).ends(3, &["schema 99", "newer tci"]);
    }
    assert!(fs::read(&registry).unwrap() == before);
    set_version(version);
}

#[test]
fn thirty_two_first_commands_at_once_all_succeed() {
    let test = TestHost::new();
    let create = |n: usize| {
        let name = format!("first-{n}");
        let args =
            ["vm", "create", "--image", "busybox", "--memory", "128", "--disk", "256", "--name", &name];
        test.tci(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let commands: Vec<_> = (0..32).map(create).collect();
    for said in commands.into_iter().map(finish) {
        said.ends(0, &[]);
    }
    assert_eq!(test.rows().len(), 32);
}

/// On a file system of two megabytes. To mount one takes root.
#[test]
fn a_full_disk_refuses_new_work_with_one_error_and_recovers() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system takes root");
        return;
    }
    // Dropped last, after the audit, also when the test fails.
    let mut mounted = None;
    let test = TestHost::with_data(|data| {
        fs::create_dir(data).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(data).status();
        assert!(mount.unwrap().success());
        mounted = Some(Mounted(data.to_owned()));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (running, idle) = (test.create(), test.create());
    let running = runtime.block_on(test.host.start(&running.id)).unwrap();
    let client = test.host.client(&running.id).unwrap();
    // QEMU stops a guest whose disk cannot grow: it has to have booted.
    runtime.block_on(client.wait_agent()).unwrap();
    drop(client);
    let ballast = test.host.paths().data().join("ballast");
    let fill = || {
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    fill();
    let exec = test.tell(&["vm", "exec", running.id.as_str(), "--", "true"]);
    exec.ends(3, &["notes.jsonl: No space left on device", "make room on that file system"]);
    let before = test.row(&idle).unwrap();
    test.tell(&["vm", "create", "--image", "busybox"]).ends(3, &["full"]);
    test.tell(&["vm", "start", idle.id.as_str()]).ends(3, &[]);
    test.tell(&["vm", "ls"]).ends(0, &["running", "created"]);
    assert_eq!(test.row(&idle).unwrap(), before, "as if nobody had tried");
    // What runs goes on, and can be stopped; its end is recorded when there is room.
    test.tell(&["vm", "ping", running.id.as_str()]).ends(0, &[]);
    // Its supervisor has no room for its log either.
    let stop = test.tell(&["vm", "stop", "--grace", "0", running.id.as_str()]);
    stop.ends(0, &[": quit", "no space left on device", "make room on the file system of"]);
    test.wait_until("the end of all processes", || test.processes().is_empty());
    fs::remove_file(&ballast).unwrap();
    test.tell(&["vm", "ls"]).ends(0, &["stopped"]);
    assert_eq!(test.row(&running).unwrap().state, VmState::Stopped);
    for vm in [&idle, &running] {
        let again = runtime.block_on(test.host.start(&vm.id)).unwrap();
        runtime.block_on(test.host.stop(&again.id, &NOW)).unwrap();
    }
    test.remove_all();
    test.wait_until("the end of the keepers", || test.processes().is_empty());
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: after a failed test somebody may still be in there.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
        // The host's directory could not be removed while this was mounted in it.
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}
