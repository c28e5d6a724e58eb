//! Counts outcomes, and makes lessons of failures that repeat.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use super::knowledge_graph::CommandKnowledgeGraph;
use super::lesson::{ApplicableLesson, OptimizationType, WorkflowOptimization};
use super::signature::FailureSignature;
use crate::error::Result;
use crate::models::{ExecutionStatus, WorkflowContext, WorkflowResult};

/// How often a failure has to repeat, with the same signature, before it is a lesson: once is chance, twice may
/// be.
const LESSON_THRESHOLD: u64 = 3;

/// At most this many different commands and failures are told apart; further ones are only counted. It bounds
/// memory against commands that differ every time.
const MAX_PATTERNS: usize = 500_000;

/// More advice than this is not read.
const MAX_ADVICE: usize = 10;

/// Caching pays from here on.
const SLOW_MS: u64 = 30_000;

/// Programs whose work can be kept between runs.
const CACHEABLE: [&str; 8] =
    ["cargo ", "npm ", "yarn ", "pnpm ", "pip install", "mvn ", "gradle ", "go build"];

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

/// How much was learned.
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

/// Learns in memory; what it knows ends with the process.
#[derive(Debug)]
pub struct InMemoryLearningCoordinator {
    agent_id: String,
    graph: Option<Arc<CommandKnowledgeGraph>>,
    /// A plain mutex: each section is a few map operations and never waits, so counters are exact and nothing
    /// can lock up.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    failures: HashMap<(Arc<str>, String), Failure>,
    commands: HashMap<Arc<str>, Outcomes>,
    /// How many of `commands` succeeded at least once.
    succeeded: usize,
    /// Keys of `failures`, in the order in which they became lessons.
    lessons: Vec<(Arc<str>, String)>,
    by_repository: HashMap<String, HashSet<Arc<str>>>,
    total_failures: u64,
    total_successes: u64,
}

#[derive(Debug)]
struct Failure {
    id: Uuid,
    count: u64,
}

#[derive(Debug, Default)]
struct Outcomes {
    successes: u64,
    failures: u64,
    /// What the successes took.
    total_ms: u64,
}

impl InMemoryLearningCoordinator {
    /// A coordinator that knows nothing. `agent_id` names it in logs.
    pub fn new(agent_id: impl Into<String>) -> Self {
        InMemoryLearningCoordinator { agent_id: agent_id.into(), graph: None, memory: Mutex::default() }
    }

    /// A coordinator that also keeps a knowledge graph of its own.
    ///
    /// # Errors
    /// When there can be no graph; in memory that does not happen.
    pub async fn with_knowledge_graph(agent_id: impl Into<String>) -> Result<Self> {
        let graph = Arc::new(CommandKnowledgeGraph::new().await?);
        Ok(InMemoryLearningCoordinator { graph: Some(graph), ..InMemoryLearningCoordinator::new(agent_id) })
    }

    /// The knowledge graph, if it keeps one.
    #[must_use]
    pub fn knowledge_graph(&self) -> Option<&Arc<CommandKnowledgeGraph>> {
        self.graph.as_ref()
    }

    /// How much was learned; takes the same time however much that is.
    #[must_use]
    pub fn get_stats(&self) -> LearningStats {
        let memory = self.memory();
        LearningStats {
            unique_failure_patterns: memory.failures.len(),
            unique_success_patterns: memory.succeeded,
            lessons_created: memory.lessons.len(),
            total_failures: memory.total_failures,
            total_successes: memory.total_successes,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Counters stay usable whatever happened to their last user.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LearningCoordinator for InMemoryLearningCoordinator {
    async fn record_success(&self, command: &str, duration_ms: u64, context: &WorkflowContext) -> Result<()> {
        self.memory().success(command.trim(), duration_ms, &context.event.repository.full_name);
        if let Some(graph) = &self.graph {
            graph.record_success(command, &context.session_id.to_string()).await?;
        }
        Ok(())
    }

    async fn record_failure(&self, command: &str, error: &str, context: &WorkflowContext) -> Result<()> {
        let signature = FailureSignature::of(error).text;
        let is_lesson =
            self.memory().failure(command.trim(), &signature, &context.event.repository.full_name);
        if is_lesson {
            info!(
                agent = self.agent_id,
                "lesson: {} failed {LESSON_THRESHOLD} times with {signature:?}",
                first_line(command)
            );
        }
        if let Some(graph) = &self.graph {
            graph.note_failure(command, signature, &context.session_id.to_string());
        }
        Ok(())
    }

    async fn record_workflow_result(&self, result: &WorkflowResult) -> Result<()> {
        let Some(graph) = &self.graph else { return Ok(()) };
        let ran = |status| !matches!(status, ExecutionStatus::Skipped | ExecutionStatus::Pending);
        let steps = result.steps.iter().filter(|step| ran(step.status));
        let commands: Vec<String> = steps.map(|step| step.command.clone()).collect();
        graph.record_workflow(&commands, &result.session_id.to_string()).await
    }

    async fn suggest_optimizations(&self, context: &WorkflowContext) -> Result<Vec<WorkflowOptimization>> {
        let memory = self.memory();
        let commands = memory.by_repository.get(&context.event.repository.full_name).into_iter().flatten();
        let mut found: Vec<_> = commands.filter_map(|command| memory.suggestion(command)).collect();
        found.sort_by(|a, b| {
            b.confidence.total_cmp(&a.confidence).then_with(|| a.description.cmp(&b.description))
        });
        found.truncate(MAX_ADVICE);
        Ok(found)
    }

    async fn get_applicable_lessons(&self, context: &WorkflowContext) -> Result<Vec<ApplicableLesson>> {
        let memory = self.memory();
        let repository = &context.event.repository.full_name;
        let here = memory.by_repository.get(repository);
        let in_history =
            |command: &str| context.execution_history.iter().any(|s| s.command.trim() == command);
        let applies =
            |command: &Arc<str>| here.is_some_and(|known| known.contains(command)) || in_history(command);
        let lessons = memory.lessons.iter().filter(|(command, _)| applies(command));
        let mut found: Vec<_> =
            lessons.filter_map(|key| memory.failures.get(key).map(|f| f.lesson(key, repository))).collect();
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.title.cmp(&b.title)));
        found.truncate(MAX_ADVICE);
        Ok(found)
    }
}

impl Memory {
    fn success(&mut self, command: &str, duration_ms: u64, repository: &str) {
        self.total_successes += 1;
        let Some((_, outcomes)) = self.note(command, repository) else { return };
        let is_first = outcomes.successes == 0;
        outcomes.successes += 1;
        outcomes.total_ms = outcomes.total_ms.saturating_add(duration_ms);
        self.succeeded += usize::from(is_first);
    }

    /// Whether this failure has just become a lesson.
    fn failure(&mut self, command: &str, signature: &str, repository: &str) -> bool {
        self.total_failures += 1;
        let Some((command, outcomes)) = self.note(command, repository) else { return false };
        outcomes.failures += 1;
        let key = (command, signature.to_owned());
        if !self.failures.contains_key(&key) && self.failures.len() >= MAX_PATTERNS {
            return false;
        }
        let failure =
            self.failures.entry(key.clone()).or_insert_with(|| Failure { id: Uuid::new_v4(), count: 0 });
        failure.count += 1;
        let is_lesson = failure.count == LESSON_THRESHOLD;
        if is_lesson {
            self.lessons.push(key);
        }
        is_lesson
    }

    /// Notes that a repository runs a command, and returns the one copy of its text with its counters; `None` when
    /// there are too many commands to tell one more apart.
    fn note(&mut self, command: &str, repository: &str) -> Option<(Arc<str>, &mut Outcomes)> {
        let text = match self.commands.get_key_value(command) {
            Some((text, _)) => Arc::clone(text),
            None if self.commands.len() >= MAX_PATTERNS => return None,
            None => Arc::from(command),
        };
        if self.by_repository.contains_key(repository) || self.by_repository.len() < MAX_PATTERNS {
            let known = self.by_repository.entry(repository.to_owned()).or_default();
            known.insert(Arc::clone(&text));
        }
        let outcomes = self.commands.entry(Arc::clone(&text)).or_default();
        Some((text, outcomes))
    }

    fn suggestion(&self, command: &Arc<str>) -> Option<WorkflowOptimization> {
        // What never succeeded has its lessons.
        let known = self.commands.get(command).filter(|outcomes| outcomes.successes > 0)?;
        let Outcomes { successes: count, failures, total_ms } = *known;
        let (runs, average_ms) = (count + failures, total_ms / count);
        if runs >= 5 && failures * 5 >= runs {
            let percent = failures * 100 / runs;
            return Some(WorkflowOptimization {
                optimization_type: OptimizationType::AvoidFailurePattern,
                description: format!(
                    "`{}` failed in {failures} of {runs} runs: run it early, or find out why",
                    first_line(command)
                ),
                confidence: confidence(runs),
                expected_improvement: Some(format!("{percent} % of its runs fail")),
                related_command: Some(command.to_string()),
            });
        }
        let cacheable = CACHEABLE.iter().any(|program| command.starts_with(program));
        (cacheable && count >= 2 && average_ms >= SLOW_MS).then(|| WorkflowOptimization {
            optimization_type: OptimizationType::CacheOperation,
            description: format!("keep what `{}` makes between runs", first_line(command)),
            confidence: confidence(count),
            expected_improvement: Some(format!("it takes {} s on average", average_ms / 1000)),
            related_command: Some(command.to_string()),
        })
    }
}

impl Failure {
    fn lesson(&self, (command, signature): &(Arc<str>, String), repository: &str) -> ApplicableLesson {
        ApplicableLesson {
            id: self.id.to_string(),
            title: format!("`{}` fails with \"{signature}\"", first_line(command)),
            reason: format!("{repository} runs this command; it failed so {} times", self.count),
            recommendation: format!("look for the cause: it has happened {} times", self.count),
            confidence: confidence(self.count),
        }
    }
}

/// How sure one can be after so many observations: 0.75 after 3, 0.9 after 9.
fn confidence(observations: u64) -> f64 {
    let n = f64::from(u32::try_from(observations).unwrap_or(u32::MAX));
    n / (n + 1.0)
}

fn first_line(command: &str) -> &str {
    command.lines().next().unwrap_or("")
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
