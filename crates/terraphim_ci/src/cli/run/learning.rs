//! What a run learns, and what was learned that concerns it. It warns; it changes nothing.

use std::sync::Arc;

use async_trait::async_trait;
use terraphim_github_runner::{
    engine::{Patience, QueuedObserver, RunEvent, RunObserver},
    learning::{
        Learner, LearningObserver, RunFacts,
        insight::{self, Lesson, Suggestion},
        model::LessonState,
    },
    store::{RunId, RunStore},
};

use super::request::Request;
use crate::{config::Config, failure::chain, output, workspace::Repository};

/// More lines than this after a run are not read; `tci insights` has them all.
const MAX_LINES: usize = 5;

/// Learns from one run, or does not when that is switched off or cannot be done.
pub(super) struct Learning {
    observer: Option<Arc<LearningObserver>>,
    queue: Option<QueuedObserver>,
    workflow: String,
    changed: Vec<String>,
}

/// What to tell when a run is over.
#[derive(Default)]
pub(super) struct Told {
    pub(super) lessons: Vec<String>,
    pub(super) suggestions: Vec<String>,
}

impl Learning {
    /// `environment`: what else may matter to how a command ends.
    pub(super) async fn start(
        store: &RunStore,
        config: &Config,
        request: &Request,
        (run, attempt): (RunId, i64),
        environment: String,
    ) -> Learning {
        let workflow = request.source.path.clone();
        let none = |workflow| Learning { observer: None, queue: None, workflow, changed: Vec::new() };
        if !config.learning.enabled {
            return none(workflow);
        }
        let git = request.git().ok().flatten();
        let repository = request.repository.full_name.clone();
        let learner = match Learner::open(store.clone(), &repository).await {
            Ok(learner) => learner,
            Err(error) => {
                output::warning(&format!("nothing is learned from this run: {}", chain(&error)));
                return none(workflow);
            }
        };
        learner.set_lesson_threshold(config.learning.lesson_threshold).await;
        // That of the tree: the commit of an event may be another one.
        let head = git.as_ref().and_then(|git| git.commit("HEAD")).unwrap_or_default();
        let (commit, changed) = commit_and_changes(git.as_ref(), &head);
        let facts = RunFacts {
            repository,
            workflow: workflow.clone(),
            run: run.to_string(),
            attempt,
            commit,
            changed: changed.clone(),
            environment,
        };
        let observer = Arc::new(LearningObserver::new(learner, facts));
        let queue = Some(QueuedObserver::new(observer.clone(), Patience::Long));
        Learning { observer: Some(observer), queue, workflow, changed }
    }

    /// Says what is to be expected.
    pub(super) async fn say_forecast(&self) {
        let Some(observer) = &self.observer else { return };
        let forecast = observer.learner().forecast(&self.workflow, &self.changed).await;
        if !forecast.is_empty() {
            output::note(&format!("expected: {}", output::one_line(&forecast.to_string())));
        }
    }

    /// Learns from everything that happened so far, and from nothing that comes.
    pub(super) async fn settle(&self) {
        let Some(queue) = &self.queue else { return };
        if let Err(error) = queue.settle().await {
            output::warning(&format!("not everything was learned from this run: {error}"));
        }
    }

    /// What this run is to be told, once it is over and [settled](Learning::settle).
    pub(super) async fn tell(&self) -> Told {
        let Some(observer) = &self.observer else { return Told::default() };
        if let Err(error) = observer.learner().tidy().await {
            output::warning(&format!("what was learned cannot be compacted: {}", chain(&error)));
        }
        let failed = observer.failed_commands();
        let insights = observer.learner().insights().await;
        let concerns =
            |lesson: &&Lesson| lesson.state == LessonState::Active && failed.contains(&lesson.command);
        let mut lessons: Vec<String> =
            insights.lessons.iter().filter(concerns).map(ToString::to_string).collect();
        let unstable = insights.unstable.iter().filter(|one| failed.contains(&one.command));
        lessons.extend(unstable.filter(|one| one.verdict.class.name() == "flaky").map(ToString::to_string));
        for anomaly in observer.learned().iter().flat_map(|learned| &learned.anomalies) {
            lessons.push(insight::anomaly_text(anomaly));
        }
        lessons.truncate(MAX_LINES);
        let commands = observer.commands();
        let is_of_run = |suggestion: &&Suggestion| match &suggestion.command {
            Some(command) => commands.contains(command),
            None => {
                suggestion.groups.iter().flatten().any(|command| commands.contains(command))
                    || suggestion.to_string().contains(&self.workflow)
            }
        };
        let suggestions =
            insights.suggestions.iter().filter(is_of_run).take(2).map(ToString::to_string).collect();
        Told { lessons, suggestions }
    }
}

impl Told {
    /// Prints it.
    pub(super) fn say(&self) {
        for lesson in &self.lessons {
            output::note(&format!("learned: {}", output::one_line(lesson)));
        }
        for suggestion in &self.suggestions {
            output::note(&format!("suggestion: {}", output::one_line(suggestion)));
        }
    }
}

#[async_trait]
impl RunObserver for Learning {
    async fn observe(&self, event: &RunEvent) {
        if let Some(queue) = &self.queue {
            queue.observe(event).await;
        }
    }
}

/// The commit with a hash of what was changed since, and the paths that both change.
fn commit_and_changes(git: Option<&Repository>, sha: &str) -> (String, Vec<String>) {
    let Some(git) = git else { return (sha.to_owned(), Vec::new()) };
    let changes = git.changes();
    let commit = match changes.uncommitted {
        Some(hash) if !sha.is_empty() => format!("{sha}+{hash}"),
        _ => sha.to_owned(),
    };
    (commit, changes.paths)
}
