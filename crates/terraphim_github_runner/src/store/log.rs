//! Log files: one per job, append-only, one line of text per line with its time before it.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{
    RunId,
    error::{IoContext as _, StoreError},
};

/// Every line starts with `2026-11-21T04:30:00.123Z `: this many bytes.
pub const TIMESTAMP_WIDTH: usize = 25;

/// Large enough that 60 MB/s are a few hundred writes a second, small enough for a hundred jobs at once.
const BUFFER: usize = 256 * 1024;

/// The files of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    /// The files of `run` in a data directory.
    #[must_use]
    pub fn new(data: &Path, run: RunId) -> RunFiles {
        RunFiles { dir: data.join("runs").join(run.to_string()) }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log of the job with this number.
    #[must_use]
    pub fn log(&self, job: i64) -> PathBuf {
        self.dir.join(format!("job-{job}.log"))
    }

    /// Made when the run has ended and its row says so: a follower of the logs waits for it.
    #[must_use]
    pub fn end_mark(&self) -> PathBuf {
        self.dir.join("ended")
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(&self) -> Result<(), StoreError> {
        terraphim_vm::make_private_directory(&self.dir).io("create directory", &self.dir)
    }

    /// Makes the end mark.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn mark_end(&self) -> Result<(), StoreError> {
        let path = self.end_mark();
        fs::write(&path, []).io("write", &path)
    }

    /// Removes everything. It may be gone already.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(&self.dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { operation: "remove", path: self.dir.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

/// Appends to the log of one job.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    /// So much of it is on the disk.
    synced: u64,
    clock: LineClock,
}

impl LogWriter {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(path: &Path) -> Result<LogWriter, StoreError> {
        let file = File::options().create(true).append(true).open(path).io("open log", path)?;
        let offset = file.metadata().io("read the size of", path)?.len();
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(LogWriter { path: path.to_owned(), file, offset, synced: offset, clock: LineClock::default() })
    }

    /// How many bytes were written to the log in all.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends one line, given without its line feed.
    ///
    /// # Errors
    /// The file system refuses (a full disk).
    pub fn line(&mut self, at_ms: i64, line: &[u8]) -> Result<(), StoreError> {
        let stamp = self.clock.at(at_ms);
        self.file
            .write_all(stamp)
            .and_then(|()| self.file.write_all(line))
            .and_then(|()| self.file.write_all(b"\n"))
            .io("write log", &self.path)?;
        self.offset += (TIMESTAMP_WIDTH + line.len() + 1) as u64;
        Ok(())
    }

    /// Hands everything to the kernel, so that a follower sees it.
    ///
    /// # Errors
    /// The file system refuses (a full disk).
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.file.flush().io("write log", &self.path)
    }

    /// Brings everything to the disk; called at the end of a step. A step that wrote nothing waits for no disk.
    ///
    /// # Errors
    /// The file system refuses (a full disk).
    ///
    /// # Cancel safety
    /// What was written stays written; only the wait is dropped.
    pub async fn sync(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let written = self.offset;
        if written == self.synced {
            return Ok(());
        }
        let file = self.file.get_ref().try_clone().io("sync log", &self.path)?;
        // A disk may take long; the threads of the runtime have output to move.
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.map_err(io::Error::other).and_then(|result| result).io("sync log", &self.path)?;
        self.synced = written;
        Ok(())
    }
}

/// Formats times of lines; most lines share their millisecond with the line before.
#[derive(Debug, Default)]
struct LineClock {
    at_ms: Option<i64>,
    text: Vec<u8>,
}

impl LineClock {
    fn at(&mut self, at_ms: i64) -> &[u8] {
        if self.at_ms != Some(at_ms) {
            let time = jiff::Timestamp::from_millisecond(at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            self.text.clear();
            self.text.extend_from_slice(time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ ").to_string().as_bytes());
            self.text.resize(TIMESTAMP_WIDTH, b' ');
            self.at_ms = Some(at_ms);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_have_a_time_of_fixed_width_and_offsets_count_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = LogWriter::open(&path).unwrap();
        log.line(1_700_000_000_123, b"one").unwrap();
        log.line(1_700_000_000_000, b"\xff").unwrap();
        log.sync().await.unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!(content, b"2023-11-14T22:13:20.123Z one\n2023-11-14T22:13:20.000Z \xff\n");
        assert_eq!(log.offset(), content.len() as u64);
        drop(log);
        assert_eq!(LogWriter::open(&path).unwrap().offset(), content.len() as u64);
    }
}
