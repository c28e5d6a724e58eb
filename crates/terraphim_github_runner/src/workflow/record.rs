//! What a run of a [`ParsedWorkflow`] has come to. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::executor::WorkflowExecutorConfig;
use super::parser::ParsedWorkflow;
use super::result::summary;
use crate::models::{ExecutionStatus, ExecutionStep, SnapshotId, WorkflowContext, WorkflowResult};

/// A command of the workflow, by its index in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Setup(usize),
    Step(usize),
    Cleanup(usize),
}

impl Slot {
    pub(super) fn name_and_command(self, workflow: &ParsedWorkflow) -> (String, &str) {
        match self {
            Slot::Setup(i) => (format!("Setup {}", i + 1), &workflow.setup_commands[i]),
            Slot::Step(i) => (workflow.steps[i].name.clone(), &workflow.steps[i].command),
            Slot::Cleanup(i) => (format!("Cleanup {}", i + 1), &workflow.cleanup_commands[i]),
        }
    }
}

#[derive(Debug)]
pub(super) struct Record {
    /// The command that the engine is at.
    pub(super) current: Slot,
    pub(super) last_snapshot: Option<SnapshotId>,
    pub(super) can_snapshot: bool,
    /// From the first command on.
    started: Option<Instant>,
    limit: Duration,
    /// By step.
    steps: Vec<Option<ExecutionStep>>,
    failed_setup: Option<ExecutionStep>,
    failed_cleanups: Vec<ExecutionStep>,
    tolerated: Vec<bool>,
    /// The first failure explains the run.
    failure: Option<String>,
    /// Set when even `continue_on_error` cannot help: cancelled, out of time, or the VM does not answer.
    is_over: bool,
}

impl Record {
    pub(super) fn new(workflow: &ParsedWorkflow, config: &WorkflowExecutorConfig) -> Self {
        Record {
            current: Slot::Setup(0),
            last_snapshot: None,
            can_snapshot: config.snapshot_on_success,
            started: None,
            limit: config.max_execution_time,
            steps: workflow.steps.iter().map(|_| None).collect(),
            failed_setup: None,
            failed_cleanups: Vec::new(),
            tolerated: workflow.steps.iter().map(|step| step.continue_on_error).collect(),
            failure: None,
            is_over: false,
        }
    }

    /// When a command has to be over at the latest; cleanup has its own time.
    pub(super) fn deadline(&mut self, slot: Slot, now: Instant) -> Option<Instant> {
        let started = *self.started.get_or_insert(now);
        match slot {
            Slot::Setup(_) | Slot::Step(_) => Some(started + self.limit),
            Slot::Cleanup(_) => None,
        }
    }

    /// Whether a command is not to be run although the engine would.
    pub(super) fn skips(&self, slot: Slot) -> bool {
        self.is_over && !matches!(slot, Slot::Cleanup(_))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.started.is_some()
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// `is_fault`: the fault lies outside of the command.
    pub(super) fn add(&mut self, slot: Slot, step: ExecutionStep, is_fault: bool) {
        let failed = !step.is_success();
        match slot {
            Slot::Setup(i) if failed => {
                self.fail(format!("setup command {} failed", i + 1));
                self.failed_setup = Some(step);
                self.is_over = true;
            }
            Slot::Setup(_) => {}
            Slot::Step(i) => {
                if failed && (is_fault || !self.tolerated[i]) {
                    self.fail(format!("step {} ({}) failed", i + 1, step.name));
                    self.is_over |= is_fault;
                }
                self.steps[i] = Some(step);
            }
            Slot::Cleanup(_) if failed => self.failed_cleanups.push(step),
            Slot::Cleanup(_) => {}
        }
    }

    pub(super) fn result(&mut self, workflow: &ParsedWorkflow, context: &WorkflowContext) -> WorkflowResult {
        let took = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        let total_duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let failed_cleanups = std::mem::take(&mut self.failed_cleanups);
        let summary =
            summary(&workflow.name, self.failure.as_deref(), total_duration_ms, failed_cleanups.len());
        let skipped = |step: &super::parser::WorkflowStep| {
            let skipped = ExecutionStep::new(&step.name, &step.command);
            ExecutionStep { status: ExecutionStatus::Skipped, ..skipped }
        };
        let ran = self.steps.iter_mut().map(Option::take);
        let steps = ran.zip(&workflow.steps).map(|(ran, step)| ran.unwrap_or_else(|| skipped(step)));
        WorkflowResult {
            session_id: context.session_id.clone(),
            success: self.failure.is_none(),
            steps: self.failed_setup.take().into_iter().chain(steps).chain(failed_cleanups).collect(),
            total_duration_ms,
            final_snapshot: self.last_snapshot.clone(),
            summary,
            lessons: Vec::new(),
            suggestions: Vec::new(),
        }
    }
}
