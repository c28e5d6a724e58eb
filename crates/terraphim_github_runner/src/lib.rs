//! The engine: plan, session, execute, report, learn.
//!
//! A workflow runs in one virtual machine from its first command to its last. Here a workflow in its simple form
//! runs on a VM host with an HTTP API:
//!
//! ```no_run
//! use std::collections::HashMap;
//! use std::sync::Arc;
//!
//! use terraphim_github_runner::{
//!     GitHubEvent, ParsedWorkflow, Result, SessionManager, SessionManagerConfig, VmCommandExecutor,
//!     WorkflowContext, WorkflowExecutor, WorkflowExecutorConfig, WorkflowStep,
//! };
//!
//! # async fn example(jwt: String, github_event: GitHubEvent) -> Result<()> {
//! let executor = VmCommandExecutor::with_auth("http://127.0.0.1:8080", jwt);
//! let session_manager = SessionManager::new(SessionManagerConfig::default());
//! let workflows = WorkflowExecutor::with_executor(
//!     Arc::new(executor),
//!     Arc::new(session_manager),
//!     WorkflowExecutorConfig::default(),
//! );
//!
//! let workflow = ParsedWorkflow {
//!     name: "CI".to_string(),
//!     trigger: "push".to_string(),
//!     environment: HashMap::new(),
//!     setup_commands: vec![],
//!     steps: vec![WorkflowStep {
//!         name: "Build".to_string(),
//!         command: "cargo build --release".to_string(),
//!         working_dir: "/workspace".to_string(),
//!         continue_on_error: false,
//!         timeout_seconds: 300,
//!     }],
//!     cleanup_commands: vec![],
//!     cache_paths: vec![],
//! };
//! let context = WorkflowContext::new(github_event);
//! let result = workflows.execute_workflow(&workflow, &context).await?;
//! println!("{}", result.format_for_github());
//! # Ok(())
//! # }
//! ```

pub mod action;
pub mod engine;
pub mod error;
pub mod fix;
mod http;
pub mod learning;
pub mod llm;
pub mod models;
pub mod schedule;
#[cfg(test)]
#[path = "../tests/support/secret_texts.rs"]
mod secret_texts;
pub mod session;
pub mod settings;
pub mod store;
pub mod words;
pub mod workflow;

pub use error::{GitHubRunnerError, Result};
pub use http::{HttpError, Token};
pub use learning::{
    ApplicableLesson, CommandGraphStats, CommandKnowledgeGraph, InMemoryLearningCoordinator,
    LearningCoordinator, LearningStats, OptimizationType, WorkflowOptimization,
};
pub use models::{
    ExecutionStatus, ExecutionStep, GitHubEvent, GitHubEventType, PullRequestInfo, RepositoryInfo, SessionId,
    SnapshotId, WorkflowContext, WorkflowResult,
};
pub use session::{
    AtLimit, HttpVmProvider, LocalVmProvider, Session, SessionLease, SessionManager, SessionManagerConfig,
    SessionPhase, SessionState, SessionStats, SessionTrace, StateChange, VmProvider,
};
pub use workflow::{
    Capabilities, CommandExecutor, CommandResult, Exit, FileToWrite, LeftProcess, LlmConfig, LlmError,
    LocalCommandExecutor, Mount, OutputSink, ParsedWorkflow, ProcessOutcome, ProcessSpec, ProposalProblem,
    ReturnedFile, StopLadder, StopReason, Stream, VmCommandExecutor, WorkflowExecutor,
    WorkflowExecutorConfig, WorkflowParser, WorkflowProblem, WorkflowStep,
};
