//! Learns from a run while it happens: every command before and after the jobs, every script of a step, every job and
//! the run itself, with what really became of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tracing::warn;
use uuid::Uuid;

use super::command::CommandIdentity;
use super::event::{CommandOutcome, EventKind, LearningEvent, TestSummary};
use super::excerpt::Excerpt;
use super::learner::Learner;
use super::model::Learned;
use super::outcomes::{self, TestOutcome};
use super::signature::FailureSignature;
use crate::engine::{AnnotationLevel, Conclusion, JobKey, Phase, RunConclusion, RunEvent, RunObserver};
use crate::error::chain;

/// What is the same for everything in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// `owner/name`.
    pub repository: String,
    /// The workflow file, or its name.
    pub workflow: String,
    /// Identifies the run among the runs of this machine.
    pub run: String,
    /// 1, and one more for every repetition.
    pub attempt: i64,
    /// The commit, with a hash of what was changed in the working tree since; empty when unknown.
    pub commit: String,
    /// Paths that this commit changes.
    pub changed: Vec<String>,
    /// What else may matter: image, VM type, event.
    pub environment: String,
}

/// Output up to so many bytes is read in less time than it takes to hand it to another thread.
const SHORT_OUTPUT: usize = 1024;

/// Learns from one run. What goes wrong there is logged once and changes nothing in the run.
#[derive(Debug)]
pub struct LearningObserver {
    learner: Learner,
    facts: RunFacts,
    /// Never held across an `.await`.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<(Option<JobKey>, usize), Open>,
    /// The canonical form of the last command of each job; `None` is before and after the jobs.
    previous: HashMap<Option<JobKey>, String>,
    phase: Option<Phase>,
    has_warned: bool,
    learned: Vec<Learned>,
    /// The canonical forms of the commands that ended, and of those that failed.
    ended: BTreeSet<String>,
    failed: Vec<String>,
}

#[derive(Debug)]
struct Open {
    command: String,
    limit_ms: Option<u64>,
    output: Excerpt,
    at: DateTime<Utc>,
}

/// How something ended.
struct Ended<'a> {
    name: &'a str,
    outcome: CommandOutcome,
    exit_code: Option<i32>,
    duration_ms: u64,
    at: DateTime<Utc>,
}

impl LearningObserver {
    /// Learns from the run that `facts` are about.
    #[must_use]
    pub fn new(learner: Learner, facts: RunFacts) -> LearningObserver {
        LearningObserver { learner, facts, state: Mutex::default() }
    }

    /// What this run brought to light so far.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        self.state().learned.clone()
    }

    /// The canonical forms of the commands that failed in this run so far.
    #[must_use]
    pub fn failed_commands(&self) -> Vec<String> {
        self.state().failed.clone()
    }

    /// The canonical forms of all commands that ended in this run so far.
    #[must_use]
    pub fn commands(&self) -> BTreeSet<String> {
        self.state().ended.clone()
    }

    /// Who learns.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, key: (Option<JobKey>, usize), command: &str, limit_ms: Option<u64>, at: DateTime<Utc>) {
        let mut state = self.state();
        match state.open.get_mut(&key) {
            // A step of several scripts (an action made of steps) is one command.
            Some(open) => {
                open.command.push('\n');
                open.command.push_str(command);
            }
            None => {
                let open = Open { command: command.to_owned(), limit_ms, output: Excerpt::default(), at };
                state.open.insert(key, open);
            }
        }
    }

    fn write(&self, job: Option<&JobKey>, step: usize, text: &[u8]) {
        if let Some(open) = self.state().open.get_mut(&(job.cloned(), step)) {
            open.output.add(text);
        }
    }

    /// What was cancelled or skipped says nothing.
    async fn end_or_forget(
        &self,
        ready: &mut Vec<LearningEvent>,
        key: (Option<JobKey>, usize),
        name: &str,
        conclusion: Conclusion,
        exit_code: Option<i32>,
        (duration, at): (std::time::Duration, DateTime<Utc>),
    ) {
        match of_conclusion(conclusion) {
            Some(outcome) => {
                let duration_ms = millis(duration);
                self.end(ready, key, Ended { name, outcome, exit_code, duration_ms, at }).await;
            }
            None => {
                self.state().open.remove(&key);
            }
        }
    }

    async fn end(&self, ready: &mut Vec<LearningEvent>, key: (Option<JobKey>, usize), ended: Ended<'_>) {
        if let Some(event) = self.event_of(ready, key, ended).await {
            ready.push(event);
        }
    }

    /// The event of a command that ended; `None` when nothing was run. What is `ready` is learned first if it matters.
    async fn event_of(
        &self,
        ready: &mut Vec<LearningEvent>,
        key: (Option<JobKey>, usize),
        ended: Ended<'_>,
    ) -> Option<LearningEvent> {
        let (open, job, previous, canonical) = {
            let mut state = self.state();
            let open = state.open.remove(&key)?;
            let job = match (&key.0, state.phase) {
                (Some(job), _) => job.to_string(),
                (None, Some(Phase::Cleanup)) => "(cleanup)".to_owned(),
                (None, _) => "(setup)".to_owned(),
            };
            let canonical = CommandIdentity::of(&open.command).canonical;
            state.ended.insert(canonical.clone());
            if ended.outcome == CommandOutcome::Failure {
                state.failed.push(canonical.clone());
            }
            let previous = state.previous.insert(key.0, canonical.clone()).unwrap_or_default();
            (open, job, previous, canonical)
        };
        let (lines, limit_ms, command) = (open.output.lines(), open.limit_ms, open.command);
        // Reading a megabyte of output is no work for a thread that other jobs wait for.
        let output = open.output.text();
        let (failed, exit_code) = (ended.outcome != CommandOutcome::Success, ended.exit_code);
        let is_short = output.len() <= SHORT_OUTPUT;
        let look = move || {
            let signature = failed.then(|| FailureSignature::with_exit(&output, exit_code));
            (signature, outcomes::test_results(&output))
        };
        let (signature, tests) =
            if is_short { look() } else { tokio::task::spawn_blocking(look).await.ok()? };
        let summary = match tests.is_empty() {
            true => TestSummary::default(),
            false => {
                // A test that failed in the step before has recovered in this one.
                self.learn(ready).await;
                self.summary(&canonical, tests).await
            }
        };
        let number = i64::try_from(key.1).unwrap_or(i64::MAX);
        Some(LearningEvent {
            step: ended.name.to_owned(),
            number,
            command,
            previous,
            exit_code,
            limit_ms,
            signature,
            tests: summary,
            output_lines: lines,
            ..self.event(EventKind::Command, job, &ended)
        })
    }

    /// What the tests of a command came to.
    async fn summary(&self, canonical: &str, tests: Vec<outcomes::TestResult>) -> TestSummary {
        let mut summary = TestSummary::default();
        self.learner
            .with_models(|models| {
                for test in tests {
                    match test.outcome {
                        TestOutcome::Passed => {
                            summary.passed += 1;
                            if models.own.watches_test(canonical, &test.name) {
                                summary.recovered.push(test.name);
                            }
                        }
                        TestOutcome::Failed if summary.failed.len() < TestSummary::MAX_NAMES => {
                            summary.failed.push(test.name);
                        }
                        TestOutcome::Failed | TestOutcome::Skipped => {}
                    }
                }
            })
            .await;
        summary.recovered.truncate(TestSummary::MAX_NAMES);
        summary
    }

    fn event(&self, kind: EventKind, job: String, ended: &Ended<'_>) -> LearningEvent {
        let facts = self.facts.clone();
        LearningEvent {
            uid: Uuid::now_v7().to_string(),
            kind,
            workflow: facts.workflow,
            attempt: facts.attempt,
            job,
            duration_ms: ended.duration_ms,
            commit: facts.commit,
            changed: facts.changed,
            environment: facts.environment,
            at_ms: ended.at.timestamp_millis(),
            ..LearningEvent::of_command(&facts.repository, &facts.run, "", ended.outcome)
        }
    }

    /// Learns all that is ready.
    async fn learn(&self, ready: &mut Vec<LearningEvent>) {
        if ready.is_empty() {
            return;
        }
        match self.learner.learn(&std::mem::take(ready)).await {
            Ok(learned) => self.state().learned.extend(learned),
            Err(error) => {
                let is_first = !std::mem::replace(&mut self.state().has_warned, true);
                if is_first {
                    warn!("cannot learn from this run: {}", chain(&error));
                }
            }
        }
    }

    /// The VM or its host failed: what was running did not fail by itself.
    async fn fault(&self, ready: &mut Vec<LearningEvent>, at: DateTime<Utc>) {
        let open: Vec<_> = self.state().open.iter().map(|(key, open)| (key.clone(), open.at)).collect();
        for (key, since) in open {
            let duration_ms = u64::try_from((at - since).num_milliseconds()).unwrap_or(0);
            let ended = Ended { name: "", outcome: CommandOutcome::Fault, exit_code: None, duration_ms, at };
            self.end(ready, key, ended).await;
        }
    }

    /// Takes an event in; what it makes ready is to be learned afterwards.
    async fn take(&self, ready: &mut Vec<LearningEvent>, event: &RunEvent) {
        match event {
            RunEvent::CommandStarted { phase, command, number, at, .. } => {
                self.state().phase = Some(*phase);
                self.begin((None, *number), command, None, *at);
            }
            RunEvent::ScriptStarted { job, step, script, limit_ms, at } => {
                self.begin((Some(job.clone()), *step), script, *limit_ms, *at);
            }
            RunEvent::Output { job, step, text, .. } => self.write(job.as_ref(), *step, text),
            RunEvent::Annotation { job, step: Some(step), annotation, .. }
                if annotation.level == AnnotationLevel::Error =>
            {
                self.write(Some(job), *step, format!("{}\n", annotation.message).as_bytes());
            }
            RunEvent::CommandFinished { number, outcome, exit_code, duration, at, .. } => {
                let (key, exit_code) = ((None, *number), Some(*exit_code));
                self.end_or_forget(ready, key, "", *outcome, exit_code, (*duration, *at)).await;
            }
            RunEvent::StepFinished { job, name, number, outcome, exit_code, duration, at, .. } => {
                let key = (Some(job.clone()), *number);
                self.end_or_forget(ready, key, name, *outcome, *exit_code, (*duration, *at)).await;
            }
            RunEvent::JobFinished { job, outcome, duration, at, .. } => {
                if let Some(outcome) = of_conclusion(*outcome) {
                    let duration_ms = millis(*duration);
                    let ended = Ended { name: "", outcome, exit_code: None, duration_ms, at: *at };
                    ready.push(self.event(EventKind::Job, job.to_string(), &ended));
                }
            }
            RunEvent::RunFinished { conclusion, duration, at, .. } => {
                let outcome = match conclusion {
                    RunConclusion::Success => CommandOutcome::Success,
                    RunConclusion::Failure => CommandOutcome::Failure,
                    RunConclusion::InfrastructureFault => CommandOutcome::Fault,
                    RunConclusion::Cancelled => return,
                };
                if outcome == CommandOutcome::Fault {
                    self.fault(ready, *at).await;
                }
                let duration_ms = millis(*duration);
                let ended = Ended { name: "", outcome, exit_code: None, duration_ms, at: *at };
                ready.push(self.event(EventKind::Run, String::new(), &ended));
            }
            _ => {}
        }
    }
}

#[async_trait]
impl RunObserver for LearningObserver {
    async fn observe(&self, event: &RunEvent) {
        self.observe_all(std::slice::from_ref(event)).await;
    }

    /// Learns in one go, which takes little longer for many events than for one.
    async fn observe_all(&self, events: &[RunEvent]) {
        let mut ready = Vec::new();
        for event in events {
            self.take(&mut ready, event).await;
        }
        self.learn(&mut ready).await;
    }
}

/// `None` for what was cancelled or skipped.
fn of_conclusion(conclusion: Conclusion) -> Option<CommandOutcome> {
    match conclusion {
        Conclusion::Success => Some(CommandOutcome::Success),
        Conclusion::Failure => Some(CommandOutcome::Failure),
        Conclusion::Cancelled | Conclusion::Skipped => None,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
