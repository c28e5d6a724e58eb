//! Events, contexts and results: what goes into a run and what comes out of it.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies a session, and with it the run of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new random id.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that differs every time would surprise")]
    pub fn new() -> Self {
        SessionId(Uuid::new_v4())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a snapshot of a VM, by the VM host's name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl SnapshotId {
    /// The id with this name.
    pub fn new(id: impl Into<String>) -> Self {
        SnapshotId(id.into())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of a GitHub event; written as GitHub writes it (`pull_request`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum GitHubEventType {
    /// `pull_request`.
    PullRequest,
    /// `push`.
    Push,
    /// `workflow_dispatch`: started by hand.
    WorkflowDispatch,
    /// Any other, by its name.
    Unknown(String),
}

impl GitHubEventType {
    /// GitHub's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            GitHubEventType::PullRequest => "pull_request",
            GitHubEventType::Push => "push",
            GitHubEventType::WorkflowDispatch => "workflow_dispatch",
            GitHubEventType::Unknown(name) => name,
        }
    }
}

impl From<String> for GitHubEventType {
    fn from(name: String) -> Self {
        match name.as_str() {
            "pull_request" => GitHubEventType::PullRequest,
            "push" => GitHubEventType::Push,
            "workflow_dispatch" => GitHubEventType::WorkflowDispatch,
            _ => GitHubEventType::Unknown(name),
        }
    }
}

impl From<GitHubEventType> for String {
    fn from(event_type: GitHubEventType) -> Self {
        event_type.name().to_owned()
    }
}

/// What happened on GitHub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GitHubEvent {
    /// The kind of event.
    pub event_type: GitHubEventType,
    /// The activity type, for instance `opened`.
    pub action: Option<String>,
    /// Where it happened.
    pub repository: RepositoryInfo,
    /// The pull request, if it is about one.
    pub pull_request: Option<PullRequestInfo>,
    /// The branch or tag, for instance `refs/heads/main`.
    pub git_ref: Option<String>,
    /// The commit.
    pub sha: Option<String>,
    /// Everything else of the payload.
    #[serde(flatten)]
    pub extra: HashMap<String, serde_json::Value>,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryInfo {
    /// `owner/name`.
    pub full_name: String,
    /// Where to clone it from.
    pub clone_url: Option<String>,
    /// For instance `main`.
    pub default_branch: Option<String>,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestInfo {
    /// Its number in the repository.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its page.
    pub html_url: String,
    /// The branch to merge.
    pub head_branch: Option<String>,
    /// The branch to merge into.
    pub base_branch: Option<String>,
}

/// What a run of a workflow is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowContext {
    /// The id of the run's session.
    pub session_id: SessionId,
    /// Why it runs.
    pub event: GitHubEvent,
    /// Its VM, once there is one.
    pub vm_id: Option<String>,
    /// When the context was made.
    pub started_at: DateTime<Utc>,
    /// Environment variables of every command; those of the workflow win.
    pub env_vars: HashMap<String, String>,
    /// Where setup and cleanup commands run.
    pub working_dir: String,
    /// Snapshots taken, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// What ran so far.
    pub execution_history: Vec<ExecutionStep>,
}

impl WorkflowContext {
    /// A new run for `event`, with a session id of its own, in `/workspace`.
    #[must_use]
    pub fn new(event: GitHubEvent) -> Self {
        WorkflowContext {
            session_id: SessionId::new(),
            event,
            vm_id: None,
            started_at: Utc::now(),
            env_vars: HashMap::new(),
            working_dir: "/workspace".to_owned(),
            snapshots: Vec::new(),
            execution_history: Vec::new(),
        }
    }
}

/// Where a step is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    /// It has not started.
    Pending,
    /// It runs.
    Running,
    /// It ended with exit code 0.
    Success,
    /// It ended otherwise, was stopped, or could not run.
    Failed,
    /// It was not run because of what happened before.
    Skipped,
    /// It failed, and what it did to the VM was undone.
    RolledBack,
}

/// One command of a run, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionStep {
    /// Identifies this execution.
    pub id: Uuid,
    /// The name of the step.
    pub name: String,
    /// What ran.
    pub command: String,
    /// How it went.
    pub status: ExecutionStatus,
    /// Its exit code, if it ran to an end.
    pub exit_code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error, and why it was stopped or could not run.
    pub stderr: String,
    /// From start to end in milliseconds.
    pub duration_ms: u64,
    /// The snapshot taken after it.
    pub snapshot_id: Option<SnapshotId>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

impl ExecutionStep {
    /// A step that has not started.
    pub fn new(name: impl Into<String>, command: impl Into<String>) -> Self {
        ExecutionStep {
            id: Uuid::new_v4(),
            name: name.into(),
            command: command.into(),
            status: ExecutionStatus::Pending,
            exit_code: None,
            stdout: String::new(),
            stderr: String::new(),
            duration_ms: 0,
            snapshot_id: None,
            started_at: Utc::now(),
            completed_at: None,
        }
    }

    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == ExecutionStatus::Success
    }
}

/// What became of a run. [`format_for_github`](Self::format_for_github) makes a comment of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowResult {
    /// The session it ran in.
    pub session_id: SessionId,
    /// Whether every command that counts succeeded.
    pub success: bool,
    /// Setup, steps and cleanup, in the order in which they ran; skipped ones included.
    pub steps: Vec<ExecutionStep>,
    /// From the first command to the last, in milliseconds.
    pub total_duration_ms: u64,
    /// The newest snapshot.
    pub final_snapshot: Option<SnapshotId>,
    /// One sentence.
    pub summary: String,
    /// What was learned before and applies here.
    pub lessons: Vec<String>,
    /// What could be done better.
    pub suggestions: Vec<String>,
}
