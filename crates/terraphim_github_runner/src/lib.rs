//! The engine: plan, session, execute, report, learn.

pub mod error;
pub mod models;
pub mod session;
pub mod workflow;

pub use error::{GitHubRunnerError, Result};
pub use models::{
    ExecutionStatus, ExecutionStep, GitHubEvent, GitHubEventType, PullRequestInfo, RepositoryInfo, SessionId,
    SnapshotId, WorkflowContext, WorkflowResult,
};
pub use session::{AtLimit, Session, SessionManagerConfig, SessionState, SessionStats, VmProvider};
pub use workflow::{
    Capabilities, CommandExecutor, CommandResult, Exit, FileToWrite, Mount, OutputSink, ParsedWorkflow,
    ProcessOutcome, ProcessSpec, ReturnedFile, StopLadder, StopReason, Stream, WorkflowExecutorConfig,
    WorkflowProblem, WorkflowStep,
};
