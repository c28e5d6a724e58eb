//! The one line that a supervisor sends to the process that started it.

use std::{io::Write as _, os::fd::FromRawFd as _, os::unix::net::UnixStream};

use serde::{Deserialize, Serialize};

use super::SupervisorArgs;

/// The hidden subcommand under which the program starts itself as a supervisor.
pub(crate) const SUBCOMMAND: &str = "vm-supervisor";

/// How a start went. End of file instead of a line: the supervisor died.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readiness {
    /// The hypervisor runs and the row says so.
    Running,
    /// Another supervisor has the VM.
    AlreadyOwned,
    /// The VM is not in the registry.
    NoSuchVm,
    /// The start failed and the row says why.
    Failed(String),
}

/// The sending end; sends once.
#[derive(Debug)]
pub(crate) struct Lifeline(Option<UnixStream>);

impl Lifeline {
    /// Takes the descriptor that the starter handed down.
    pub(crate) fn take(args: &SupervisorArgs) -> Lifeline {
        Lifeline(args.ready_fd.filter(|fd| *fd > 2).map(|fd| {
            // SAFETY: the starter made the descriptor for this process and named it in the arguments; nothing else in
            // this process uses that number, because nothing has been opened yet.
            let stream = unsafe { UnixStream::from_raw_fd(fd) };
            // Without this the hypervisor would inherit it and the starter would never see its end.
            let _ = rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::CLOEXEC);
            stream
        }))
    }

    pub(crate) fn send(&mut self, readiness: &Readiness) {
        if let Some(mut stream) = self.0.take() {
            let mut line = serde_json::to_string(readiness).expect("plain data is JSON");
            line.push('\n');
            // The starter may be gone; the VM does not depend on it.
            let _ = stream.write_all(line.as_bytes());
        }
    }
}
