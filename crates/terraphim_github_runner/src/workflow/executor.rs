//! The border between the engine and whatever runs commands in a VM, and the executor of a
//! [`ParsedWorkflow`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::lower;
use super::parser::ParsedWorkflow;
use super::process::{Capabilities, LeftProcess, Mount, OutputSink, ProcessOutcome, ProcessSpec};
use super::run::{self, Attended};
use crate::engine::{self, EngineError, RunConclusion};
use crate::error::{GitHubRunnerError, Result, chain};
use crate::learning::coordinator::LearningCoordinator;
use crate::models::{SnapshotId, WorkflowContext, WorkflowResult};
use crate::session::{Session, SessionManager};

/// Runs commands in the VM of a session.
///
/// Only [`execute`](Self::execute) has to be written. A command that ran and failed is a success of the
/// executor; an `Err` means that the command did not run, or that it is not known how it ended.
///
/// # Cancel safety
/// Dropping the future of a call stops the command it runs.
#[async_trait]
pub trait CommandExecutor: Send + Sync {
    /// Runs a shell command to its end and returns its output.
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        timeout: Duration,
        working_dir: &str,
    ) -> Result<CommandResult>;

    /// Takes a snapshot of the running VM.
    ///
    /// # Errors
    /// The default cannot.
    async fn create_snapshot(&self, _session: &Session, _name: &str) -> Result<SnapshotId> {
        Err(GitHubRunnerError::Unsupported { operation: "take snapshots of a VM" })
    }

    /// Sets the VM back to a snapshot.
    ///
    /// # Errors
    /// The default cannot.
    async fn rollback(&self, _session: &Session, _snapshot: &SnapshotId) -> Result<()> {
        Err(GitHubRunnerError::Unsupported { operation: "set a VM back to a snapshot" })
    }

    /// Runs a process in full and hands its output to `output` as it comes.
    ///
    /// The default runs one shell command through [`execute`](Self::execute): `bash -c COMMAND` becomes
    /// `COMMAND` itself, anything else is quoted, `env` becomes `export` lines, small files are written by the
    /// same command, and the output is delivered at the end.
    ///
    /// # Errors
    /// The default cannot switch user, enter a view or return files. A process that `timeout` or `cancel`
    /// stopped is not an error: see [`ProcessOutcome::stopped`].
    async fn run_process(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        cancel: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        lower::run_process(self, session, spec, output, cancel).await
    }

    /// Unpacks a tar stream below a directory of the guest.
    ///
    /// # Errors
    /// The default cannot.
    async fn upload(
        &self,
        _session: &Session,
        _guest_dir: &str,
        _tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        Err(GitHubRunnerError::Unsupported { operation: "upload files" })
    }

    /// The same, and the processes of steps may read the files but not change them.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), which the default calls.
    async fn upload_read_only(
        &self,
        session: &Session,
        guest_dir: &str,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        self.upload(session, guest_dir, tar).await
    }

    /// Returns a path of the guest as a tar stream.
    ///
    /// # Errors
    /// The default cannot.
    async fn download(
        &self,
        _session: &Session,
        _guest_path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(GitHubRunnerError::Unsupported { operation: "download files" })
    }

    /// Makes a private set of mounts for the processes of one job.
    ///
    /// # Errors
    /// The default cannot.
    async fn create_view(&self, _session: &Session, _name: &str, _mounts: &[Mount]) -> Result<()> {
        Err(GitHubRunnerError::Unsupported { operation: "create a view" })
    }

    /// Ends what processes have left running under a name, see [`ProcessSpec::keep_left`], and says what that was.
    ///
    /// # Errors
    /// The VM cannot be reached. The default has nothing to end.
    async fn end_left(&self, _session: &Session, _name: &str) -> Result<Vec<LeftProcess>> {
        Ok(Vec::new())
    }

    /// What this executor can do beyond running a shell command.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

/// What became of a shell command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// Its exit code; 128 plus the signal when one ended it.
    pub exit_code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// From start to end.
    pub duration: Duration,
}

impl CommandResult {
    /// Whether the exit code is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit_code == 0
    }
}

/// How a [`WorkflowExecutor`] treats success, failure and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowExecutorConfig {
    /// Take a snapshot after each successful step, if the executor can.
    pub snapshot_on_success: bool,
    /// Set the VM back to the last snapshot after a step failed, before the cleanup commands run.
    pub auto_rollback: bool,
    /// Run no further step after one failed (unless it has `continue_on_error`).
    pub stop_on_failure: bool,
    /// Time limit of setup and cleanup commands, and of steps whose own limit is 0.
    pub default_timeout: Duration,
    /// Time limit of setup and steps together; each cleanup command then still gets its `default_timeout`.
    pub max_execution_time: Duration,
}

impl Default for WorkflowExecutorConfig {
    fn default() -> Self {
        WorkflowExecutorConfig {
            snapshot_on_success: true,
            auto_rollback: true,
            stop_on_failure: true,
            default_timeout: Duration::from_secs(300),
            max_execution_time: Duration::from_secs(3600),
        }
    }
}

/// Executes [`ParsedWorkflow`]s: each in one session, from setup to cleanup.
pub struct WorkflowExecutor {
    executor: Arc<dyn CommandExecutor>,
    sessions: Arc<SessionManager>,
    config: WorkflowExecutorConfig,
    learning: Option<Arc<dyn LearningCoordinator>>,
}

impl WorkflowExecutor {
    /// An executor that runs commands through `executor` in VMs of `sessions`.
    #[must_use]
    pub fn with_executor(
        executor: Arc<dyn CommandExecutor>,
        sessions: Arc<SessionManager>,
        config: WorkflowExecutorConfig,
    ) -> Self {
        WorkflowExecutor { executor, sessions, config, learning: None }
    }

    /// Tells `learning` about every command, and puts its lessons and suggestions into the results.
    #[must_use]
    pub fn with_learning(mut self, learning: Arc<dyn LearningCoordinator>) -> Self {
        self.learning = Some(learning);
        self
    }

    /// The sessions it runs in.
    #[must_use]
    pub fn session_manager(&self) -> &Arc<SessionManager> {
        &self.sessions
    }

    /// Runs a workflow in a session of its own.
    ///
    /// A failed step is a result with `success == false`.
    ///
    /// # Errors
    /// When the workflow or the context is invalid, or no VM could be had: nothing ran then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the current command and ends the session; cleanup commands do not run. Use
    /// [`execute_workflow_until`](Self::execute_workflow_until) to cancel in good order.
    pub async fn execute_workflow(
        &self,
        workflow: &ParsedWorkflow,
        context: &WorkflowContext,
    ) -> Result<WorkflowResult> {
        self.execute_workflow_until(workflow, context, &CancellationToken::new()).await
    }

    /// Like [`execute_workflow`](Self::execute_workflow), until `cancel`: then the current command is stopped,
    /// the remaining steps are skipped and the cleanup commands run.
    ///
    /// # Errors
    /// As [`execute_workflow`](Self::execute_workflow).
    pub async fn execute_workflow_until(
        &self,
        workflow: &ParsedWorkflow,
        context: &WorkflowContext,
        cancel: &CancellationToken,
    ) -> Result<WorkflowResult> {
        let plan = run::plan(workflow, context, &self.config).map_err(GitHubRunnerError::from)?;
        let inputs = run::inputs(workflow, context, &self.sessions.config().default_vm_type)?;
        let attended = Arc::new(Attended::new(
            Arc::clone(&self.executor),
            Arc::clone(&self.sessions),
            self.learning.clone(),
            self.config.clone(),
            workflow.clone(),
            context.clone(),
        ));
        let (executor, observer) = (Arc::clone(&attended), Arc::clone(&attended));
        match engine::run(plan, inputs, &self.sessions, executor, observer, cancel.clone()).await {
            Ok(report) if report.conclusion == RunConclusion::Cancelled => attended.fail("it was cancelled"),
            Ok(_) => {}
            Err(EngineError::Infrastructure { source, .. }) if !attended.has_begun() => return Err(source),
            Err(error) if !attended.has_begun() => return Err(GitHubRunnerError::Engine(Box::new(error))),
            Err(error) => attended.fail(&chain(&error)),
        }
        Ok(attended.result().await)
    }
}
