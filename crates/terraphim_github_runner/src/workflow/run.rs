//! One run of a [`ParsedWorkflow`]: setup, steps and cleanup, in one session.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::executor::{CommandExecutor, CommandResult, WorkflowExecutorConfig};
use super::lower::{Ended, exports, until};
use super::parser::{ParsedWorkflow, WorkflowStep};
use super::result;
use crate::error::{GitHubRunnerError, Result, chain};
use crate::learning::coordinator::LearningCoordinator;
use crate::models::{ExecutionStatus, ExecutionStep, SnapshotId, WorkflowContext, WorkflowResult};
use crate::session::{SessionLease, SessionState};

/// How much longer than its time limit an executor may take to stop a command by itself and say so. Then the
/// call is dropped, which stops the command too but loses its output.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// What a run needs.
pub(super) struct Run<'a> {
    pub(super) executor: &'a dyn CommandExecutor,
    pub(super) config: &'a WorkflowExecutorConfig,
    pub(super) learning: Option<&'a dyn LearningCoordinator>,
    pub(super) workflow: &'a ParsedWorkflow,
    pub(super) context: &'a WorkflowContext,
    pub(super) lease: &'a SessionLease,
    pub(super) cancel: &'a CancellationToken,
    /// From [`exports_of`].
    pub(super) exports: &'a str,
}

/// `export` lines for every command of a run. The workflow's variables win over the context's; sorted, so that
/// a command is the same every time.
pub(super) fn exports_of(workflow: &ParsedWorkflow, context: &WorkflowContext) -> Result<String> {
    let both = context.env_vars.iter().chain(&workflow.environment);
    let variables: BTreeMap<&str, &str> = both.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    exports(variables)
}

/// What a run has come to so far.
struct Progress {
    /// When setup and steps have to be over.
    deadline: Instant,
    /// Set by what fails the run; from then on steps are skipped if the configuration says so.
    failure: Option<String>,
    /// Set when even `continue_on_error` cannot help: cancelled, out of time, or the VM does not answer.
    is_over: bool,
    steps: Vec<ExecutionStep>,
    failed_cleanups: usize,
    last_snapshot: Option<SnapshotId>,
    can_snapshot: bool,
}

/// One command of the run.
struct Job<'a> {
    name: &'a str,
    command: &'a str,
    working_dir: &'a str,
    limit: Duration,
    cancel: &'a CancellationToken,
}

impl Run<'_> {
    pub(super) async fn execute(&self) -> WorkflowResult {
        let started = Instant::now();
        let mut progress = Progress {
            deadline: started + self.config.max_execution_time,
            failure: None,
            is_over: false,
            steps: Vec::with_capacity(self.workflow.steps.len()),
            failed_cleanups: 0,
            last_snapshot: None,
            can_snapshot: self.config.snapshot_on_success,
        };
        self.setup(&mut progress).await;
        for (i, step) in self.workflow.steps.iter().enumerate() {
            self.step(&mut progress, i, step).await;
        }
        self.cleanup(&mut progress).await;
        let result = self.result(progress, started.elapsed());
        self.learned(result).await
    }

    async fn setup(&self, progress: &mut Progress) {
        let (count, commands) = (self.workflow.setup_commands.len(), &self.workflow.setup_commands);
        for (i, command) in commands.iter().enumerate() {
            let name = format!("Setup {}/{count}", i + 1);
            info!(session.id = %self.context.session_id, "setup {}/{count}", i + 1);
            let job = Job {
                name: &name,
                command,
                working_dir: &self.context.working_dir,
                limit: self.config.default_timeout,
                cancel: self.cancel,
            };
            let (step, _) = self.command(progress, &job).await;
            if !step.is_success() {
                progress.fail(format!("setup command {} failed", i + 1));
                progress.is_over = true;
                progress.steps.push(step);
                return;
            }
        }
    }

    async fn step(&self, progress: &mut Progress, index: usize, step: &WorkflowStep) {
        let (number, count) = (index + 1, self.workflow.steps.len());
        if progress.is_over || (progress.failure.is_some() && self.config.stop_on_failure) {
            let mut skipped = ExecutionStep::new(&step.name, &step.command);
            skipped.status = ExecutionStatus::Skipped;
            progress.steps.push(skipped);
            return;
        }
        info!(session.id = %self.context.session_id, "step {number}/{count}: {}", step.name);
        let limit = match step.timeout_seconds {
            0 => self.config.default_timeout,
            seconds => Duration::from_secs(seconds),
        };
        let working_dir = self.directory(&step.working_dir);
        let job = Job {
            name: &step.name,
            command: &step.command,
            working_dir: &working_dir,
            limit,
            cancel: self.cancel,
        };
        let (mut record, is_infrastructure) = self.command(progress, &job).await;
        if record.is_success() {
            record.snapshot_id = self.snapshot(progress, number).await;
        } else if is_infrastructure || !step.continue_on_error {
            progress.fail(format!("step {number} ({}) failed", step.name));
            progress.is_over |= is_infrastructure;
            if self.roll_back(progress).await {
                record.status = ExecutionStatus::RolledBack;
            }
        }
        progress.steps.push(record);
    }

    /// Runs all cleanup commands, whatever happened, each with its whole time; not even a cancelled run stops
    /// them, as their time limits bound them.
    async fn cleanup(&self, progress: &mut Progress) {
        let (count, commands) = (self.workflow.cleanup_commands.len(), &self.workflow.cleanup_commands);
        let limit = self.config.default_timeout;
        let never = CancellationToken::new();
        for (i, command) in commands.iter().enumerate() {
            progress.deadline = Instant::now() + limit;
            info!(session.id = %self.context.session_id, "cleanup {}/{count}", i + 1);
            let name = format!("Cleanup {}/{count}", i + 1);
            let working_dir = &self.context.working_dir;
            let job = Job { name: &name, command, working_dir, limit, cancel: &never };
            let (step, _) = self.command(progress, &job).await;
            if !step.is_success() {
                progress.failed_cleanups += 1;
                progress.steps.push(step);
            }
        }
    }

    /// Runs one command and tells the learning about it. Also says whether the fault lies outside of the
    /// command: then `continue_on_error` does not apply.
    async fn command(&self, progress: &mut Progress, job: &Job<'_>) -> (ExecutionStep, bool) {
        let mut step = ExecutionStep::new(job.name, job.command);
        let started = Instant::now();
        let limit = job.limit.min(progress.deadline.saturating_duration_since(started));
        let outcome = self.outcome(job, limit).await;
        step.duration_ms = millis(started.elapsed());
        step.completed_at = Some(Utc::now());
        let is_infrastructure = match outcome {
            Ok(result) => {
                step.status =
                    if result.success() { ExecutionStatus::Success } else { ExecutionStatus::Failed };
                step.exit_code = Some(result.exit_code);
                (step.stdout, step.stderr) = (result.stdout, result.stderr);
                false
            }
            Err(error) => {
                step.status = ExecutionStatus::Failed;
                step.stderr = chain(&error);
                let timed_out = matches!(error, GitHubRunnerError::CommandTimedOut { .. });
                !timed_out || Instant::now() >= progress.deadline
            }
        };
        self.learn(&step).await;
        (step, is_infrastructure)
    }

    async fn outcome(&self, job: &Job<'_>, limit: Duration) -> Result<CommandResult> {
        if job.cancel.is_cancelled() {
            return Err(GitHubRunnerError::Cancelled);
        }
        if limit.is_zero() {
            return Err(GitHubRunnerError::WorkflowTimedOut { after: self.config.max_execution_time });
        }
        self.lease.enter(SessionState::Executing)?;
        let command = format!("{}{}", self.exports, job.command);
        let call = self.executor.execute(self.lease.session(), &command, limit, job.working_dir);
        let ended = until(call, limit + STOP_MARGIN, job.cancel).await;
        self.lease.enter(SessionState::Active)?;
        match ended {
            Ended::Itself(result) => result,
            Ended::TimedOut => Err(GitHubRunnerError::CommandTimedOut { after: limit }),
            Ended::Cancelled => Err(GitHubRunnerError::Cancelled),
        }
    }

    fn directory(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        format!("{}/{path}", self.context.working_dir.trim_end_matches('/'))
    }

    /// A snapshot that cannot be taken costs speed later, and never the step.
    async fn snapshot(&self, progress: &mut Progress, number: usize) -> Option<SnapshotId> {
        if !progress.can_snapshot {
            return None;
        }
        let name = format!("{}-step-{number}", self.context.session_id);
        match self.executor.create_snapshot(self.lease.session(), &name).await {
            Ok(snapshot) => {
                if let Err(error) = self.lease.add_snapshot(snapshot.clone()) {
                    debug!("cannot note snapshot {snapshot}: {error}");
                }
                progress.last_snapshot = Some(snapshot.clone());
                Some(snapshot)
            }
            Err(GitHubRunnerError::Unsupported { .. }) => {
                progress.can_snapshot = false;
                None
            }
            Err(error) => {
                warn!(session.id = %self.context.session_id, "no snapshot after step {number}: {}", chain(&error));
                None
            }
        }
    }

    /// Whether the VM is back at the last snapshot.
    async fn roll_back(&self, progress: &Progress) -> bool {
        let Some(snapshot) = progress.last_snapshot.as_ref().filter(|_| self.config.auto_rollback) else {
            return false;
        };
        match self.executor.rollback(self.lease.session(), snapshot).await {
            Ok(()) => {
                if let Err(error) = self.lease.enter(SessionState::RolledBack) {
                    debug!("{error}");
                }
                true
            }
            Err(error) => {
                warn!(session.id = %self.context.session_id, "cannot roll back to {snapshot}: {}", chain(&error));
                false
            }
        }
    }

    fn result(&self, progress: Progress, took: Duration) -> WorkflowResult {
        let total_duration_ms = millis(took);
        WorkflowResult {
            session_id: self.context.session_id.clone(),
            success: progress.failure.is_none(),
            summary: result::summary(
                &self.workflow.name,
                progress.failure.as_deref(),
                total_duration_ms,
                progress.failed_cleanups,
            ),
            steps: progress.steps,
            total_duration_ms,
            final_snapshot: progress.last_snapshot,
            lessons: Vec::new(),
            suggestions: Vec::new(),
        }
    }

    /// Learning advises: what goes wrong there is logged and changes nothing here.
    async fn learn(&self, step: &ExecutionStep) {
        let Some(learning) = self.learning else { return };
        let noted = if step.is_success() {
            learning.record_success(&step.command, step.duration_ms, self.context).await
        } else {
            let error = if step.stderr.trim().is_empty() { &step.stdout } else { &step.stderr };
            learning.record_failure(&step.command, error, self.context).await
        };
        if let Err(error) = noted {
            warn!("cannot learn from {}: {}", step.name, chain(&error));
        }
    }

    async fn learned(&self, mut result: WorkflowResult) -> WorkflowResult {
        let Some(learning) = self.learning else { return result };
        if let Err(error) = learning.record_workflow_result(&result).await {
            warn!("cannot learn from the run: {}", chain(&error));
        }
        match learning.get_applicable_lessons(self.context).await {
            Ok(lessons) => result.lessons = lessons.iter().map(ToString::to_string).collect(),
            Err(error) => warn!("no lessons: {}", chain(&error)),
        }
        match learning.suggest_optimizations(self.context).await {
            Ok(found) => result.suggestions = found.iter().map(ToString::to_string).collect(),
            Err(error) => warn!("no suggestions: {}", chain(&error)),
        }
        result
    }
}

impl Progress {
    /// The first failure is the one that explains the run.
    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
