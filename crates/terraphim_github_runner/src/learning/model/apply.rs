//! Takes an event over into the counters.

use std::collections::BTreeSet;

use super::command::{CommandFact, Failure};
use super::history::Observation;
use super::job::StepPlace;
use super::window::{Anomaly, AnomalyKind};
use super::{Model, Prediction, key, rate};
use crate::learning::command::CommandIdentity;
use crate::learning::event::{CommandOutcome, EventKind, LearningEvent};
use crate::learning::mask;
use crate::learning::signature::{FailureSignature, assign_template, template_leaf};

/// A change that touches more directories than this says nothing about one of them.
const MAX_DIRECTORIES: usize = 12;
/// How much of a command is shown.
const EXAMPLE_CHARS: usize = 160;

/// What an event brought to light.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// The id of the failure's template that has just become a lesson.
    pub new_lesson: Option<String>,
    /// What was out of the ordinary.
    pub anomalies: Vec<Anomaly>,
}

impl Model {
    /// Takes an event over; `shared` is what all repositories share, if anything is.
    pub fn apply(&mut self, shared: Option<&mut Model>, event: &LearningEvent) -> Learned {
        self.apply_as(shared, &CommandIdentity::of(&event.command), event)
    }

    /// The same for whoever knows which command it is.
    pub(in crate::learning) fn apply_as(
        &mut self,
        shared: Option<&mut Model>,
        command: &CommandIdentity,
        event: &LearningEvent,
    ) -> Learned {
        self.add_to_totals(event);
        match event.kind {
            EventKind::Command => self.apply_command(shared, command, event),
            EventKind::Job => {
                self.apply_job(event);
                Learned::default()
            }
            EventKind::Run => {
                self.apply_run(event);
                Learned::default()
            }
        }
    }

    /// How probable it is that a command succeeds after the one with the canonical form `previous` (empty for the
    /// first), as of `now_ms`.
    #[must_use]
    pub fn predict(
        &self,
        shared: Option<&Model>,
        command: &CommandIdentity,
        previous: &str,
        now_ms: i64,
    ) -> Prediction {
        rate::predict(self, shared, command, previous, now_ms)
    }

    fn add_to_totals(&mut self, event: &LearningEvent) {
        let Some(totals) = self.totals.change("") else { return };
        totals.events += 1;
        totals.last_ms = totals.last_ms.max(event.at_ms);
        match (event.kind, event.outcome) {
            (EventKind::Run, _) => totals.runs += 1,
            (EventKind::Job, _) => {}
            (EventKind::Command, CommandOutcome::Success) => totals.successes += 1,
            (EventKind::Command, CommandOutcome::Failure) => totals.failures += 1,
            (EventKind::Command, CommandOutcome::Fault) => totals.faults += 1,
        }
    }

    fn apply_command(
        &mut self,
        shared: Option<&mut Model>,
        identity: &CommandIdentity,
        event: &LearningEvent,
    ) -> Learned {
        let success = event.outcome == CommandOutcome::Success;
        let mut learned = Learned::default();
        if event.outcome != CommandOutcome::Fault {
            rate::observe(self, shared, identity, &event.previous, success, event.at_ms);
            for directory in directories(&event.changed) {
                let key = format!("path {}", key(&identity.canonical, &directory));
                rate::observe_alone(self, &key, success, event.at_ms);
            }
        }
        let template = event.signature.as_ref().filter(|_| !success).map(|one| self.template(one));
        self.apply_tests(&identity.canonical, event);
        let Some(fact) = self.commands.change(&identity.canonical) else { return learned };
        let is_new = fact.runs() + fact.faults == 0;
        let is_first_success = success && fact.successes == 0;
        let observation = Observation::of(event, success);
        let is_retry = fact.history.last_like(&observation).is_some_and(|last| !last.success);
        fact.subcommand.clone_from(&identity.subcommand);
        fact.example = example(&event.command);
        fact.last_ms = fact.last_ms.max(event.at_ms);
        fact.limit_ms = event.limit_ms;
        fact.place = place(event);
        fact.history.add(observation);
        match event.outcome {
            CommandOutcome::Success => learned.anomalies = add_success(fact, &identity.canonical, event),
            CommandOutcome::Failure => fact.failures += 1,
            CommandOutcome::Fault => fact.faults += 1,
        }
        if is_retry {
            fact.retries += 1;
            fact.cured += u64::from(success);
        }
        let mut is_new_reason = false;
        if let Some(((id, text), signature)) = template.zip(event.signature.as_ref()) {
            let noted = fact.note_failure(&Failure {
                id: id.clone(),
                cause: signature.cause,
                text,
                run: &event.run,
                commit: &event.commit,
                changed: &event.changed,
                at_ms: event.at_ms,
            });
            is_new_reason = noted.is_new_reason;
            learned.new_lesson = (noted.times == self.lesson_threshold.get()).then_some(id);
            if let Some(repetitions) = self.repetitions.change("") {
                repetitions.add(noted.times);
            }
        }
        if let Some(totals) = self.totals.change("") {
            totals.commands += u64::from(is_new);
            totals.success_patterns += u64::from(is_first_success);
            totals.failure_patterns += u64::from(is_new_reason);
        }
        learned
    }

    /// The id and the text of the template of a signature.
    fn template(&mut self, signature: &FailureSignature) -> (String, String) {
        match self.templates.change(&template_leaf(signature)) {
            Some(node) => assign_template(node, signature),
            None => (signature.id(), signature.text.clone()),
        }
    }

    fn apply_tests(&mut self, canonical: &str, event: &LearningEvent) {
        for name in &event.tests.failed {
            if let Some(fact) = self.tests.change(&key(canonical, name)) {
                fact.failures += 1;
                // The test has a cause of its own, not that of the whole command.
                let signature = FailureSignature { cause: crate::learning::Cause::Test, text: name.clone() };
                let event = LearningEvent { signature: Some(signature), ..event.clone() };
                fact.history.add(Observation::of(&event, false));
            }
        }
        for name in &event.tests.recovered {
            if let Some(fact) = self.tests.change_known(&key(canonical, name)) {
                fact.passes += 1;
                fact.history.add(Observation::of(event, true));
            }
        }
    }

    fn apply_job(&mut self, event: &LearningEvent) {
        if event.outcome == CommandOutcome::Fault {
            return;
        }
        let (job, leg) = split_leg(&event.job);
        if let Some(fact) = self.jobs.change(&key(&event.workflow, job)) {
            fact.add(&event.run, leg, event.outcome == CommandOutcome::Success, event.duration_ms);
        }
    }

    fn apply_run(&mut self, event: &LearningEvent) {
        let Some(fact) = self.runs.change(&event.workflow) else { return };
        fact.last_ms = fact.last_ms.max(event.at_ms);
        match event.outcome {
            CommandOutcome::Success => fact.add_success(event.duration_ms, event.at_ms),
            CommandOutcome::Failure => fact.failures += 1,
            CommandOutcome::Fault => fact.faults += 1,
        }
    }
}

fn place(event: &LearningEvent) -> StepPlace {
    StepPlace {
        workflow: event.workflow.clone(),
        job: split_leg(&event.job).0.to_owned(),
        step: event.step.clone(),
        number: event.number,
    }
}

/// A command that took less than this longer than usual, in milliseconds, is nothing to act upon: a busy machine does as much.
const WORTH_TELLING_MS: u64 = 1_000;

/// Counts a success; what is out of the ordinary is told by what was before it.
fn add_success(fact: &mut CommandFact, canonical: &str, event: &LearningEvent) -> Vec<Anomaly> {
    let (took, lines) = (event.duration_ms, event.output_lines);
    let mut found = Vec::new();
    if let Some(median) = fact.durations.is_unusually_large(took)
        && took - median >= WORTH_TELLING_MS
    {
        found.push(fact.durations.anomaly(AnomalyKind::Slow, canonical, took, median));
    }
    if let Some(median) = fact.lines.is_unusually_large(lines) {
        found.push(fact.lines.anomaly(AnomalyKind::MuchOutput, canonical, lines, median));
    } else if let Some(median) = fact.lines.is_unusually_small(lines) {
        found.push(fact.lines.anomaly(AnomalyKind::LittleOutput, canonical, lines, median));
    }
    fact.successes += 1;
    fact.durations.add(took);
    fact.lines.add(lines);
    fact.note_success(&event.commit);
    found
}

/// `test.2` is the leg `2` of the job `test`; a job id has no dot (GitHub, "jobs.<job_id>").
pub(super) fn split_leg(job: &str) -> (&str, &str) {
    job.split_once('.').unwrap_or((job, ""))
}

/// The directories, one and two deep, of changed paths; a file at the top counts by its name.
pub(in crate::learning) fn directories(changed: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for path in changed {
        let mut parts = path.split('/');
        let Some(first) = parts.next() else { continue };
        found.insert(first.to_owned());
        if let (Some(second), Some(_)) = (parts.next(), parts.next()) {
            found.insert(format!("{first}/{second}"));
        }
        if found.len() > MAX_DIRECTORIES {
            return Vec::new();
        }
    }
    found.into_iter().collect()
}

/// The first line that says something, masked.
fn example(command: &str) -> String {
    let lines = command.lines().map(str::trim);
    let mut telling =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -"));
    let first = telling.next().unwrap_or("");
    let more = if telling.next().is_some() { " …" } else { "" };
    format!("{}{more}", mask::text(first).chars().take(EXAMPLE_CHARS).collect::<String>())
}
