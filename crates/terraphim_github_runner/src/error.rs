//! What can go wrong, grouped by what the caller can do about it.

use std::sync::Arc;
use std::time::Duration;
pub(crate) use terraphim_vm::chain;

use thiserror::Error;

use crate::engine::EngineError;
use crate::http::HttpError;
use crate::llm::{LlmError, Problem};
use crate::models::SessionId;
use crate::workflow::parser::WorkflowProblem;

/// A cause whose type the engine does not know: a provider's or an executor's own error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything in this crate.
pub type Result<T, E = GitHubRunnerError> = std::result::Result<T, E>;

/// An error of the engine.
///
/// A command that ran and failed is not an error: it has an exit code. Everything here means that something
/// did not run, or that it is not known whether it ran.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitHubRunnerError {
    /// All sessions are in use. Try again after one was released, or queue (`SessionManagerConfig::at_limit`).
    #[error("all {limit} sessions are in use")]
    SessionLimit {
        /// `SessionManagerConfig::max_concurrent_sessions`.
        limit: usize,
    },
    /// There is no such session: never created, or released so long ago that it is forgotten.
    #[error("there is no session {session_id}")]
    SessionNotFound {
        /// The id asked for.
        session_id: SessionId,
    },
    /// A session with this id exists already; one workflow run has one session.
    #[error("session {session_id} exists already")]
    SessionExists {
        /// The id given.
        session_id: SessionId,
    },
    /// The session is over: finished, released or being released.
    #[error("session {session_id} is over")]
    SessionOver {
        /// The id given.
        session_id: SessionId,
    },
    /// The session manager was shut down.
    #[error("the session manager is shut down")]
    ShutDown,
    /// No VM was ready within `SessionManagerConfig::allocation_timeout`.
    #[error("no VM of type {vm_type} was ready within {after:?}")]
    AllocationTimedOut {
        /// The type asked for.
        vm_type: String,
        /// How long was waited.
        after: Duration,
    },
    /// The provider could not give a VM.
    #[error("cannot allocate a VM of type {vm_type}")]
    Allocation {
        /// The type asked for.
        vm_type: String,
        /// What the provider said.
        #[source]
        source: BoxError,
    },
    /// The provider could not take a VM back. The session manager tries again by itself.
    #[error("cannot release VM {vm_id}")]
    Release {
        /// The VM.
        vm_id: String,
        /// What the provider said; shared by everyone who waits for this release.
        #[source]
        source: Arc<GitHubRunnerError>,
    },
    /// The executor cannot do this at all.
    #[error("this executor cannot {operation}")]
    Unsupported {
        /// What was asked for, as a verb phrase.
        operation: &'static str,
    },
    /// A command did not end in time and was stopped.
    #[error("the command did not end within {after:?}")]
    CommandTimedOut {
        /// Its time limit.
        after: Duration,
    },
    /// Setup and steps together took too long.
    #[error("the workflow did not end within {after:?}")]
    WorkflowTimedOut {
        /// Its time limit.
        after: Duration,
    },
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// A task of the engine panicked; the payload was printed by the panic hook.
    #[error("{task} panicked")]
    Panicked {
        /// Which task.
        task: &'static str,
    },
    /// A task of the engine was dropped before its end.
    #[error("{task} was interrupted")]
    Interrupted {
        /// Which task.
        task: &'static str,
    },
    /// The engine refused the workflow; nothing was started.
    #[error("the engine refused the workflow")]
    Engine(#[source] Box<EngineError>),
    /// A workflow that cannot be executed as it is written.
    #[error("the workflow cannot be executed")]
    InvalidWorkflow(#[from] WorkflowProblem),
    /// A VM host did not answer, or not as its API says.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A language model did not answer, or not as it was asked to.
    #[error(transparent)]
    Llm(#[from] LlmError),
    /// A provider's or executor's own failure.
    #[error("cannot {operation}")]
    Failed {
        /// What was being done, as a verb phrase with its object.
        operation: String,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
}

impl Problem for GitHubRunnerError {
    fn told(&self) -> String {
        chain(self)
    }
}

impl GitHubRunnerError {
    /// A failure of a provider or an executor: `operation` is a verb phrase (`"boot vm 7f3a"`).
    pub fn failed(operation: impl Into<String>, source: impl Into<BoxError>) -> Self {
        GitHubRunnerError::Failed { operation: operation.into(), source: source.into() }
    }
}
