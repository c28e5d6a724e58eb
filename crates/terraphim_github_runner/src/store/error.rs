//! What can go wrong with the run store.

use std::{
    io,
    path::{Path, PathBuf},
};

use sqlx::migrate::MigrateError;
use thiserror::Error;

use super::RunId;

/// An operation on the run store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database was written by a newer `tci`.
    #[error("run store {} was written by a newer tci (its version {version} is unknown here)", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The first version that is unknown.
        version: i64,
    },
    /// The file is not a database that this program wrote.
    #[error("run store {} is damaged or no database; it was left as it is", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// Bringing the database to this version's schema failed.
    #[error("cannot migrate run store {}", path.display())]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// A query failed.
    #[error("cannot {operation} in the run store")]
    Database {
        /// A verb and its object.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value cannot be understood.
    #[error("cannot read {what} of the run store")]
    Decode {
        /// Which value.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A baseline can only be imported where nothing was learned.
    #[error("something was learned here already; an export with a baseline needs an empty store")]
    LearnedAlready,
    /// There is no such run.
    #[error("there is no run {0}")]
    NotFound(RunId),
    /// The run is executed by a living process.
    #[error("run {id} is still executed by process {pid}")]
    Running {
        /// Which run.
        id: RunId,
        /// Who executes it.
        pid: i32,
    },
}

/// Names the query that failed.
pub(super) trait QueryContext<T> {
    fn query(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> QueryContext<T> for Result<T, sqlx::Error> {
    fn query(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { operation, source })
    }
}

/// Names the file operation that failed.
pub(super) trait IoContext<T> {
    fn io(self, operation: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> IoContext<T> for Result<T, io::Error> {
    fn io(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { operation, path: path.to_owned(), source })
    }
}
