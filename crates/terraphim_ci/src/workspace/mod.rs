//! The working tree: which files a run gets, and what git knows about them.
//!
//! In a git repository these are the tracked files and the untracked ones that are not ignored, with modes and links, and
//! `.git` itself, so that git works in the guest. A linked worktree gets its shared repository with the worktree's own
//! `HEAD` and index in place. Elsewhere it is the directory.

mod git;
mod list;
mod pack;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use git::{GitInfo, Repository};
pub(crate) use list::{Entry, Everything, Tree};
pub(crate) use pack::pack;
pub(crate) use source::{TreeSource, tar_stream};

use std::{io, path::PathBuf};

use thiserror::Error;

/// The working tree cannot be read.
#[derive(Debug, Error)]
pub(crate) enum WorkspaceError {
    /// Git is needed and not there.
    #[error("cannot run git to read the working tree at {}; install it (sudo apt-get install git)", path.display())]
    NoGit {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Git refused.
    #[error("`git {command}` failed in {}: {message}", path.display())]
    Git { command: String, path: PathBuf, message: String },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file became shorter while it was read: what was sent is neither the old nor the new one.
    #[error("{} became shorter while it was read; run again when nothing writes to the working tree", path.display())]
    Shrunk { path: PathBuf },
}

/// Names the file operation that failed.
trait IoContext<T> {
    fn io(self, operation: &'static str, path: &std::path::Path) -> Result<T, WorkspaceError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn io(self, operation: &'static str, path: &std::path::Path) -> Result<T, WorkspaceError> {
        self.map_err(|source| WorkspaceError::Io { operation, path: path.to_owned(), source })
    }
}
