//! One process in a VM: what to run, where its output goes, how it ended.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// One process in full.
///
/// Standard input is always empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Environment variables, in order; a later one replaces an earlier one.
    pub env: Vec<(String, String)>,
    /// The working directory; must exist.
    pub cwd: String,
    /// The guest's user; the executor's default when absent.
    pub user: Option<String>,
    /// The view to run in, made by [`create_view`](super::CommandExecutor::create_view).
    pub view: Option<String>,
    /// Small files to write before the process starts, owned by `user`.
    pub write_files: Vec<FileToWrite>,
    /// Absolute paths whose content to return after the process ended.
    pub return_files: Vec<String>,
    /// What it leaves running goes on under this name, until [`end_left`](super::CommandExecutor::end_left), where the executor
    /// can do that; otherwise it ends with the process.
    pub keep_left: Option<String>,
    /// How long it may run before it is stopped.
    pub timeout: Duration,
    /// How it is stopped.
    pub stop: StopLadder,
}

impl ProcessSpec {
    /// `bash -c command` in `cwd` with nothing else set.
    pub fn shell(command: impl Into<String>, cwd: impl Into<String>, timeout: Duration) -> Self {
        ProcessSpec {
            argv: vec!["bash".to_owned(), "-c".to_owned(), command.into()],
            env: Vec::new(),
            cwd: cwd.into(),
            user: None,
            view: None,
            write_files: Vec::new(),
            return_files: Vec::new(),
            keep_left: None,
            timeout,
            stop: StopLadder::default(),
        }
    }
}

/// A small file to write before a process starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToWrite {
    /// Absolute path as the process will see it. Missing parent directories are made.
    pub path: String,
    /// The content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// A file that was asked for in [`ProcessSpec::return_files`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnedFile {
    /// The path as it was asked for.
    pub path: String,
    /// The content; `None` when there is no such file.
    pub content: Option<Bytes>,
}

/// A process that another one left running, and that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftProcess {
    /// Its number in the guest.
    pub pid: i32,
    /// The name of its program.
    pub name: String,
}

/// The steps by which a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopLadder {
    /// How long it gets after `SIGINT`.
    pub interrupt: Duration,
    /// How long it then gets after `SIGTERM`, before its whole tree is killed.
    pub terminate: Duration,
}

impl Default for StopLadder {
    /// GitHub's own runner gives 7.5 s after `SIGINT` and 2.5 s after `SIGTERM`.
    fn default() -> Self {
        StopLadder { interrupt: Duration::from_millis(7500), terminate: Duration::from_millis(2500) }
    }
}

impl StopLadder {
    /// How long stopping takes at most.
    #[must_use]
    pub fn total(self) -> Duration {
        self.interrupt + self.terminate
    }
}

/// One of the two outputs of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the output of a process as it comes.
#[async_trait]
pub trait OutputSink: Send {
    /// Takes the next bytes of one stream. The process is slowed down while this waits.
    ///
    /// # Errors
    /// An error ends the process: its output could not be kept.
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()>;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The code a shell would report: the exit code, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// Whether this is `exit 0`.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// Why the executor stopped a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It ran longer than [`ProcessSpec::timeout`].
    Timeout,
    /// The run was cancelled.
    Cancelled,
}

/// What became of a process that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessOutcome {
    /// How it ended.
    pub exit: Exit,
    /// Set when the executor stopped it; it may still have ended with code 0.
    pub stopped: Option<StopReason>,
    /// The files asked for, in the order of [`ProcessSpec::return_files`].
    pub files: Vec<ReturnedFile>,
    /// From start to end.
    pub duration: Duration,
}

impl ProcessOutcome {
    /// Whether it ended with code 0 by itself.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.stopped.is_none() && self.exit.is_success()
    }
}

/// One mount of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// `source` appears at `target`.
    Bind {
        /// The directory to show; made when it does not exist.
        source: String,
        /// Where it appears.
        target: String,
        /// Owner of `source` when it has to be made.
        owner: Option<String>,
        /// Mode of `source` when it has to be made.
        mode: Option<u32>,
    },
    /// A writable layer over `lower`.
    Overlay {
        /// The read-only directory.
        lower: String,
        /// The directory that takes the changes.
        upper: String,
        /// Where the result appears.
        target: String,
        /// Owner of `upper` when it has to be made.
        owner: Option<String>,
    },
}

/// What a [`CommandExecutor`](super::CommandExecutor) can do beyond running a shell command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `write_files`, `return_files`, `upload` and `download`.
    pub files: bool,
    /// `create_view` and [`ProcessSpec::view`].
    pub views: bool,
    /// Output arrives while the process runs.
    pub streaming: bool,
    /// `create_snapshot` and `rollback`.
    pub snapshots: bool,
}
