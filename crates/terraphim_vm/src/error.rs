//! What can go wrong with VMs.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    SpecProblem, VmId, VmState, agent::AgentError, driver::qmp::QmpError, image::ImageError,
    registry::RegistryError,
};

/// A VM operation failed.
#[derive(Debug, Error)]
pub enum VmError {
    /// No data directory was given and none follows from the environment.
    #[error("cannot tell where to keep data: set TCI_DATA_DIR or HOME")]
    NoHome,
    /// No VM has this name or id.
    #[error("there is no VM `{0}` (`tci vm ls` shows them)")]
    NotFound(String),
    /// Several ids start so.
    #[error("`{prefix}` is the start of several ids: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// The definition is wrong.
    #[error("cannot create VM: {}", sentences(.0))]
    Invalid(Vec<SpecProblem>),
    /// The VM has no such execution.
    #[error("VM {id} has no execution `{exec}` (`tci vm exec --list` shows them)")]
    NoExecution {
        /// Which VM.
        id: VmId,
        /// What was asked for.
        exec: String,
    },
    /// An execution cannot be followed from this offset.
    #[error("no event of execution {exec} begins at offset {offset} of its output")]
    Offset {
        /// Which execution.
        exec: String,
        /// What was asked for, in bytes.
        offset: u64,
    },
    /// The VM is in a state in which this cannot be done.
    #[error("VM {id} is {state}")]
    WrongState {
        /// Which VM.
        id: VmId,
        /// Its state.
        state: VmState,
    },
    /// The supervisor could not start the VM.
    #[error("cannot start VM {id}: {message}")]
    Start {
        /// Which VM.
        id: VmId,
        /// What failed, with the end of the hypervisor's own output.
        message: String,
    },
    /// The supervisor does not answer.
    #[error("cannot reach the supervisor of VM {id} at {}", socket.display())]
    Unreachable {
        /// Which VM.
        id: VmId,
        /// Its control socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The supervisor takes a call and says nothing, not even that it lives: it is stopped, or hangs.
    #[error(
        "the supervisor of VM {id} has not answered for {seconds} s; the VM may run on, `tci vm stop {id}` ends it"
    )]
    Silent {
        /// Which VM.
        id: VmId,
        /// How long.
        seconds: u64,
    },
    /// The supervisor refused a call.
    #[error("{message}")]
    Refused {
        /// The HTTP status of the answer.
        status: u16,
        /// Its text.
        message: String,
    },
    /// The connection to the supervisor broke in the middle of a call.
    #[error("connection to the supervisor of VM {id} broke while it did `{call}`")]
    Broken {
        /// Which VM.
        id: VmId,
        /// Which call.
        call: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The VM has no such snapshot.
    #[error("there is no snapshot `{0}`")]
    NoSnapshot(String),
    /// QEMU could not save or load a snapshot.
    #[error("cannot {operation} snapshot {id}: QEMU says: {message}")]
    Snapshot {
        /// A verb.
        operation: &'static str,
        /// Which snapshot.
        id: String,
        /// QEMU's words.
        message: String,
    },
    /// The processes of a VM are still there after everything was tried.
    #[error("VM {id} does not end: {detail}")]
    Stuck {
        /// Which VM.
        id: VmId,
        /// What still runs.
        detail: String,
    },
    /// The host cannot run VMs.
    #[error("{what}: {remedy}")]
    Host {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
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
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image store failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The agent in the guest failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// QEMU refused a command.
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

fn sentences(problems: &[SpecProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Names the file operation that failed.
pub(crate) trait IoContext<T> {
    fn io(self, operation: &'static str, path: &std::path::Path) -> Result<T, VmError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn io(self, operation: &'static str, path: &std::path::Path) -> Result<T, VmError> {
        self.map_err(|source| VmError::Io { operation, path: path.to_owned(), source: source.into() })
    }
}

/// The error and its causes on one line, for people. What a cause repeats of its error is not told twice, be it the whole or the beginning.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if next.starts_with(&last) {
            text.truncate(text.len() - last.len());
            text += &next;
            last = next;
        } else if !last.contains(&next) {
            text += ": ";
            text += &next;
            last = next;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Told {
        message: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn causes_are_told_in_one_line_and_never_twice() {
        let told = |messages: &[&'static str]| {
            let make = |source, message: &&'static str| Some(Box::new(Told { message, source }));
            chain(&*messages.iter().rev().fold(None, make).unwrap())
        };
        assert_eq!(told(&["cannot start", "no such file"]), "cannot start: no such file");
        let whole = ["cannot start: cannot read x", "cannot read x", "no such file"];
        assert_eq!(told(&whole), "cannot start: cannot read x: no such file");
        let beginning = ["the run failed", "cannot start VM a", "cannot start VM a: no QEMU", "install it"];
        assert_eq!(told(&beginning), "the run failed: cannot start VM a: no QEMU: install it");
    }
}
