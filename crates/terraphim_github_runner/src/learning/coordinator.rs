//! Hears what became of every command, and makes lessons and suggestions of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::command::short_hash;
use super::insight::{self, Lesson};
use super::knowledge_graph::CommandKnowledgeGraph;
use super::lesson::{ApplicableLesson, WorkflowOptimization};
use super::memory::{Memory, Told};
use super::model::{LessonState, LessonThreshold, real};
use super::signature::FailureSignature;
use crate::error::Result;
use crate::models::{ExecutionStatus, WorkflowContext, WorkflowResult};

/// More advice than this is not read.
const MAX_ADVICE: usize = 10;

/// Is told what happened, and advises.
#[async_trait]
pub trait LearningCoordinator: Send + Sync {
    /// A command succeeded.
    async fn record_success(&self, command: &str, duration_ms: u64, context: &WorkflowContext) -> Result<()>;

    /// A command failed; `error` is what it said.
    async fn record_failure(&self, command: &str, error: &str, context: &WorkflowContext) -> Result<()>;

    /// A run is over.
    async fn record_workflow_result(&self, result: &WorkflowResult) -> Result<()>;

    /// What could be done better in runs like this one.
    async fn suggest_optimizations(&self, context: &WorkflowContext) -> Result<Vec<WorkflowOptimization>>;

    /// What was learned that applies to this run.
    async fn get_applicable_lessons(&self, context: &WorkflowContext) -> Result<Vec<ApplicableLesson>>;
}

/// How much was learned. Commands are told apart by repository and text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearningStats {
    /// Different failures: command and signature.
    pub unique_failure_patterns: usize,
    /// Different commands that succeeded.
    pub unique_success_patterns: usize,
    /// Failures that repeated often enough.
    pub lessons_created: usize,
    /// All failures.
    pub total_failures: u64,
    /// All successes.
    pub total_successes: u64,
}

/// Learns in memory; what it knows ends with the process. Repositories are apart.
///
/// A thin front of the model of [`super::model`], which `tci run` keeps in the run store.
#[derive(Debug)]
pub struct InMemoryLearningCoordinator {
    agent_id: String,
    graph: Option<Arc<CommandKnowledgeGraph>>,
    /// A plain mutex: each section is a few map operations and never waits, so counters are exact and nothing
    /// can lock up.
    memory: Arc<Mutex<Memory>>,
}

impl InMemoryLearningCoordinator {
    /// A coordinator that knows nothing. `agent_id` names it in logs.
    pub fn new(agent_id: impl Into<String>) -> Self {
        InMemoryLearningCoordinator { agent_id: agent_id.into(), graph: None, memory: Arc::default() }
    }

    /// A coordinator that also shows what it learns as a graph of commands, of all its repositories.
    ///
    /// # Errors
    /// When there can be no graph; in memory that does not happen.
    pub async fn with_knowledge_graph(agent_id: impl Into<String>) -> Result<Self> {
        let mut coordinator = InMemoryLearningCoordinator::new(agent_id);
        coordinator.graph = Some(Arc::new(CommandKnowledgeGraph::of(Arc::clone(&coordinator.memory))));
        Ok(coordinator)
    }

    /// The same with another number of failures from which on there is a lesson; 3 otherwise.
    #[must_use]
    pub fn with_lesson_threshold(self, threshold: LessonThreshold) -> Self {
        self.memory().set_lesson_threshold(threshold);
        self
    }

    /// The knowledge graph, if it shows one.
    #[must_use]
    pub fn knowledge_graph(&self) -> Option<&Arc<CommandKnowledgeGraph>> {
        self.graph.as_ref()
    }

    /// How much was learned; takes the same time however much that is.
    #[must_use]
    pub fn get_stats(&self) -> LearningStats {
        self.memory().stats()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Counters stay usable whatever happened to their last user.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LearningCoordinator for InMemoryLearningCoordinator {
    async fn record_success(&self, command: &str, duration_ms: u64, context: &WorkflowContext) -> Result<()> {
        let run = context.session_id.to_string();
        self.memory().record(Told { duration_ms, ..told(command, context, &run) });
        Ok(())
    }

    async fn record_failure(&self, command: &str, error: &str, context: &WorkflowContext) -> Result<()> {
        // Made before the memory is locked: the output may be a megabyte.
        let signature = FailureSignature::of(error);
        let (run, failure) = (context.session_id.to_string(), Some(signature.clone()));
        let learned = self.memory().record(Told { failure, ..told(command, context, &run) });
        if learned.new_lesson.is_some() {
            info!(
                agent = self.agent_id,
                "lesson: {} failed {} times with {:?}",
                first_line(command),
                self.memory().lesson_threshold(),
                signature.text
            );
        }
        Ok(())
    }

    async fn record_workflow_result(&self, result: &WorkflowResult) -> Result<()> {
        let ran = |status| !matches!(status, ExecutionStatus::Skipped | ExecutionStatus::Pending);
        let steps = result.steps.iter().filter(|step| ran(step.status));
        let commands: Vec<String> = steps.map(|step| step.command.clone()).collect();
        self.memory().workflow("", &commands, &result.session_id.to_string());
        Ok(())
    }

    async fn suggest_optimizations(&self, context: &WorkflowContext) -> Result<Vec<WorkflowOptimization>> {
        let memory = self.memory();
        let Some(model) = memory.model(&context.event.repository.full_name) else { return Ok(Vec::new()) };
        let mut found: Vec<WorkflowOptimization> =
            insight::suggestions(model).into_iter().map(WorkflowOptimization::from).collect();
        drop(memory);
        found.sort_by(|a, b| {
            b.confidence.total_cmp(&a.confidence).then_with(|| a.description.cmp(&b.description))
        });
        found.truncate(MAX_ADVICE);
        Ok(found)
    }

    async fn get_applicable_lessons(&self, context: &WorkflowContext) -> Result<Vec<ApplicableLesson>> {
        let repository = &context.event.repository.full_name;
        let lessons = self.memory().model(repository).map(insight::lessons).unwrap_or_default();
        let active = lessons.iter().filter(|lesson| lesson.state == LessonState::Active);
        let mut found: Vec<_> = active.map(|lesson| applicable(lesson, repository)).collect();
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.title.cmp(&b.title)));
        found.truncate(MAX_ADVICE);
        Ok(found)
    }
}

fn told<'a>(command: &'a str, context: &'a WorkflowContext, run: &'a str) -> Told<'a> {
    Told {
        repository: &context.event.repository.full_name,
        context: run,
        command,
        commit: context.event.sha.as_deref().unwrap_or(""),
        environment: context.event.event_type.name(),
        ..Told::default()
    }
}

fn applicable(lesson: &Lesson, repository: &str) -> ApplicableLesson {
    let count = lesson.failure.count;
    ApplicableLesson {
        id: format!("{}-{}", short_hash(&lesson.command), lesson.failure.id),
        title: format!("`{}` fails with \"{}\"", first_line(&lesson.command), lesson.failure.text),
        reason: format!("{repository} runs this command; it failed so {count} times"),
        recommendation: format!("{}; it has happened {count} times", lesson.advice),
        confidence: confidence(count),
    }
}

/// How sure one can be after so many observations: 0.75 after 3, 0.9 after 9.
fn confidence(observations: u64) -> f64 {
    real(observations) / (real(observations) + 1.0)
}

fn first_line(command: &str) -> &str {
    command.lines().next().unwrap_or("")
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
