//! One registry, its rows and its history.

use std::path::PathBuf;

use rusqlite::Connection;

use super::{history::KEPT_EVENTS, store::*, *};
use crate::{ProcessId, VmId, VmSpec, VmState, state::StateEvent};

fn open() -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::read_write(&dir.path().join("vms.db")).unwrap();
    (dir, registry)
}

fn process() -> ProcessId {
    ProcessId { pid: 1, start_time: u64::MAX, boot_id: "b".into() }
}

#[test]
fn a_late_writer_changes_nothing() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let socket = |epoch| PathBuf::from(format!("/s/{epoch}"));
    let (old, _) = registry.claim(&id, &process(), None, socket).unwrap().unwrap();
    let (new, path) = registry.claim(&id, &process(), None, socket).unwrap().unwrap();
    assert_eq!((new.epoch, path), (2, PathBuf::from("/s/2")));
    assert!(matches!(registry.advance(&old, StateEvent::Launched), Err(RegistryError::Superseded(_))));
    assert_eq!(registry.stop_requested(&old).unwrap(), None);
    registry.advance(&new, StateEvent::Launched).unwrap();
    let row = registry.get(&id).unwrap().unwrap();
    assert_eq!((row.state, row.supervisor), (VmState::Running, Some(process())));
}

#[test]
fn an_end_names_its_reason_and_no_process() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let (claim, _) = registry.claim(&id, &process(), Some(&process()), |_| "/s".into()).unwrap().unwrap();
    registry.set_hypervisor(&claim, &process()).unwrap();
    let end = VmEnd { signal: Some(9), ..VmEnd::of(EndReason::HypervisorDied) };
    registry.advance(&claim, StateEvent::Launched).unwrap();
    registry.set_ended(&claim, StateEvent::Ended, &end).unwrap();
    let row = registry.get(&id).unwrap().unwrap();
    assert_eq!((row.end.as_ref(), row.supervisor, row.hypervisor), (Some(&end), None, None));
    assert_eq!(row.owner, Some(process()), "whoever comes next knows whose it was");
    // Who finds the supervisor dead a moment later does not write over what it said.
    registry.set_ended(&claim, StateEvent::Lost, &VmEnd::of(EndReason::SupervisorDied)).unwrap();
    assert_eq!(registry.get(&id).unwrap().unwrap().end, Some(end));
}

#[test]
fn names_are_unique_and_rows_deletable() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let again = registry.insert(&VmId::random(), "one", &VmSpec::default(), None);
    assert!(matches!(again, Err(RegistryError::NameTaken(name)) if name == "one"));
    let claim = Claim { id: id.clone(), epoch: 0 };
    registry.delete(&claim).unwrap();
    assert!(matches!(registry.delete(&claim), Err(RegistryError::Superseded(_))));
    assert!(registry.list().unwrap().is_empty());
    assert_eq!(registry.removed().unwrap(), std::slice::from_ref(&id));
    registry.forget_removed(&id).unwrap();
    assert_eq!(registry.removed().unwrap(), []);
}

#[test]
fn an_owned_vm_is_not_deleted_and_an_open_claim_is_closed_by_the_next() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let (old, _) = registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap();
    assert!(matches!(registry.delete(&old), Err(RegistryError::Refused { .. })));
    assert!(matches!(registry.delete(&Claim { epoch: 0, ..old.clone() }), Err(RegistryError::Superseded(_))));
    registry.request_stop(&old).unwrap();
    let (new, _) = registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap();
    registry.request_stop(&old).unwrap();
    assert_eq!(
        registry.stop_requested(&new).unwrap(),
        Some(false),
        "the old request is not for the new start"
    );
    assert_eq!(events(&registry), ["created 0", "starting 1", "stopped 1", "starting 2"]);
}

#[test]
fn the_history_has_every_change_once_and_an_end() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let (claim, _) = registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap();
    registry.set_hypervisor(&claim, &process()).unwrap();
    registry.advance(&claim, StateEvent::Launched).unwrap();
    for _ in 0..3 {
        registry.advance(&claim, StateEvent::StopRequested).unwrap();
    }
    assert!(matches!(registry.advance(&claim, StateEvent::Launched), Err(RegistryError::Refused { .. })));
    registry.set_ended(&claim, StateEvent::Ended, &VmEnd::of(EndReason::Requested)).unwrap();
    let whole = ["created 0", "starting 1", "running 1", "stopping 1", "stopped 1"];
    assert_eq!(events(&registry), whole);
    registry.delete(&claim).unwrap();
    assert_eq!(events(&registry)[5..], ["removed 1"]);
    let fill = format!(
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {KEPT_EVENTS})
         INSERT INTO events (vm_id, at_ms, epoch, state) SELECT 'x', 0, 0, 'created' FROM n"
    );
    registry.lock().as_ref().unwrap().execute(&fill, []).unwrap();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    assert_eq!(events(&registry).len(), usize::try_from(KEPT_EVENTS).unwrap());
}

fn events(registry: &Registry) -> Vec<String> {
    let read = |connection: &Connection| {
        let mut statement = connection.prepare("SELECT state || ' ' || epoch FROM events ORDER BY seq")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    registry.read(read).unwrap().unwrap()
}

#[test]
fn one_damaged_row_hides_no_other() {
    let (_dir, registry) = open();
    let (good, bad) = (VmId::random(), VmId::random());
    registry.insert(&bad, "bad", &VmSpec::default(), None).unwrap();
    registry.insert(&good, "good", &VmSpec::default(), None).unwrap();
    let damage = "UPDATE vms SET state = 'corrupted' WHERE name = 'bad'";
    registry.lock().as_ref().unwrap().execute(damage, []).unwrap();
    let rows = registry.list().unwrap();
    assert_eq!(rows.iter().flatten().map(|row| &row.id).collect::<Vec<_>>(), [&good]);
    let error = rows.into_iter().find_map(Result::err).unwrap().to_string();
    assert!(error.contains(bad.as_str()) && error.contains("state"), "{error}");
}

#[test]
fn every_change_is_an_event_and_the_last_one_is_the_removal() {
    let (_dir, registry) = open();
    let id = VmId::random();
    assert_eq!(registry.last_event().unwrap(), 0);
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    let (claim, _) = registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap();
    registry.set_ended(&claim, StateEvent::Ended, &VmEnd::of(EndReason::Requested)).unwrap();
    registry.delete(&claim).unwrap();
    let events = registry.events(0, 100).unwrap();
    let states: Vec<&str> = events.iter().map(|event| event.state.as_str()).collect();
    assert_eq!(states, ["created", "starting", "stopped", "removed"]);
    assert_eq!(events[2].end, Some(VmEnd::of(EndReason::Requested)));
    assert_eq!(registry.events(events[1].seq, 1).unwrap(), [events[2].clone()]);
    assert_eq!(registry.last_event().unwrap(), events[3].seq);
}

#[test]
fn many_first_commands_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vms.db");
    std::thread::scope(|scope| {
        for n in 0..16 {
            let path = &path;
            scope.spawn(move || {
                let registry = Registry::read_write(path).unwrap();
                registry.insert(&VmId::random(), &format!("vm{n}"), &VmSpec::default(), None).unwrap();
            });
        }
    });
    assert_eq!(Registry::read_only(&path).unwrap().list().unwrap().len(), 16);
}

#[test]
fn a_damaged_database_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vms.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(Registry::read_write(&path), Err(RegistryError::Database { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[test]
fn what_a_user_defines_waits_for_the_disk_and_what_happens_to_it_does_not() {
    let (_dir, registry) = open();
    let id = VmId::random();
    for (durability, level) in [(Durability::Synced, 2), (Durability::Written, 1), (Durability::Synced, 2)] {
        let found = registry.write(&id, durability, |connection| {
            Ok(connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(found.unwrap(), level);
    }
}

#[test]
fn lost_rows_are_written_together_and_who_came_after_is_left_alone() {
    let (_dir, registry) = open();
    let claims: Vec<Claim> = (0..3)
        .map(|number| {
            let id = VmId::random();
            registry.insert(&id, &format!("vm-{number}"), &VmSpec::default(), None).unwrap();
            registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap().0
        })
        .collect();
    let again = registry.claim(&claims[1].id, &process(), None, |_| "/s".into()).unwrap().unwrap().0;
    let end = VmEnd::of(EndReason::SupervisorDied);
    registry.set_lost(&claims.iter().map(|claim| (claim.clone(), end.clone())).collect::<Vec<_>>()).unwrap();
    registry.set_lost(&[]).unwrap();
    let row = |claim: &Claim| registry.get(&claim.id).unwrap().unwrap();
    assert_eq!((row(&claims[0]).state, row(&claims[0]).end), (VmState::Stopped, Some(end.clone())));
    assert_eq!((row(&claims[2]).state, row(&claims[2]).end), (VmState::Stopped, Some(end)));
    assert_eq!((row(&again).state, row(&again).epoch), (VmState::Starting, again.epoch));
}

#[test]
fn events_of_a_removed_vm_have_its_name() {
    let (_dir, registry) = open();
    let id = VmId::random();
    registry.insert(&id, "one", &VmSpec::default(), None).unwrap();
    registry.delete(&Claim { id, epoch: 0 }).unwrap();
    registry.insert(&VmId::random(), "two", &VmSpec::default(), None).unwrap();
    let told = registry.events(0, 10).unwrap();
    let told: Vec<_> = told.iter().map(|event| (event.name.as_deref(), event.state.as_str())).collect();
    assert_eq!(told, [(Some("one"), "created"), (Some("one"), "removed"), (Some("two"), "created")]);
}

#[test]
fn a_full_disk_is_told_apart() {
    let (_dir, registry) = open();
    registry.insert(&VmId::random(), "one", &VmSpec::default(), None).unwrap();
    // SQLite says the same as on a full disk.
    let pages = "PRAGMA max_page_count = 1";
    registry.lock().as_ref().unwrap().query_row(pages, [], |row| row.get::<_, i64>(0)).unwrap();
    let long = "x".repeat(1 << 20);
    let full = registry.insert(&VmId::random(), &long, &VmSpec::default(), None).unwrap_err();
    assert!(full.is_full(), "{full}");
    let taken = registry.insert(&VmId::random(), "one", &VmSpec::default(), None).unwrap_err();
    assert!(!taken.is_full(), "{taken}");
}
