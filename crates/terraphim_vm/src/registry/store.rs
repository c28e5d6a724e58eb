//! Reading and writing rows.

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{
    EndReason, RegistryError, VmEnd, VmRecord,
    history::{log_event, prune_events},
    row::{COLUMNS, RawRow},
    schema,
};
use crate::{
    ProcessId, VmId, VmSpec, VmState,
    state::{self, RefusedEvent, StateEvent},
};

/// The registry of one host.
#[derive(Debug)]
pub struct Registry {
    pub(super) path: PathBuf,
    // A std mutex: every use is a statement of well under a millisecond, and none spans an await.
    connection: Mutex<Option<Connection>>,
}

/// What a power failure may undo. The end of any process, `tci` itself included, undoes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing: the change is on the disk before anybody is told of it, which takes an fsync(2). For what a user defines and
    /// removes.
    Synced,
    /// The changes of the last moments. For what happens to VMs: after a power failure none of them runs, and rows that still
    /// say so are known by the boot they name.
    Written,
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
        // Its owner ends with this boot, and the VM with it.
        let durability = if owner.is_some() { Durability::Written } else { Durability::Synced };
        self.write(id, durability, |connection| {
            let state = after(None, StateEvent::Defined)?;
            let sql = "INSERT INTO vms (id, name, spec, state, owner, created_at_ms, updated_at_ms)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (name) DO NOTHING";
            let values = params![id.as_str(), name, text, state.as_str(), owner.map(as_json), now];
            let added = connection.prepare_cached(sql)?.execute(values)?;
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
        self.list_where("TRUE")
    }

    /// Likewise those that a process is to answer for: a supervisor, or the process that they were made for.
    pub(crate) fn list_held(&self) -> Result<Vec<Result<VmRecord, RegistryError>>, RegistryError> {
        let owned = VmState::ALL.iter().filter(|state| state.is_owned());
        let owned: Vec<String> = owned.map(|state| format!("'{}'", state.as_str())).collect();
        self.list_where(&format!("state IN ({}) OR owner IS NOT NULL", owned.join(", ")))
    }

    fn list_where(&self, condition: &str) -> Result<Vec<Result<VmRecord, RegistryError>>, RegistryError> {
        let sql = format!("SELECT {COLUMNS} FROM vms WHERE {condition} ORDER BY created_at_ms, id");
        let rows = self.read(|connection| {
            let mut statement = connection.prepare(&sql)?;
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
                .prepare_cached(&format!("SELECT {COLUMNS} FROM vms WHERE id = ?1"))?
                .query_row([id.as_str()], RawRow::read)
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
        self.write(id, Durability::Written, |connection| {
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
        self.write(&claim.id, Durability::Written, |connection| {
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
        self.write(&claim.id, Durability::Written, |connection| {
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
        self.write(&claim.id, Durability::Written, |connection| end(connection, claim, event, how))
    }

    /// Ends claims of supervisors that are lost, all at once: a write of its own for each would be most of the work when a
    /// host has crashed. Those that were followed by another are left out; the first other failure undoes everything.
    ///
    /// # Errors
    /// A row is damaged, or the database cannot be written.
    pub(crate) fn set_lost(&self, lost: &[(Claim, VmEnd)]) -> Result<(), RegistryError> {
        let Some((first, _)) = lost.first() else { return Ok(()) };
        self.write(&first.id, Durability::Written, |connection| {
            for (claim, how) in lost {
                match end(connection, claim, StateEvent::Lost, how) {
                    Err(Problem::Superseded) => {}
                    ended => ended?,
                }
            }
            Ok(())
        })
    }

    /// Deletes the row of a VM that nobody owns, and notes that its files are to be removed. The caller holds the VM's lock.
    ///
    /// # Errors
    /// The VM was started since `claim`, or is owned, or the database cannot be written.
    pub fn delete(&self, claim: &Claim) -> Result<(), RegistryError> {
        self.write(&claim.id, Durability::Synced, |connection| {
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

    /// The ids of all rows, damaged ones included.
    pub(crate) fn ids(&self) -> Result<Vec<VmId>, RegistryError> {
        self.ids_of("SELECT id FROM vms")
    }

    /// VMs whose rows were deleted and whose files may still be there.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn removed(&self) -> Result<Vec<VmId>, RegistryError> {
        self.ids_of("SELECT vm_id FROM removed")
    }

    fn ids_of(&self, sql: &str) -> Result<Vec<VmId>, RegistryError> {
        let found = self.read(|connection| {
            let mut statement = connection.prepare(sql)?;
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
        self.write(id, Durability::Written, |connection| {
            connection.execute("DELETE FROM removed WHERE vm_id = ?1", [id.as_str()])?;
            Ok(())
        })
    }

    /// Asks a supervisor through the database to stop its VM; without effect on a later start.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn request_stop(&self, claim: &Claim) -> Result<(), RegistryError> {
        self.write(&claim.id, Durability::Written, |connection| {
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
                .prepare_cached("SELECT desired = 'stopped' FROM vms WHERE id = ?1 AND epoch = ?2")?
                .query_row(params![claim.id.as_str(), claim.epoch], |row| row.get(0))
                .optional()
        })?;
        Ok(found.flatten())
    }

    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, RegistryError> {
        let guard = self.lock();
        guard.as_ref().map(query).transpose().map_err(|source| self.failed(source))
    }

    pub(super) fn write<T>(
        &self,
        id: &VmId,
        durability: Durability,
        change: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, RegistryError> {
        let mut guard = self.lock();
        let connection = guard.as_mut().expect("a registry that writes was opened for writing");
        if durability == Durability::Synced {
            schema::sync_commits(connection, true).map_err(|source| self.failed(source))?;
        }
        let value = self.transact(connection, id, change);
        if durability == Durability::Synced
            && let Err(error) = schema::sync_commits(connection, false)
        {
            // The change is made; later ones take longer than they must.
            tracing::warn!("cannot go back to quick writes of {}: {error}", self.path.display());
        }
        let value = value?;
        crate::watch::announce(&self.path);
        Ok(value)
    }

    fn transact<T>(
        &self,
        connection: &mut Connection,
        id: &VmId,
        change: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, RegistryError> {
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
        Ok(value)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // A panic inside leaves a rolled-back transaction, which is a good state to go on from.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> RegistryError {
        RegistryError::Database { path: self.path.clone(), source }
    }
}

/// Why a change of a row was not made.
pub(super) enum Problem {
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
        .prepare_cached("SELECT state FROM vms WHERE id = ?1 AND epoch = ?2")?
        .query_row(params![claim.id.as_str(), claim.epoch], |row| row.get(0))
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
    let sql =
        "UPDATE vms SET state = ?4, end = ?5, updated_at_ms = ?3, runner_pid = NULL, runner_start = NULL,
               qemu_pid = NULL, qemu_start = NULL, socket_path = NULL WHERE id = ?1 AND epoch = ?2";
    let values = params![claim.id.as_str(), claim.epoch, now, state.as_str(), as_json(how)];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(log_event(connection, &claim.id, now)?)
}

fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
