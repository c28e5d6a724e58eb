//! Reading and writing rows.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::{RegistryError, VmEnd, VmRecord, VmState, schema};
use crate::{ProcessId, VmEvent, VmId, VmSpec};

const COLUMNS: &str = "id, name, spec, state, epoch, runner_pid, runner_start, qemu_pid, qemu_start, boot_id, \
                       socket_path, owner, end, created_at_ms, updated_at_ms";

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

    /// Adds a VM in state `Created`.
    ///
    /// # Errors
    /// The name is taken, or the database cannot be written.
    pub fn insert(&self, id: &VmId, name: &str, spec: &VmSpec) -> Result<(), RegistryError> {
        let text = serde_json::to_string(spec).expect("a definition is JSON");
        let now = now_ms();
        self.write(|connection| {
            let added = connection.execute(
                "INSERT INTO vms (id, name, spec, state, created_at_ms, updated_at_ms)
                 VALUES (?1, ?2, ?3, 'created', ?4, ?4) ON CONFLICT (name) DO NOTHING",
                params![id.as_str(), name, text, now],
            )?;
            if added == 1 {
                log_event(connection, id, now)?;
            }
            Ok(added == 1)
        })?
        .then_some(())
        .ok_or_else(|| RegistryError::NameTaken(name.to_owned()))
    }

    /// All rows, oldest first.
    ///
    /// # Errors
    /// The database cannot be read, or a row is damaged.
    pub fn list(&self) -> Result<Vec<VmRecord>, RegistryError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare(&format!("SELECT {COLUMNS} FROM vms ORDER BY created_at_ms, id"))?;
            statement.query_map([], RawRow::read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?
        .unwrap_or_default()
        .into_iter()
        .map(RawRow::into_record)
        .collect()
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
        .map(RawRow::into_record)
        .transpose()
    }

    /// Starts a new epoch: the row is `Starting` and names its supervisor and socket. The caller holds the VM's lock.
    /// `None` when the row is gone.
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
        let owner = owner.map(|owner| serde_json::to_string(owner).expect("a process id is JSON"));
        self.write(|connection| {
            let epoch: Option<i64> = connection
                .query_row("SELECT epoch + 1 FROM vms WHERE id = ?1", [id.as_str()], |row| row.get(0))
                .optional()?;
            let Some(epoch) = epoch else { return Ok(None) };
            let socket = socket(epoch);
            let now = now_ms();
            connection.execute(
                "UPDATE vms SET state = 'starting', desired = 'any', epoch = ?2, runner_pid = ?3, runner_start = ?4,
                 boot_id = ?5, qemu_pid = NULL, qemu_start = NULL, socket_path = ?6, owner = ?7, end = NULL,
                 updated_at_ms = ?8 WHERE id = ?1",
                params![
                    id.as_str(),
                    epoch,
                    supervisor.pid,
                    supervisor.start_time.cast_signed(),
                    supervisor.boot_id,
                    socket.to_string_lossy(),
                    owner,
                    now
                ],
            )?;
            log_event(connection, id, now)?;
            Ok(Some((Claim { id: id.clone(), epoch }, socket)))
        })
    }

    /// Records the hypervisor right after it was spawned.
    ///
    /// # Errors
    /// The claim has ended, or the database cannot be written.
    pub fn set_hypervisor(&self, claim: &Claim, hypervisor: &ProcessId) -> Result<(), RegistryError> {
        // No event: the state is the same.
        let changed = self.write(|connection| {
            connection.execute(
                "UPDATE vms SET qemu_pid = ?4, qemu_start = ?5, updated_at_ms = ?3 WHERE id = ?1 AND epoch = ?2",
                params![
                    claim.id.as_str(),
                    claim.epoch,
                    now_ms(),
                    hypervisor.pid,
                    hypervisor.start_time.cast_signed()
                ],
            )
        })?;
        if changed == 1 { Ok(()) } else { Err(RegistryError::Superseded(claim.id.clone())) }
    }

    /// Moves a claimed row to `Running` or `Stopping`.
    ///
    /// # Errors
    /// The claim has ended, or the database cannot be written.
    pub fn set_state(&self, claim: &Claim, state: VmState) -> Result<(), RegistryError> {
        self.update(
            claim,
            "UPDATE vms SET state = ?4, updated_at_ms = ?3 WHERE id = ?1 AND epoch = ?2",
            params![claim.id.as_str(), claim.epoch, now_ms(), state.as_str()],
        )
    }

    /// Ends a claim: the row is `Stopped` or `Failed` with its reason, and names no process.
    ///
    /// # Errors
    /// The claim has ended, or the database cannot be written.
    pub fn set_ended(&self, claim: &Claim, state: VmState, end: &VmEnd) -> Result<(), RegistryError> {
        let end = serde_json::to_string(end).expect("an end is JSON");
        self.update(
            claim,
            "UPDATE vms SET state = ?4, end = ?5, updated_at_ms = ?3, runner_pid = NULL, runner_start = NULL,
             qemu_pid = NULL, qemu_start = NULL, socket_path = NULL, owner = NULL
             WHERE id = ?1 AND epoch = ?2",
            params![claim.id.as_str(), claim.epoch, now_ms(), state.as_str(), end],
        )
    }

    /// Deletes a row; false when there was none. A running supervisor notices and ends its VM.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete(&self, id: &VmId) -> Result<bool, RegistryError> {
        self.write(|connection| {
            connection.execute(
                "INSERT INTO events (vm_id, at_ms, epoch, state) SELECT id, ?2, epoch, 'removed' FROM vms WHERE id = ?1",
                params![id.as_str(), now_ms()],
            )?;
            Ok(connection.execute("DELETE FROM vms WHERE id = ?1", [id.as_str()])? == 1)
        })
    }

    /// Asks a supervisor through the database to stop its VM.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn request_stop(&self, id: &VmId) -> Result<(), RegistryError> {
        self.write(|connection| {
            connection.execute("UPDATE vms SET desired = 'stopped' WHERE id = ?1", [id.as_str()])?;
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
                let damaged = |what| RegistryError::Row { id: id.clone(), what };
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

    fn update(
        &self,
        claim: &Claim,
        sql: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<(), RegistryError> {
        let changed = self.write(|connection| {
            let changed = connection.execute(sql, parameters)?;
            log_event(connection, &claim.id, now_ms())?;
            Ok(changed)
        })?;
        if changed == 1 { Ok(()) } else { Err(RegistryError::Superseded(claim.id.clone())) }
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, RegistryError> {
        let guard = self.lock();
        guard.as_ref().map(query).transpose().map_err(|source| self.failed(source))
    }

    fn write<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, RegistryError> {
        let mut guard = self.lock();
        let connection = guard.as_mut().expect("a registry that writes was opened for writing");
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.failed(source))?;
        let value = change(&transaction).map_err(|source| self.failed(source))?;
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

/// Copies the row's present state to the history.
fn log_event(connection: &Connection, id: &VmId, now: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO events (vm_id, at_ms, epoch, state, end) SELECT id, ?2, epoch, state, end FROM vms WHERE id = ?1",
        params![id.as_str(), now],
    )?;
    Ok(())
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

    fn into_record(self) -> Result<VmRecord, RegistryError> {
        let damaged = |what| RegistryError::Row { id: self.id.clone(), what };
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
            state: VmState::ALL
                .into_iter()
                .find(|state| state.as_str() == self.state)
                .ok_or_else(|| damaged("state"))?,
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
    use crate::registry::EndReason;

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
        registry.insert(&id, "one", &VmSpec::default()).unwrap();
        let socket = |epoch| PathBuf::from(format!("/s/{epoch}"));
        let (old, _) = registry.claim(&id, &process(), None, socket).unwrap().unwrap();
        let (new, path) = registry.claim(&id, &process(), None, socket).unwrap().unwrap();
        assert_eq!((new.epoch, path), (2, PathBuf::from("/s/2")));
        assert!(matches!(registry.set_state(&old, VmState::Running), Err(RegistryError::Superseded(_))));
        assert_eq!(registry.stop_requested(&old).unwrap(), None);
        registry.set_state(&new, VmState::Running).unwrap();
        let row = registry.get(&id).unwrap().unwrap();
        assert_eq!((row.state, row.supervisor), (VmState::Running, Some(process())));
    }

    #[test]
    fn an_end_names_its_reason_and_no_process() {
        let (_dir, registry) = open();
        let id = VmId::random();
        registry.insert(&id, "one", &VmSpec::default()).unwrap();
        let (claim, _) = registry.claim(&id, &process(), Some(&process()), |_| "/s".into()).unwrap().unwrap();
        registry.set_hypervisor(&claim, &process()).unwrap();
        let end = VmEnd { signal: Some(9), ..VmEnd::of(EndReason::HypervisorDied) };
        registry.set_ended(&claim, VmState::Stopped, &end).unwrap();
        let row = registry.get(&id).unwrap().unwrap();
        assert_eq!((row.end, row.supervisor, row.hypervisor, row.owner), (Some(end), None, None, None));
    }

    #[test]
    fn names_are_unique_and_rows_deletable() {
        let (_dir, registry) = open();
        let id = VmId::random();
        registry.insert(&id, "one", &VmSpec::default()).unwrap();
        let again = registry.insert(&VmId::random(), "one", &VmSpec::default());
        assert!(matches!(again, Err(RegistryError::NameTaken(name)) if name == "one"));
        assert!(registry.delete(&id).unwrap());
        assert!(!registry.delete(&id).unwrap());
        assert_eq!(registry.list().unwrap(), []);
    }

    #[test]
    fn every_change_is_an_event_and_the_last_one_is_the_removal() {
        let (_dir, registry) = open();
        let id = VmId::random();
        assert_eq!(registry.last_event().unwrap(), 0);
        registry.insert(&id, "one", &VmSpec::default()).unwrap();
        let (claim, _) = registry.claim(&id, &process(), None, |_| "/s".into()).unwrap().unwrap();
        registry.set_ended(&claim, VmState::Stopped, &VmEnd::of(EndReason::Requested)).unwrap();
        registry.delete(&id).unwrap();
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
                    registry.insert(&VmId::random(), &format!("vm{n}"), &VmSpec::default()).unwrap();
                });
            }
        });
        assert_eq!(Registry::read_only(&path).unwrap().list().unwrap().len(), 16);
    }

    #[test]
    fn a_damaged_or_newer_database_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(matches!(Registry::read_write(&path), Err(RegistryError::Database { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
        let path = dir.path().join("new.db");
        drop(Registry::read_write(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Registry::read_write(&path), Err(RegistryError::Newer { found: 99, .. })));
        assert!(matches!(Registry::read_only(&path), Err(RegistryError::Newer { found: 99, .. })));
    }
}
