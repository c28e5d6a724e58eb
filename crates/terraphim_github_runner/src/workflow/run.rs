//! Lowers a [`ParsedWorkflow`] into the engine's plan, and attends to each of its commands.
//!
//! The engine orders, conditions, times and cancels; what only this form of a workflow has happens here, around each
//! command: its record, snapshots, rollback, learning, and one time limit for everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::executor::{CommandExecutor, CommandResult, WorkflowExecutorConfig};
use super::lower::{Ended, command_line, until};
use super::parser::{ParsedWorkflow, WorkflowProblem, check_variable};
use super::process::{Exit, LeftProcess, OutputSink, ProcessOutcome, ProcessSpec, StopReason, Stream};
use super::record::{Record, Slot};
use crate::engine::{
    EmptyWorkspace, Phase, Plan, RunEvent, RunInputs, RunObserver, StepLimit, Work, plan_commands,
};
use crate::error::{GitHubRunnerError, Result, chain};
use crate::learning::coordinator::LearningCoordinator;
use crate::models::{ExecutionStatus, ExecutionStep, SnapshotId, WorkflowContext, WorkflowResult};
use crate::session::{Session, SessionManager, SessionState};

/// How much longer than its time limit an executor may take to stop a command by itself and say so. Then the
/// call is dropped, which stops the command too but loses its output.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// The plan of a workflow, with the executor's own settings.
pub(super) fn plan(
    workflow: &ParsedWorkflow,
    context: &WorkflowContext,
    config: &WorkflowExecutorConfig,
) -> Result<Plan, WorkflowProblem> {
    let mut plan = plan_commands(workflow)?;
    // In `inputs`, where setup and cleanup see it too.
    plan.env = None;
    for command in plan.setup.iter_mut().chain(&mut plan.cleanup) {
        command.timeout = config.default_timeout;
        command.working_dir = Some(context.working_dir.clone());
    }
    let steps = plan.jobs.iter_mut().flat_map(|job| &mut job.steps);
    for (planned, step) in steps.zip(&workflow.steps) {
        if step.timeout_seconds == 0 {
            planned.limit = StepLimit::Fixed(config.default_timeout);
        }
        if let Work::Command { working_dir, .. } = &mut planned.work {
            *working_dir = below(&context.working_dir, &step.working_dir);
        }
        if !config.stop_on_failure {
            planned.condition = crate::engine::always();
        }
    }
    Ok(plan)
}

fn below(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", directory.trim_end_matches('/'))
    }
}

/// What the engine is given beside the plan. The workflow's variables win over the context's; sorted, so that a
/// command is the same every time.
pub(super) fn inputs(
    workflow: &ParsedWorkflow,
    context: &WorkflowContext,
    vm_type: &str,
) -> Result<RunInputs, WorkflowProblem> {
    let event = &context.event;
    let mut inputs =
        RunInputs::new(event.event_type.name(), event.repository.clone(), Arc::new(EmptyWorkspace));
    let variables: BTreeMap<&String, &String> =
        context.env_vars.iter().chain(&workflow.environment).collect();
    for (name, value) in variables {
        check_variable(name, value)?;
        inputs.env.insert(name.clone(), value.clone());
    }
    inputs.run_id = context.session_id.0;
    inputs.git_ref = event.git_ref.clone().unwrap_or_default();
    inputs.sha = event.sha.clone().unwrap_or_default();
    inputs.vm_types.default = vm_type.to_owned();
    // Commands run as whoever the executor runs them.
    inputs.layout.user = None;
    Ok(inputs)
}

/// The executor that the engine sees: the real one, with someone who attends to each command.
pub(super) struct Attended {
    executor: Arc<dyn CommandExecutor>,
    sessions: Arc<SessionManager>,
    learning: Option<Arc<dyn LearningCoordinator>>,
    config: WorkflowExecutorConfig,
    workflow: ParsedWorkflow,
    context: WorkflowContext,
    /// The commands of a run follow one another; the mutex is for the type, not for contention.
    record: Mutex<Record>,
}

impl Attended {
    pub(super) fn new(
        executor: Arc<dyn CommandExecutor>,
        sessions: Arc<SessionManager>,
        learning: Option<Arc<dyn LearningCoordinator>>,
        config: WorkflowExecutorConfig,
        workflow: ParsedWorkflow,
        context: WorkflowContext,
    ) -> Self {
        let record = Mutex::new(Record::new(&workflow, &config));
        Attended { executor, sessions, learning, config, workflow, context, record }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one command and keeps a record of it.
    async fn command(
        &self,
        session: &Session,
        slot: Slot,
        spec: &ProcessSpec,
        cancel: &CancellationToken,
    ) -> Result<CommandResult> {
        let (name, text) = slot.name_and_command(&self.workflow);
        let mut step = ExecutionStep::new(name, text);
        let started = Instant::now();
        let deadline = self.record().deadline(slot, started);
        let rest = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(started));
        let limit = spec.timeout.min(rest);
        let outcome = self.outcome(session, spec, limit, cancel).await;
        step.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        step.completed_at = Some(Utc::now());
        step.status = ExecutionStatus::Failed;
        match &outcome {
            Ok(result) => {
                if result.success() {
                    step.status = ExecutionStatus::Success;
                }
                step.exit_code = Some(result.exit_code);
                (step.stdout, step.stderr) = (result.stdout.clone(), result.stderr.clone());
            }
            Err(error) => step.stderr = chain(error),
        }
        let is_fault = match &outcome {
            Ok(_) => false,
            Err(GitHubRunnerError::CommandTimedOut { .. }) => deadline.is_some_and(|at| Instant::now() >= at),
            Err(_) => true,
        };
        if !is_fault {
            // A command that was cancelled, or whose VM was lost, says nothing about itself.
            self.learn(&step).await;
        }
        self.attend(session, slot, &mut step, is_fault).await;
        self.record().add(slot, step, is_fault);
        outcome
    }

    async fn outcome(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<CommandResult> {
        if cancel.is_cancelled() {
            return Err(GitHubRunnerError::Cancelled);
        }
        if limit.is_zero() {
            return Err(GitHubRunnerError::WorkflowTimedOut { after: self.config.max_execution_time });
        }
        let command = command_line(spec)?;
        self.sessions.update_session_state(&session.id, SessionState::Executing)?;
        let call = self.executor.execute(session, &command, limit, &spec.cwd);
        let ended = until(call, limit + STOP_MARGIN, cancel).await;
        self.sessions.update_session_state(&session.id, SessionState::Active)?;
        match ended {
            Ended::Itself(result) => result,
            Ended::TimedOut => Err(GitHubRunnerError::CommandTimedOut { after: limit }),
            Ended::Cancelled => Err(GitHubRunnerError::Cancelled),
        }
    }

    /// What follows a step: a snapshot, or the way back to the last one.
    async fn attend(&self, session: &Session, slot: Slot, step: &mut ExecutionStep, is_fault: bool) {
        let Slot::Step(index) = slot else { return };
        if step.is_success() {
            step.snapshot_id = self.snapshot(session, index + 1).await;
        } else if (is_fault || !self.workflow.steps[index].continue_on_error) && self.roll_back(session).await
        {
            step.status = ExecutionStatus::RolledBack;
        }
    }

    /// A snapshot that cannot be taken costs speed later, and never the step.
    async fn snapshot(&self, session: &Session, number: usize) -> Option<SnapshotId> {
        if !self.record().can_snapshot {
            return None;
        }
        let name = format!("{}-step-{number}", session.id);
        match self.executor.create_snapshot(session, &name).await {
            Ok(snapshot) => {
                if let Err(error) = self.sessions.add_snapshot(&session.id, snapshot.clone()) {
                    debug!("cannot note snapshot {snapshot}: {error}");
                }
                self.record().last_snapshot = Some(snapshot.clone());
                Some(snapshot)
            }
            Err(GitHubRunnerError::Unsupported { .. }) => {
                self.record().can_snapshot = false;
                None
            }
            Err(error) => {
                warn!(session.id = %session.id, "no snapshot after step {number}: {}", chain(&error));
                None
            }
        }
    }

    /// Whether the VM is back at the last snapshot.
    async fn roll_back(&self, session: &Session) -> bool {
        let last = self.record().last_snapshot.clone();
        let Some(snapshot) = last.filter(|_| self.config.auto_rollback) else { return false };
        match self.executor.rollback(session, &snapshot).await {
            Ok(()) => {
                if let Err(error) = self.sessions.update_session_state(&session.id, SessionState::RolledBack)
                {
                    debug!("{error}");
                }
                true
            }
            Err(error) => {
                warn!(session.id = %session.id, "cannot roll back to {snapshot}: {}", chain(&error));
                false
            }
        }
    }

    /// Learning advises: what goes wrong there is logged and changes nothing here.
    async fn learn(&self, step: &ExecutionStep) {
        let Some(learning) = &self.learning else { return };
        let noted = if step.is_success() {
            learning.record_success(&step.command, step.duration_ms, &self.context).await
        } else {
            let error = if step.stderr.trim().is_empty() { &step.stdout } else { &step.stderr };
            learning.record_failure(&step.command, error, &self.context).await
        };
        if let Err(error) = noted {
            warn!("cannot learn from {}: {}", step.name, chain(&error));
        }
    }

    /// The result of the run, once the engine is done.
    pub(super) async fn result(&self) -> WorkflowResult {
        let mut result = self.record().result(&self.workflow, &self.context);
        let Some(learning) = &self.learning else { return result };
        if let Err(error) = learning.record_workflow_result(&result).await {
            warn!("cannot learn from the run: {}", chain(&error));
        }
        match learning.get_applicable_lessons(&self.context).await {
            Ok(lessons) => result.lessons = lessons.iter().map(ToString::to_string).collect(),
            Err(error) => warn!("no lessons: {}", chain(&error)),
        }
        match learning.suggest_optimizations(&self.context).await {
            Ok(found) => result.suggestions = found.iter().map(ToString::to_string).collect(),
            Err(error) => warn!("no suggestions: {}", chain(&error)),
        }
        result
    }

    /// Whether any command was begun.
    pub(super) fn has_begun(&self) -> bool {
        self.record().has_begun()
    }

    /// Notes why the run failed, unless a command said so before.
    pub(super) fn fail(&self, why: &str) {
        self.record().fail(why.to_owned());
    }
}

#[async_trait]
impl RunObserver for Attended {
    async fn observe(&self, event: &RunEvent) {
        let slot = match event {
            RunEvent::CommandStarted { phase: Phase::Setup, number, .. } => Slot::Setup(number - 1),
            RunEvent::CommandStarted { phase: Phase::Cleanup, number, .. } => Slot::Cleanup(number - 1),
            RunEvent::StepStarted { number, .. } => Slot::Step(number - 1),
            _ => return,
        };
        self.record().current = slot;
    }
}

#[async_trait]
impl CommandExecutor for Attended {
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        timeout: Duration,
        dir: &str,
    ) -> Result<CommandResult> {
        self.executor.execute(session, command, timeout, dir).await
    }

    async fn create_snapshot(&self, session: &Session, name: &str) -> Result<SnapshotId> {
        self.executor.create_snapshot(session, name).await
    }

    async fn rollback(&self, session: &Session, snapshot: &SnapshotId) -> Result<()> {
        self.executor.rollback(session, snapshot).await
    }

    async fn end_left(&self, session: &Session, name: &str) -> Result<Vec<LeftProcess>> {
        self.executor.end_left(session, name).await
    }

    /// Never fails: a fault ends the run by its record, and the engine still runs the cleanup commands.
    async fn run_process(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        cancel: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        let started = Instant::now();
        let slot = self.record().current;
        let ended =
            |exit, stopped| ProcessOutcome { exit, stopped, files: Vec::new(), duration: started.elapsed() };
        if self.record().skips(slot) {
            return Ok(ended(Exit::Code(1), None));
        }
        let result = match self.command(session, slot, spec, cancel).await {
            Ok(result) => result,
            Err(GitHubRunnerError::Cancelled) => {
                return Ok(ended(Exit::Signal(9), Some(StopReason::Cancelled)));
            }
            Err(_) => return Ok(ended(Exit::Signal(9), Some(StopReason::Timeout))),
        };
        for (stream, text) in [(Stream::Stdout, result.stdout), (Stream::Stderr, result.stderr)] {
            if !text.is_empty() {
                output.write(stream, Bytes::from(text)).await?;
            }
        }
        Ok(ended(Exit::Code(result.exit_code), None))
    }
}
