//! The run store: what ran, how it ended, and where its log is.
//!
//! Rows are in `runs.db` (SQLite, WAL) and logs in `runs/<id>/job-<n>.log`, both below the data directory. Logs only
//! grow; the database holds offsets into them, and a step's end is written after its log is on disk. The process that
//! executes a run is named in the row before anything starts; a run whose process is gone is *interrupted*: readers
//! show it so at once, the next writer records it.
//!
//! What is learned from runs (`learning`) is kept in the same database: events, and counters made of them.
//!
//! The SQL is what SQLite and PostgreSQL have in common; only the migrations and `open` know SQLite.
//! To add a column: a new file in `migrations/` (never change an old one), then `record`, `write` and `read`.

mod error;
mod learning;
mod learning_rows;
mod log;
mod observer;
mod open;
mod read;
mod record;
mod write;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use learning::{LearnedModels, Rebuilt};
pub use log::{LogWriter, RunFiles, TIMESTAMP_WIDTH};
pub use observer::StoreObserver;
pub use record::{
    AnnotationRecord, JobRecord, NewRun, RunDetail, RunId, RunRecord, StepRecord, StoredConclusion,
};
pub use write::{JobEnd, JobStart, RunEnd, StepEnd, StepState};

use std::path::{Path, PathBuf};

use sqlx::SqlitePool;

/// The runs of one data directory.
#[derive(Clone, Debug)]
pub struct RunStore {
    data: PathBuf,
    pool: SqlitePool,
}

impl RunStore {
    /// Opens for writing: makes or migrates the database and records runs whose process is gone as interrupted.
    ///
    /// # Errors
    /// The database is newer, damaged or cannot be written.
    pub async fn open(data: &Path) -> Result<RunStore, StoreError> {
        let pool = open::for_writing(data).await?;
        let store = RunStore { data: data.to_owned(), pool };
        store.record_interrupted().await?;
        Ok(store)
    }

    /// Opens for reading; `None` when nothing was ever recorded.
    ///
    /// # Errors
    /// The database is newer, damaged or cannot be read.
    pub async fn open_to_read(data: &Path) -> Result<Option<RunStore>, StoreError> {
        Ok(open::for_reading(data).await?.map(|pool| RunStore { data: data.to_owned(), pool }))
    }

    /// Where the files of a run are.
    #[must_use]
    pub fn files(&self, run: RunId) -> RunFiles {
        RunFiles::new(&self.data, run)
    }

    /// Writes back what SQLite still holds in its log and closes.
    pub async fn close(self) {
        self.pool.close().await;
    }
}
