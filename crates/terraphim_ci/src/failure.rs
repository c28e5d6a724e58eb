//! Why a command could not do what it was asked: what is printed once, and what the program ends with.

use std::{error::Error, io, path::Path};

use terraphim_github_runner::store::StoreError;
pub(crate) use terraphim_vm::chain;
use terraphim_vm::{VmError, image::ImageError, registry::RegistryError};
use thiserror::Error;

use crate::{exit::Exit, output};

/// The end of a command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the program ends with.
    pub(crate) exit: Exit,
    /// Printed with its causes; nothing is printed without one.
    cause: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

/// A sentence of our own.
#[derive(Debug, Error)]
#[error("{0}")]
struct Sentence(String);

impl Failure {
    /// The user asked for something impossible.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::caused(Exit::Usage, Sentence(message.into()))
    }

    /// The host cannot do it.
    pub(crate) fn fault(message: impl Into<String>) -> Failure {
        Failure::caused(Exit::Infrastructure, Sentence(message.into()))
    }

    /// An error and what to end with.
    pub(crate) fn caused(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { exit, cause: Some(cause.into()), hint: None }
    }

    /// A file operation failed.
    pub(crate) fn io(operation: &str, object: &Path, source: io::Error) -> Failure {
        let message = format!("cannot {operation} {}", object.display());
        Failure::caused(Exit::Infrastructure, WithSource { message, source: source.into() })
    }

    /// Ends without a word.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure { exit, cause: None, hint: None }
    }

    /// The same with another end.
    #[must_use]
    pub(crate) fn ending(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The causes on one line, for whoever is told in another way.
    pub(crate) fn message(&self) -> String {
        self.cause.as_ref().map_or_else(String::new, |cause| chain(cause.as_ref()))
    }

    /// Prints it: the causes on one line, then the hint.
    pub(crate) fn report(&self) {
        let Some(cause) = &self.cause else { return };
        output::error(&chain(cause.as_ref()));
        if let Some(hint) = &self.hint {
            output::hint(hint);
        }
    }
}

#[derive(Debug, Error)]
#[error("{message}")]
struct WithSource {
    message: String,
    source: Box<dyn Error + Send + Sync>,
}

/// Puts an operation before an error.
pub(crate) trait Context<T> {
    /// `operation`, then the error as its cause; ends as an infrastructure fault.
    fn context(self, operation: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, operation: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| {
            let error = WithSource { message: operation.into(), source: source.into() };
            Failure::caused(Exit::Infrastructure, error)
        })
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Failure {
        let exit = match &error {
            VmError::NotFound(_)
            | VmError::Ambiguous { .. }
            | VmError::NoExecution { .. }
            | VmError::Offset { .. }
            | VmError::Invalid(_)
            | VmError::WrongState { .. }
            | VmError::Image(
                ImageError::NotFound(_)
                | ImageError::Ambiguous { .. }
                | ImageError::Recipe(_)
                | ImageError::InUse { .. },
            ) => Exit::Usage,
            _ => Exit::Infrastructure,
        };
        let hint = match &error {
            VmError::Registry(error) => registry_hint(error),
            VmError::Io { path, source, .. } if is_denied(source) => read_only(path),
            VmError::Io { path, source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some(make_room(path))
            }
            // A supervisor's: its message names the file.
            VmError::Refused { status: INSUFFICIENT_STORAGE, .. } => {
                Some("make room on that file system".to_owned())
            }
            VmError::Offset { .. } => Some(
                "`--from 0` shows all of it; without `--from` it goes on behind what was shown last"
                    .to_owned(),
            ),
            _ => None,
        };
        let failure = Failure::caused(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The HTTP status with which a supervisor says that the host's disk is full.
const INSUFFICIENT_STORAGE: u16 = 507;

// SQLite's result codes (sqlite.org/rescode.html).
const SQLITE_BUSY: i32 = 5;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;

/// What to do about a registry that fails; what is in its way is told by the file, not by SQLite.
fn registry_hint(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::Database { path, source } => {
            // The lowest byte is the code, the others say more.
            let code = source.sqlite_error()?.extended_code & 0xff;
            database_hint(path, code, "VMs that run go on without being known")
        }
        RegistryError::Io { path, source } if is_denied(source) => read_only(path),
        RegistryError::Newer { .. } => {
            Some("or use another directory with this one (`--data-dir`)".to_owned())
        }
        RegistryError::Row { .. } => Some("other VMs are not concerned".to_owned()),
        _ => None,
    }
}

const HOLDS_THE_LOCK: &str = "another program, such as an SQLite shell, holds the write lock";

fn database_hint(path: &Path, code: i32, loss: &str) -> Option<String> {
    match code {
        SQLITE_CORRUPT | SQLITE_NOTADB => {
            Some(format!("move {} away to start with an empty one; {loss}", path.display()))
        }
        SQLITE_FULL => Some(make_room(path)),
        // Of a full disk too, where it is the shared memory beside the database that has no room.
        SQLITE_IOERR => Some(format!("if it is full, {}", make_room(path))),
        // Ours write for a tenth of a millisecond, and wait for others for ten seconds.
        SQLITE_BUSY => {
            Some(format!("{HOLDS_THE_LOCK} of {}: close it, or end its transaction", path.display()))
        }
        SQLITE_READONLY | SQLITE_CANTOPEN => read_only(path),
        _ => None,
    }
}

fn make_room(path: &Path) -> String {
    format!("make room on the file system of {}", path.display())
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The nearest directory or file that is there and cannot be written, and why. SQLite writes beside a database that it reads.
fn read_only(path: &Path) -> Option<String> {
    use rustix::fs::Access;
    let existing = path.ancestors().find(|path| path.exists())?;
    let directory = existing.ancestors().find(|path| path.is_dir())?;
    let denied = [(existing, Access::WRITE_OK), (directory, Access::WRITE_OK | Access::EXEC_OK)]
        .into_iter()
        .find_map(|(path, access)| Some((path, rustix::fs::access(path, access).err()?)));
    let (path, errno) = denied?;
    Some(format!(
        "{} cannot be written: {}; make it writable, or use another directory (`--data-dir` or TCI_DATA_DIR)",
        path.display(),
        io::Error::from(errno)
    ))
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        VmError::Image(error).into()
    }
}

/// The store names no file; which one it is `tci doctor` finds out.
fn store_hint(code: Option<&str>) -> Option<String> {
    let code: i32 = code?.parse().ok()?;
    match code & 0xff {
        SQLITE_FULL => Some("make room on the file system of the data directory".to_owned()),
        SQLITE_IOERR => Some("if it is full, make room on the file system of the data directory".to_owned()),
        SQLITE_BUSY => Some(format!(
            "{HOLDS_THE_LOCK} of runs.db in the data directory: close it, or end its transaction"
        )),
        SQLITE_READONLY | SQLITE_CANTOPEN => {
            Some("the data directory has to be writable: `tci doctor` says why it is not".to_owned())
        }
        _ => None,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let hint = match &error {
            StoreError::NotFound(_) => Some("`tci runs ls` shows the runs".to_owned()),
            StoreError::LearnedAlready => Some("use another directory (`--data-dir`)".to_owned()),
            StoreError::Running { .. } => Some("stop it first (Ctrl-C in its terminal)".to_owned()),
            StoreError::Newer { .. } => {
                Some("use the newer tci, or another directory (`--data-dir`)".to_owned())
            }
            StoreError::Corrupt { path, .. } => {
                Some(format!("move {} away to start with an empty store", path.display()))
            }
            StoreError::Io { path, source, .. } if is_denied(source) => read_only(path),
            StoreError::Database { source, .. } => {
                let code = source.as_database_error().and_then(|error| error.code());
                store_hint(code.as_deref())
            }
            _ => None,
        };
        let exit = match &error {
            StoreError::NotFound(_) | StoreError::Running { .. } | StoreError::LearnedAlready => Exit::Usage,
            _ => Exit::Infrastructure,
        };
        let failure = Failure::caused(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_what_helps() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let ours = Failure::from(VmError::Io { operation: "write", path: "/x/notes".into(), source: full() });
        assert!(ours.message().starts_with("cannot write /x/notes: no s"), "{}", ours.message());
        assert_eq!(ours.remedy(), Some("make room on the file system of /x/notes"));
        let theirs =
            VmError::Refused { status: INSUFFICIENT_STORAGE, message: "cannot write /x/notes".into() };
        assert_eq!(Failure::from(theirs).remedy(), Some("make room on that file system"));
    }

    #[test]
    fn what_cannot_be_written_is_named_with_the_cause() {
        let hint = read_only(Path::new("/proc/1/nowhere/vms.db"));
        // Root may write there, as far as modes go, and some kernels say so.
        assert!(hint.is_some() || rustix::process::geteuid().is_root());
        if let Some(hint) = hint {
            assert!(hint.starts_with("/proc/1 cannot be written: ") && hint.contains("--data-dir"), "{hint}");
        }
        let writable = tempfile::tempdir().unwrap();
        assert_eq!(read_only(&writable.path().join("data/vms.db")), None);
        let hint = database_hint(Path::new("/x/vms.db"), SQLITE_NOTADB, "it is lost").unwrap();
        assert_eq!(hint, "move /x/vms.db away to start with an empty one; it is lost");
        assert!(store_hint(Some("14")).unwrap().contains("writable") && store_hint(Some("1")).is_none());
        let hint = database_hint(Path::new("/x/vms.db"), SQLITE_BUSY, "it is lost").unwrap();
        assert!(hint.contains("holds the write lock of /x/vms.db: close it"), "{hint}");
        assert!(store_hint(Some("517")).unwrap().contains("of runs.db"), "its extended codes too");
        let full = [store_hint(Some("4874")), database_hint(Path::new("/x/vms.db"), SQLITE_IOERR, "")];
        assert!(full.iter().all(|hint| hint.as_ref().unwrap().contains("make room on")), "{full:?}");
    }
}
