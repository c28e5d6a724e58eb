//! The JSON bodies of the calls.

use serde::{Deserialize, Serialize};

/// What an agent says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The agent's version.
    pub version: String,
    /// Its [`GENERATION`](crate::GENERATION).
    pub generation: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub uptime_ns: u64,
    /// `MemTotal` in KiB.
    pub memory_kib: u64,
    /// What went wrong during start-up without ending it, one line each.
    pub warnings: Vec<String>,
}

/// Settings that the host knows and the guest does not; every field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// The host name to set; `/etc/hosts` follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_ns: Option<u64>,
    /// Hexadecimal bytes to credit to the kernel's random pool, which is then reseeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_hex: Option<String>,
}

/// A private mount namespace for the processes of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its name: `[A-Za-z0-9_.-]{1,100}`.
    pub name: String,
    /// Mounted in this order.
    pub mounts: Vec<ViewMount>,
}

/// One mount of a [`View`]. Missing directories are made, owned by `owner` (user name) or root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ViewMount {
    /// `source` appears at `target`.
    Bind {
        /// The directory to show.
        source: String,
        /// Where it appears.
        target: String,
        /// Owner of `source` when it has to be made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// Mode of `source` when it has to be made, for instance `0o1777` for a `/tmp`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// A writable layer over `lower`; what is written goes to `upper` (its work directory is `upper` + `.work`).
    Overlay {
        /// The read-only directory.
        lower: String,
        /// The directory that takes the changes; on the scratch disk (see [`SCRATCH`]).
        upper: String,
        /// Where the result appears.
        target: String,
        /// Owner of `upper` when it has to be made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
}

/// Where the VM's writable disk is visible in the guest. Overlays need their upper layer on it, because the
/// guest's root is itself an overlay.
pub const SCRATCH: &str = "/run/tci/scratch";

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A small file to write before a process starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWrite {
    /// Absolute path as the process will see it (in its view). Missing parent directories are made.
    pub path: String,
    /// The content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// One process to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the request's `PATH`.
    pub argv: Vec<String>,
    /// The whole environment, unless `inherit_env`.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Adds `env` to a login-like default (`PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`, `TERM` with a
    /// terminal) instead of starting from nothing. The defaults never replace an entry of `env`.
    #[serde(default)]
    pub inherit_env: bool,
    /// Working directory; the user's home when absent. Must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A user name or a number; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The [`View`] to run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// A pseudo-terminal of this size instead of pipes; its output is all `Stdout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Whether `Stdin` frames will follow; otherwise standard input is empty.
    #[serde(default)]
    pub stdin: bool,
    /// Files to write before the process starts, owned by `user`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write_files: Vec<FileWrite>,
    /// Paths whose content is to be returned after the process ended, as [`FileHeader`] and `FileData` frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub return_files: Vec<String>,
    /// What the process leaves running goes on, under this name, until [`LEFT`](crate::call::LEFT) ends it. Otherwise, after
    /// a `Signal` frame, and in a guest without control groups, it is killed as soon as the process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_left: Option<String>,
}

/// What [`LEFT`](crate::call::LEFT) has killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In the order of their numbers.
    pub processes: Vec<EndedProcess>,
}

/// A process that was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedProcess {
    /// Its number in the guest.
    pub pid: i32,
    /// The name of its program, at most 15 bytes.
    pub name: String,
}

/// The process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    /// Its process id in the guest; also its process group and session.
    pub pid: i32,
    /// What the guest itself needed from `fork` to a successful `exec`, in microseconds.
    pub spawn_us: u64,
}

/// A returned file; its content follows as `FileData` frames of `size` bytes in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Index into [`ExecRequest::return_files`].
    pub index: usize,
    /// Length of the content in bytes; 0 when there is no such file.
    pub size: u64,
    /// Whether the file exists.
    pub exists: bool,
    /// Why it could not be read although it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called `exit` with this code (0 to 255).
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell would report: the exit code, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

/// The last frame of a process that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExited {
    /// How it ended.
    pub status: ExitStatus,
    /// From start to end in microseconds, measured in the guest.
    pub duration_us: u64,
    /// How many processes it left behind that were killed.
    pub orphans_killed: u32,
}

/// The last frame of a process that could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailed {
    /// What failed.
    pub reason: ExecFailure,
    /// The operation and the operating system's message, for people.
    pub message: String,
}

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecFailure {
    /// The request makes no sense (empty argv, unknown user or view, NUL in a string).
    BadRequest,
    /// The program does not exist (a shell would say 127).
    NotFound,
    /// The program cannot be executed (a shell would say 126).
    NotExecutable,
    /// The working directory does not exist or cannot be entered.
    WorkingDirectory,
    /// A file of `write_files` could not be written.
    WriteFile,
    /// The guest is out of processes, memory or another resource.
    Resources,
}

/// A port of the guest's loopback interface whose connections go to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The port, on 127.0.0.1; 0 for any that is free.
    #[serde(default)]
    pub port: u16,
}

/// The guest listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardListening {
    /// The port.
    pub port: u16,
}

/// A process in the guest has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardAccepted {
    /// Names the connection; no other of this agent has the number.
    pub connection: u64,
}

/// How the guest is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// How long processes get between `SIGTERM` and `SIGKILL`, in milliseconds.
    pub grace_ms: u64,
}
