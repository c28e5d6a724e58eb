//! Opening the database and bringing it to the present schema.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use thiserror::Error;

use crate::VmId;

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
    #[error("the row of VM {id} in the registry is damaged: {what}")]
    Row {
        /// The row's id as stored.
        id: String,
        /// Which column.
        what: &'static str,
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

/// Longest wait for another writer; writes take well under a millisecond, so this long means a stuck process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const MIGRATIONS: &[&str] = &["
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
"];

/// Opens for writing, making and migrating the database as needed.
pub(super) fn open(path: &Path) -> Result<Connection, RegistryError> {
    let database = |source| RegistryError::Database { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| RegistryError::Io { path: parent.to_owned(), source })?;
    }
    let mut connection = Connection::open(path).map_err(database)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database)?;
    if version(&connection).map_err(database)? == MIGRATIONS.len() {
        return Ok(connection);
    }
    // Several first commands may be here at once: who gets the write lock migrates, the others find it done.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(database)?;
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
    let found = version(&transaction).map_err(database)?;
    if found > MIGRATIONS.len() {
        return Err(RegistryError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    if found > 0 && found < MIGRATIONS.len() {
        let backup = path.with_extension(format!("db.before-{}", found + 1));
        fs::copy(path, &backup).map_err(|source| RegistryError::Io { path: backup, source })?;
    }
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration).map_err(database)?;
    }
    transaction
        .pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))
        .map_err(database)?;
    transaction.commit().map_err(database)?;
    Ok(connection)
}

/// Opens for reading only; `None` when there is no database yet.
pub(super) fn open_read_only(path: &Path) -> Result<Option<Connection>, RegistryError> {
    let database = |source| RegistryError::Database { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RegistryError::Io { path: path.to_owned(), source }),
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(database)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database)?;
    match version(&connection).map_err(database)? {
        0 => Ok(None),
        found if found > MIGRATIONS.len() => {
            Err(RegistryError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() })
        }
        _ => Ok(Some(connection)),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
}
