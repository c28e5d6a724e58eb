//! Reading and writing rows.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::{EndReason, RegistryError, VmEnd, VmRecord, schema};
use crate::{
    ProcessId, VmEvent, VmId, VmSpec, VmState,
    state::{self, RefusedEvent, StateEvent},
};

const COLUMNS: &str = "id, name, spec, state, epoch, runner_pid, runner_start, qemu_pid, qemu_start, boot_id, \
                       socket_path, owner, end, created_at_ms, updated_at_ms";

/// Events that are kept, of all VMs together: a day of a busy host, a megabyte at most.
const KEPT_EVENTS: i64 = 10_000;

/// The registry of one host.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    // A std mutex: every use is a statement of well under a millisecond, and none spans an await.
    connection: Mutex<Option<Connection>>,
}

/// A supervisor's right to write a row: it ends with the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which VM.
    pub id: VmId,
    /// Which start of it.
    pub epoch: i64,
}

impl Registry {
    /// Opens for reading; a database that does not exist reads as empty.
    ///
    /// # Errors
    /// The file is no database, or a newer program's.
    pub fn read_only(path: &Path) -> Result<Registry, RegistryError> {
        let connection = Mutex::new(schema::open_read_only(path)?);
        Ok(Registry { path: path.to_owned(), connection })
    }

    /// Opens for writing, making the database when there is none.
    ///
    /// # Errors
    /// The file is no database, a newer program's, or cannot be written.
    pub fn read_write(path: &Path) -> Result<Registry, RegistryError> {
        let connection = Mutex::new(Some(schema::open(path)?));
        Ok(Registry { path: path.to_owned(), connection })
    }

    /// Adds a VM in state `Created`; with an owner it is removed when that process ends.
    ///
    /// # Errors
    /// The name is taken, or the database cannot be written.
    pub fn insert(
        &self,
        id: &VmId,
        name: &str,
        spec: &VmSpec,
        owner: Option<&ProcessId>,
    ) -> Result<(), RegistryError> {
        let text = serde_json::to_string(spec).expect("a definition is JSON");
        let now = now_ms();
        self.write(id, |connection| {
            let state = after(None, StateEvent::Defined)?;
            let added = connection.execute(
                "INSERT INTO vms (id, name, spec, state, owner, created_at_ms, updated_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (name) DO NOTHING",
                params![id.as_str(), name, text, state.as_str(), owner.map(as_json), now],
            )?;
            if added == 1 {
                log_event(connection, id, now)?;
            }
            Ok(added == 1)
        })?
        .then_some(())
        .ok_or_else(|| RegistryError::NameTaken(name.to_owned()))
    }

    /// All rows, oldest first; a damaged one is an error of its own.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self) -> Result<Vec<Result<VmRecord, RegistryError>>, RegistryError> {
        let rows = self.read(|connection| {
            let mut statement =
                connection.prepare(&format!("SELECT {COLUMNS} FROM vms ORDER BY created_at_ms, id"))?;
            statement.query_map([], RawRow::read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows.unwrap_or_default().into_iter().map(|row| row.into_record(&self.path)).collect())
    }

    /// The row of one VM.
    ///
    /// # Errors
    /// The database cannot be read, or the row is damaged.
    pub fn get(&self, id: &VmId) -> Result<Option<VmRecord>, RegistryError> {
        self.read(|connection| {
            connection
                .query_row(&format!("SELECT {COLUMNS} FROM vms WHERE id = ?1"), [id.as_str()], RawRow::read)
                .optional()
        })?
        .flatten()
        .map(|row| row.into_record(&self.path))
        .transpose()
    }

    /// Starts a new epoch: the row is `Starting` and names its supervisor and socket. The caller holds the VM's lock, so
    /// that an earlier claim which is still open is a dead supervisor's: its end is recorded first. `None` when the row is
    /// gone.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn claim(
        &self,
        id: &VmId,
        supervisor: &ProcessId,
        owner: Option<&ProcessId>,
        socket: impl Fn(i64) -> PathBuf,
    ) -> Result<Option<(Claim, PathBuf)>, RegistryError> {
        self.write(id, |connection| {
            let epoch: Option<i64> = connection
                .query_row("SELECT epoch FROM vms WHERE id = ?1", [id.as_str()], |row| row.get(0))
                .optional()?;
            let Some(epoch) = epoch else { return Ok(None) };
            let before = Claim { id: id.clone(), epoch };
            if state_of(connection, &before)?.is_owned() {
                end(connection, &before, StateEvent::Lost, &VmEnd::of(EndReason::SupervisorDied))?;
            }
            let state = after(Some(state_of(connection, &before)?), StateEvent::Claimed)?;
            let (claim, socket) = (Claim { id: id.clone(), epoch: epoch + 1 }, socket(epoch + 1));
            let now = now_ms();
            connection.execute(
                "UPDATE vms SET state = ?10, desired = 'any', epoch = ?2, runner_pid = ?3, runner_start = ?4,
                 boot_id = ?5, qemu_pid = NULL, qemu_start = NULL, socket_path = ?6, owner = ?7, end = NULL,
                 updated_at_ms = ?8 WHERE id = ?1 AND epoch = ?9",
                params![
                    id.as_str(),
                    claim.epoch,
                    supervisor.pid,
                    supervisor.start_time.cast_signed(),
                    supervisor.boot_id,
                    socket.to_string_lossy(),
                    owner.map(as_json),
                    now,
                    epoch,
                    state.as_str()
                ],
            )?;
            log_event(connection, id, now)?;
            Ok(Some((claim, socket)))
        })
    }

    /// Records the hypervisor right after it was spawned.
    ///
    /// # Errors
    /// The claim has ended, or the database cannot be written.
    pub fn set_hypervisor(&self, claim: &Claim, hypervisor: &ProcessId) -> Result<(), RegistryError> {
        self.write(&claim.id, |connection| {
            state_of(connection, claim)?;
            connection.execute(
                "UPDATE vms SET qemu_pid = ?4, qemu_start = ?5, updated_at_ms = ?3 WHERE id = ?1 AND epoch = ?2",
                params![
                    claim.id.as_str(),
                    claim.epoch,
                    now_ms(),
                    hypervisor.pid,
                    hypervisor.start_time.cast_signed()
                ],
            )?;
            Ok(())
        })
    }

    /// Records that the hypervisor answers, or that the VM was asked to stop.
    ///
    /// # Errors
    /// The claim has ended, the row's state does not know the event, or the database cannot be written.
    pub fn advance(&self, claim: &Claim, event: StateEvent) -> Result<(), RegistryError> {
        self.write(&claim.id, |connection| {
            let before = state_of(connection, claim)?;
            let state = after(Some(before), event)?;
            if state == before {
                return Ok(());
            }
            let now = now_ms();
            connection.execute(
                "UPDATE vms SET state = ?4, updated_at_ms = ?3 WHERE id = ?1 AND epoch = ?2",
                params![claim.id.as_str(), claim.epoch, now, state.as_str()],
            )?;
            Ok(log_event(connection, &claim.id, now)?)
        })
    }

    /// Ends a claim: the row says how, and names no process but the one the VM was made for, so that whoever comes next
    /// knows to remove it. The end of a claim that has ended stays as it is.
    ///
    /// # Errors
    /// The claim has been followed by another, the row's state does not know the event, or the database cannot be written.
    pub fn set_ended(&self, claim: &Claim, event: StateEvent, how: &VmEnd) -> Result<(), RegistryError> {
        self.write(&claim.id, |connection| end(connection, claim, event, how))
    }

    /// Deletes the row of a VM that nobody owns, and notes that its files are to be removed. The caller holds the VM's lock.
    ///
    /// # Errors
    /// The VM was started since `claim`, or is owned, or the database cannot be written.
    pub fn delete(&self, claim: &Claim) -> Result<(), RegistryError> {
        self.write(&claim.id, |connection| {
            let gone = state::next(Some(state_of(connection, claim)?), StateEvent::Removed)?;
            debug_assert!(gone.is_none(), "a removed VM is gone");
            connection.execute(
                "DELETE FROM vms WHERE id = ?1 AND epoch = ?2",
                params![claim.id.as_str(), claim.epoch],
            )?;
            prune_events(connection)?;
            Ok(())
        })
    }

    /// VMs whose rows were deleted and whose files may still be there.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn removed(&self) -> Result<Vec<VmId>, RegistryError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare("SELECT vm_id FROM removed")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        // Another string never named a file.
        Ok(found.unwrap_or_default().iter().filter_map(|id| VmId::from_str(id).ok()).collect())
    }

    /// Notes that the files of a removed VM are gone. The caller holds the VM's lock.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn forget_removed(&self, id: &VmId) -> Result<(), RegistryError> {
        self.write(id, |connection| {
            connection.execute("DELETE FROM removed WHERE vm_id = ?1", [id.as_str()])?;
            Ok(())
        })
    }

    /// Asks a supervisor through the database to stop its VM; without effect on a later start.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn request_stop(&self, claim: &Claim) -> Result<(), RegistryError> {
        self.write(&claim.id, |connection| {
            connection.execute(
                "UPDATE vms SET desired = 'stopped' WHERE id = ?1 AND epoch = ?2",
                params![claim.id.as_str(), claim.epoch],
            )?;
            Ok(())
        })
    }

    /// What the database wants of a claimed VM: `None` when its row is gone or belongs to a newer start, else whether
    /// it is to stop.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn stop_requested(&self, claim: &Claim) -> Result<Option<bool>, RegistryError> {
        let found = self.read(|connection| {
            connection
                .query_row(
                    "SELECT desired = 'stopped' FROM vms WHERE id = ?1 AND epoch = ?2",
                    params![claim.id.as_str(), claim.epoch],
                    |row| row.get(0),
                )
                .optional()
        })?;
        Ok(found.flatten())
    }

    /// At most `limit` events after number `after`, oldest first.
    ///
    /// # Errors
    /// The database cannot be read, or an event is damaged.
    pub fn events(&self, after: i64, limit: u32) -> Result<Vec<VmEvent>, RegistryError> {
        let sql = "SELECT seq, vm_id, name, events.state, events.epoch, at_ms, events.end FROM events
                   LEFT JOIN vms ON vms.id = vm_id WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let rows = self.read(|connection| {
            let mut statement = connection.prepare(sql)?;
            let read = |row: &Row<'_>| {
                let texts: (String, Option<String>) = (row.get(1)?, row.get(6)?);
                Ok((row.get(0)?, texts, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            statement.query_map(params![after, limit], read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let event =
            |(seq, (id, end), name, state, epoch, at_ms): (_, (String, Option<String>), _, _, _, _)| {
                let damaged = |what| RegistryError::Row { path: self.path.clone(), id: id.clone(), what };
                Ok(VmEvent {
                    seq,
                    name,
                    state,
                    epoch,
                    at_ms,
                    end: json(end.as_deref()).map_err(|_| damaged("end"))?,
                    id: VmId::from_str(&id).map_err(|_| damaged("id"))?,
                })
            };
        rows.unwrap_or_default().into_iter().map(event).collect()
    }

    /// The number of the newest event; 0 when there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_event(&self) -> Result<i64, RegistryError> {
        let last = self.read(|connection| {
            connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))
        })?;
        Ok(last.unwrap_or(0))
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, RegistryError> {
        let guard = self.lock();
        guard.as_ref().map(query).transpose().map_err(|source| self.failed(source))
    }

    fn write<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, RegistryError> {
        let mut guard = self.lock();
        let connection = guard.as_mut().expect("a registry that writes was opened for writing");
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.failed(source))?;
        let value = change(&transaction).map_err(|problem| match problem {
            Problem::Database(source) => self.failed(source),
            Problem::Refused(refused) => RegistryError::Refused { id: id.clone(), refused },
            Problem::Superseded => RegistryError::Superseded(id.clone()),
            Problem::Damaged(what) => {
                RegistryError::Row { path: self.path.clone(), id: id.to_string(), what }
            }
        })?;
        transaction.commit().map_err(|source| self.failed(source))?;
        crate::watch::announce(&self.path);
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // A panic inside leaves a rolled-back transaction, which is a good state to go on from.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> RegistryError {
        RegistryError::Database { path: self.path.clone(), source }
    }
}

/// Why a change of a row was not made.
enum Problem {
    Database(rusqlite::Error),
    Refused(RefusedEvent),
    Superseded,
    Damaged(&'static str),
}

impl From<rusqlite::Error> for Problem {
    fn from(source: rusqlite::Error) -> Problem {
        Problem::Database(source)
    }
}

impl From<RefusedEvent> for Problem {
    fn from(refused: RefusedEvent) -> Problem {
        Problem::Refused(refused)
    }
}

/// The state of the row that a claim is about.
fn state_of(connection: &Connection, claim: &Claim) -> Result<VmState, Problem> {
    let word: Option<String> = connection
        .query_row(
            "SELECT state FROM vms WHERE id = ?1 AND epoch = ?2",
            params![claim.id.as_str(), claim.epoch],
            |row| row.get(0),
        )
        .optional()?;
    VmState::from_word(&word.ok_or(Problem::Superseded)?).ok_or(Problem::Damaged("state"))
}

/// The state that an event leads to, for events that remove no row.
fn after(before: Option<VmState>, event: StateEvent) -> Result<VmState, Problem> {
    Ok(state::next(before, event)?.expect("only a removal ends in no state"))
}

fn end(connection: &Connection, claim: &Claim, event: StateEvent, how: &VmEnd) -> Result<(), Problem> {
    let before = state_of(connection, claim)?;
    let state = after(Some(before), event)?;
    if state == before {
        return Ok(());
    }
    let now = now_ms();
    connection.execute(
        "UPDATE vms SET state = ?4, end = ?5, updated_at_ms = ?3, runner_pid = NULL, runner_start = NULL,
         qemu_pid = NULL, qemu_start = NULL, socket_path = NULL WHERE id = ?1 AND epoch = ?2",
        params![claim.id.as_str(), claim.epoch, now, state.as_str(), as_json(how)],
    )?;
    Ok(log_event(connection, &claim.id, now)?)
}

/// Copies the row's present state to the history.
fn log_event(connection: &Connection, id: &VmId, now: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO events (vm_id, at_ms, epoch, state, end) SELECT id, ?2, epoch, state, end FROM vms WHERE id = ?1",
        params![id.as_str(), now],
    )?;
    prune_events(connection)
}

fn prune_events(connection: &Connection) -> rusqlite::Result<()> {
    let newest = "SELECT max(seq) FROM events";
    connection.execute(&format!("DELETE FROM events WHERE seq <= ({newest}) - ?1"), [KEPT_EVENTS])?;
    Ok(())
}

fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct RawRow {
    id: String,
    name: String,
    spec: String,
    state: String,
    epoch: i64,
    runner: Option<(i32, i64)>,
    qemu: Option<(i32, i64)>,
    boot_id: Option<String>,
    socket: Option<String>,
    owner: Option<String>,
    end: Option<String>,
    created_at_ms: i64,
    updated_at_ms: i64,
}

impl RawRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<RawRow> {
        let pair = |pid: Option<i32>, start: Option<i64>| pid.zip(start);
        Ok(RawRow {
            id: row.get(0)?,
            name: row.get(1)?,
            spec: row.get(2)?,
            state: row.get(3)?,
            epoch: row.get(4)?,
            runner: pair(row.get(5)?, row.get(6)?),
            qemu: pair(row.get(7)?, row.get(8)?),
            boot_id: row.get(9)?,
            socket: row.get(10)?,
            owner: row.get(11)?,
            end: row.get(12)?,
            created_at_ms: row.get(13)?,
            updated_at_ms: row.get(14)?,
        })
    }

    fn into_record(self, path: &Path) -> Result<VmRecord, RegistryError> {
        let damaged = |what| RegistryError::Row { path: path.to_owned(), id: self.id.clone(), what };
        let process = |pair: Option<(i32, i64)>| {
            pair.zip(self.boot_id.clone()).map(|((pid, start), boot_id)| ProcessId {
                pid,
                start_time: start.cast_unsigned(),
                boot_id,
            })
        };
        Ok(VmRecord {
            id: VmId::from_str(&self.id).map_err(|_| damaged("id"))?,
            spec: serde_json::from_str(&self.spec).map_err(|_| damaged("spec"))?,
            state: VmState::from_word(&self.state).ok_or_else(|| damaged("state"))?,
            supervisor: process(self.runner),
            hypervisor: process(self.qemu),
            socket: self.socket.as_ref().map(PathBuf::from),
            owner: json(self.owner.as_deref()).map_err(|_| damaged("owner"))?,
            end: json(self.end.as_deref()).map_err(|_| damaged("end"))?,
            name: self.name,
            epoch: self.epoch,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
        })
    }
}

fn json<T: serde::de::DeserializeOwned>(text: Option<&str>) -> serde_json::Result<Option<T>> {
    text.map(serde_json::from_str).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(
            registry.delete(&Claim { epoch: 0, ..old.clone() }),
            Err(RegistryError::Superseded(_))
        ));
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
            let mut statement =
                connection.prepare("SELECT state || ' ' || epoch FROM events ORDER BY seq")?;
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
}
