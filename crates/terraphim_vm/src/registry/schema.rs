//! Opening the database and bringing it to the present schema.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use thiserror::Error;

use crate::{VmId, state::RefusedEvent};

/// The registry failed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// SQLite refused.
    #[error("cannot use the VM registry {}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer `tci` has written it.
    #[error(
        "the VM registry {} has schema {found}, this tci knows up to {known}: use the newer tci",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema in the file.
        found: usize,
        /// The newest schema of this program.
        known: usize,
    },
    /// A row holds what no `tci` wrote.
    #[error(
        "the row of VM {id} in the registry is damaged ({what}): \
         `sqlite3 {} \"DELETE FROM vms WHERE id = '{id}'\"` removes that VM",
        path.display()
    )]
    Row {
        /// The database file.
        path: PathBuf,
        /// The row's id as stored.
        id: String,
        /// Which column.
        what: &'static str,
    },
    /// The VM's state does not know what was to be recorded.
    #[error("VM {id}: {refused}")]
    Refused {
        /// Which VM.
        id: VmId,
        /// What was to be recorded, and the state.
        refused: RefusedEvent,
    },
    /// Another VM has the name.
    #[error("there is already a VM named `{0}`")]
    NameTaken(String),
    /// The row was changed or deleted by somebody else in the meantime.
    #[error("VM {0} was started anew or removed in the meantime")]
    Superseded(VmId),
    /// The directory or backup could not be written.
    #[error("cannot prepare {}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether the change was not made for want of room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = |source: &rusqlite::Error| source.sqlite_error_code() == Some(ErrorCode::DiskFull);
        matches!(self, RegistryError::Database { source, .. } if is_full(source))
    }

    /// Whether it is a damaged row of this id, or of an id that starts so.
    pub(crate) fn is_about(&self, wanted: &str) -> bool {
        matches!(self, RegistryError::Row { id, .. } if !wanted.is_empty() && id.starts_with(wanted))
    }
}

/// Longest wait for another writer; writes take well under a millisecond, so this long means a stuck process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// One entry per version of the schema; those that have been released are never changed.
const MIGRATIONS: &[&str] = &[VMS_AND_EVENTS, REMOVALS, NAMES];

const VMS_AND_EVENTS: &str = "
    CREATE TABLE vms (
        id            TEXT PRIMARY KEY,
        name          TEXT NOT NULL UNIQUE,
        spec          TEXT NOT NULL,
        state         TEXT NOT NULL,
        desired       TEXT NOT NULL DEFAULT 'any',
        epoch         INTEGER NOT NULL DEFAULT 0,
        runner_pid    INTEGER,
        runner_start  INTEGER,
        qemu_pid      INTEGER,
        qemu_start    INTEGER,
        boot_id       TEXT,
        socket_path   TEXT,
        owner         TEXT,
        end           TEXT,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE events (
        seq    INTEGER PRIMARY KEY AUTOINCREMENT,
        vm_id  TEXT NOT NULL,
        at_ms  INTEGER NOT NULL,
        epoch  INTEGER NOT NULL,
        state  TEXT NOT NULL,
        end    TEXT
    ) STRICT;
";

/// Whoever deletes a row, an operator's SQLite shell included, leaves a note, so that the VM's files are removed even when
/// everybody is killed meanwhile. (`julianday`, because the shells of stable systems know no newer function of time.)
const REMOVALS: &str = "
    CREATE TABLE removed (vm_id TEXT PRIMARY KEY) STRICT;
    CREATE TRIGGER vm_removed AFTER DELETE ON vms BEGIN
        INSERT OR IGNORE INTO removed (vm_id) VALUES (old.id);
        INSERT INTO events (vm_id, at_ms, epoch, state) VALUES (
            old.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), old.epoch, 'removed');
    END;
";

/// Every event says whom it is about: after a removal nothing else does.
const NAMES: &str = "
    ALTER TABLE events ADD COLUMN name TEXT;
    DROP TRIGGER vm_removed;
    CREATE TRIGGER vm_removed AFTER DELETE ON vms BEGIN
        INSERT OR IGNORE INTO removed (vm_id) VALUES (old.id);
        INSERT INTO events (vm_id, at_ms, epoch, state, name) VALUES (
            old.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), old.epoch, 'removed', old.name);
    END;
";

/// Opens for writing, making and migrating the database as needed.
pub(super) fn open(path: &Path) -> Result<Connection, RegistryError> {
    open_with(path, MIGRATIONS)
}

fn open_with(path: &Path, migrations: &[&str]) -> Result<Connection, RegistryError> {
    let database = |source| RegistryError::Database { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        crate::make_private_directory(parent)
            .map_err(|source| RegistryError::Io { path: parent.to_owned(), source })?;
    }
    crate::make_private_file(path).map_err(|source| RegistryError::Io { path: path.to_owned(), source })?;
    let mut connection = Connection::open(path).map_err(database)?;
    wait_for_others(&connection).map_err(database)?;
    let found = version(&connection).map_err(database)?;
    // Before anything is written: a newer program's database stays as it is.
    refuse_newer(path, found, migrations.len())?;
    if found == migrations.len() {
        sync_commits(&connection, false).map_err(database)?;
        return Ok(connection);
    }
    use_log(&connection).map_err(database)?;
    // Several first commands may be here at once: who gets the write lock migrates, the others find it done.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
    let found = version(&transaction).map_err(database)?;
    refuse_newer(path, found, migrations.len())?;
    if found > 0 && found < migrations.len() {
        back_up(path, found)?;
    }
    for migration in &migrations[found..] {
        transaction.execute_batch(migration).map_err(database)?;
    }
    transaction
        .pragma_update(None, "user_version", i64::try_from(migrations.len()).unwrap_or(i64::MAX))
        .map_err(database)?;
    transaction.commit().map_err(database)?;
    sync_commits(&connection, false).map_err(database)?;
    Ok(connection)
}

/// Whether a commit waits for the disk. See <https://www.sqlite.org/pragma.html#pragma_synchronous>: without, a power failure
/// undoes the last commits, and damages nothing.
pub(super) fn sync_commits(connection: &Connection, wait: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if wait { "FULL" } else { "NORMAL" })
}

/// Another's write takes a tenth of a millisecond. The pauses of SQLite's own waiting grow up to 100 ms, so that among many
/// writers some wait for long; nothing in its locks tells of their end.
fn wait_for_others(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_micros(500);
    connection.busy_handler(Some(|pauses| {
        std::thread::sleep(PAUSE);
        PAUSE * pauses.unsigned_abs() < BUSY_TIMEOUT
    }))
}

/// Changes to a write-ahead log. Where somebody else is about to write, as other first commands are, SQLite gives up at once: with the
/// database locked for reading, waiting for a writer could be a deadlock, so the handler that waits is not called.
fn use_log(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(2);
    let begun = Instant::now();
    loop {
        let changed = connection.pragma_update(None, "journal_mode", "WAL");
        let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        match changed {
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_TIMEOUT => std::thread::sleep(PAUSE),
            changed => return changed,
        }
    }
}

fn refuse_newer(path: &Path, found: usize, known: usize) -> Result<(), RegistryError> {
    if found <= known { Ok(()) } else { Err(RegistryError::Newer { path: path.to_owned(), found, known }) }
}

/// Keeps the database of schema `found` as `vms.db.before-N`. By SQLite itself, because a part of the database is in its log;
/// through a connection of its own, because the caller's has the write lock, which no reader minds.
fn back_up(path: &Path, found: usize) -> Result<(), RegistryError> {
    let database = |source| RegistryError::Database { path: path.to_owned(), source };
    let backup = path.with_extension(format!("db.before-{}", found + 1));
    let unfinished = backup.with_extension(format!("before-{}.unfinished", found + 1));
    let failed = |source| RegistryError::Io { path: backup.clone(), source };
    // A killed migration may have left it.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|source| source.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]))
        .map_err(database)?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &backup))
        .map_err(failed)
}

/// Opens for reading only; `None` when there is no database yet. One of an older schema is migrated first.
pub(super) fn open_read_only(path: &Path) -> Result<Option<Connection>, RegistryError> {
    let database = |source| RegistryError::Database { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RegistryError::Io { path: path.to_owned(), source }),
    }
    let read = || Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let mut connection = read().map_err(database)?;
    wait_for_others(&connection).map_err(database)?;
    let found = version(&connection).map_err(database)?;
    refuse_newer(path, found, MIGRATIONS.len())?;
    if found == 0 {
        return Ok(None);
    }
    if found < MIGRATIONS.len() {
        drop(open(path)?);
        connection = read().map_err(database)?;
        wait_for_others(&connection).map_err(database)?;
    }
    Ok(Some(connection))
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_commands_do_not_hinder_each_other() {
        for state in ["BEGIN; SELECT count(*) FROM sqlite_schema", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vms.db");
            let other = Connection::open(&path).unwrap();
            // A page, so that reading it takes a lock.
            other.execute_batch(&format!("VACUUM; {state}")).unwrap();
            let first = std::thread::spawn({
                let path = path.clone();
                move || open(&path).map(drop)
            });
            std::thread::sleep(Duration::from_millis(100));
            assert!(!first.is_finished(), "{state}: {:?}", first.join().unwrap());
            drop(other);
            first.join().unwrap().unwrap();
        }
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM vms", [], |row| row.get(0)).unwrap()
    }

    /// A database of the first schema as `tci` left it, with its last write still in the log.
    fn old(path: &Path) -> Connection {
        let old = open_with(path, &MIGRATIONS[..1]).unwrap();
        old.execute_batch(
            "INSERT INTO vms (id, name, spec, state, created_at_ms, updated_at_ms)
             VALUES ('0123456789ab', 'old', '{\"image\": \"busybox\"}', 'stopped', 1, 2)",
        )
        .unwrap();
        old
    }

    #[test]
    fn a_migration_keeps_a_complete_copy_of_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        // Open, so that nothing moves from the log to the file: a copy of the file alone would be empty.
        let _old = old(&path);
        let new = open(&path).unwrap();
        assert_eq!((version(&new).unwrap(), rows(&new)), (MIGRATIONS.len(), 1));
        let backup = Connection::open(dir.path().join("vms.db.before-2")).unwrap();
        assert_eq!((version(&backup).unwrap(), rows(&backup)), (1, 1));
        let unfinished = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains("unfinished");
        assert!(!fs::read_dir(dir.path()).unwrap().flatten().any(|entry| unfinished(&entry)));
    }

    #[test]
    fn a_reader_migrates_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        drop(old(&path));
        let registry = crate::registry::Registry::read_only(&path).unwrap();
        assert_eq!(registry.list().unwrap().len(), 1);
        assert!(registry.removed().unwrap().is_empty());
        assert!(dir.path().join("vms.db.before-2").exists());
    }

    #[test]
    fn a_migration_that_fails_changes_nothing_and_leaves_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        drop(old(&path));
        let broken = [MIGRATIONS[0], "ALTER TABLE vms ADD COLUMN more TEXT; SELECT no_such_function();"];
        for _attempt in 0..2 {
            assert!(matches!(open_with(&path, &broken), Err(RegistryError::Database { .. })));
            let kept = open_with(&path, &MIGRATIONS[..1]).unwrap();
            assert_eq!((version(&kept).unwrap(), rows(&kept)), (1, 1));
            assert!(kept.prepare("SELECT more FROM vms").is_err());
            assert!(dir.path().join("vms.db.before-2").exists());
        }
        assert_eq!(rows(&open(&path).unwrap()), 1);
    }

    #[test]
    fn a_newer_database_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        // Not even in WAL mode, which a writer would change.
        let newer = Connection::open(&path).unwrap();
        newer.execute_batch("CREATE TABLE of_tomorrow (x); PRAGMA user_version = 99").unwrap();
        drop(newer);
        let before = fs::read(&path).unwrap();
        assert!(matches!(open(&path), Err(RegistryError::Newer { found: 99, .. })));
        assert!(matches!(open_read_only(&path), Err(RegistryError::Newer { found: 99, .. })));
        assert!(fs::read(&path).unwrap() == before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn who_deletes_a_row_leaves_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        drop(old(&path));
        let connection = open(&path).unwrap();
        connection.execute("DELETE FROM vms", []).unwrap();
        let note: String = connection.query_row("SELECT vm_id FROM removed", [], |row| row.get(0)).unwrap();
        assert_eq!(note, "0123456789ab");
        let (state, name, at_ms): (String, String, i64) = connection
            .query_row("SELECT state, name, at_ms FROM events", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        assert_eq!((state.as_str(), name.as_str()), ("removed", "old"));
        assert!(i64::try_from(now).unwrap().abs_diff(at_ms) < 60_000, "{at_ms}");
    }
}
