//! Why an action is not to be had.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::git::GitError;

/// An address that was asked, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The address.
    pub address: String,
    /// What git said, on one line.
    pub message: String,
}

/// The addresses that were asked.
struct List<'a>(&'a [Tried]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, tried) in self.0.iter().enumerate() {
            let before = if i == 0 { "" } else { "; " };
            write!(f, "{before}{}: {}", tried.address, tried.message)?;
        }
        Ok(())
    }
}

/// Why an action is not to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A part of its name cannot be one.
    #[error("{0} has a part that no repository, directory or ref can have")]
    Unsound(String),
    /// No source has its repository.
    #[error("the repository of {uses} cannot be reached: {}", List(tried))]
    NoRepository {
        /// The action.
        uses: String,
        /// What was tried.
        tried: Vec<Tried>,
    },
    /// The repository has no such branch or tag.
    #[error("{address} has no branch or tag {reference:?}")]
    NoRef {
        /// Where it was looked for.
        address: String,
        /// The ref.
        reference: String,
        /// It looks like the beginning of a commit.
        is_short_commit: bool,
    },
    /// The repository does not give the commit.
    #[error("{address} does not give the commit {commit}: {message}")]
    NoCommit {
        /// The repository.
        address: String,
        /// The commit.
        commit: String,
        /// What git said.
        message: String,
    },
    /// Nothing may be fetched and it is not in the cache.
    #[error("{uses} is not in the cache, and nothing is fetched when offline")]
    Offline {
        /// The action.
        uses: String,
    },
    /// There is a lock file and it has no entry.
    #[error("{uses} is not in {}", lock.display())]
    NotLocked {
        /// The action.
        uses: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// There is no action in the directory of the repository.
    #[error("{uses} has no action.yml, action.yaml or Dockerfile at commit {commit}")]
    NoManifest {
        /// The action.
        uses: String,
        /// The commit.
        commit: String,
    },
    /// What a job calls is no workflow file of a repository.
    #[error("{0} is no workflow of a repository")]
    NotAWorkflow(String),
    /// The repository has no such workflow file.
    #[error("{uses} is not there at commit {commit}")]
    NoWorkflow {
        /// The workflow.
        uses: String,
        /// The commit.
        commit: String,
    },
    /// The cache cannot be read or written.
    #[error("the cache of actions is not usable: {}", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cached repository is damaged.
    #[error("the cached copy in {} is damaged", directory.display())]
    Damaged {
        /// The cached repository.
        directory: PathBuf,
        /// What git said.
        #[source]
        source: GitError,
    },
    /// Git could not be run.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl ActionError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ActionError::NoRepository { .. } => {
                "check the name; for a private repository set TCI_ACTION_TOKEN, for a mirror give --action-mirror"
            }
            ActionError::NoRef { is_short_commit: true, .. } => "give the commit in full, with its 40 digits",
            ActionError::NoRef { .. } => "check the branch or tag",
            ActionError::NoCommit { .. } => {
                "check the commit, or renew the lock file with `tci actions update`"
            }
            ActionError::Offline { .. } => {
                "run once without --offline, or give a directory with --action-mirror"
            }
            ActionError::NotLocked { .. } => "add it with `tci actions lock`",
            ActionError::NoManifest { .. } => "check the path after owner/repository",
            ActionError::NotAWorkflow(_) => "write owner/repository/.github/workflows/FILE@REF",
            ActionError::NoWorkflow { .. } => "check the name of the file and the ref",
            ActionError::Damaged { .. } => "remove that directory; it is fetched again",
            _ => return None,
        })
    }
}
