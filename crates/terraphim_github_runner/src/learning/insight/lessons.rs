//! Failures that repeat.

use std::fmt;

use serde::Serialize;

use super::current::Current;
use crate::learning::model::{FailureFact, LessonState, Model};

/// A failure that repeated often enough, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lesson {
    /// The command, by its canonical form.
    pub command: String,
    /// Its first line, masked.
    pub example: String,
    /// The workflow in which it last ran.
    pub workflow: String,
    /// Active, or retired: the command succeeded often enough since, or its workflow has it no more.
    pub state: LessonState,
    /// The failure, with how often, when, and since which commit.
    #[serde(flatten)]
    pub failure: FailureFact,
    /// What can be done about it, in general.
    pub advice: &'static str,
}

/// All lessons, active ones first, the most frequent first.
#[must_use]
pub fn lessons(model: &Model) -> Vec<Lesson> {
    let current = Current::of(model);
    let threshold = model.lesson_threshold();
    let mut found: Vec<Lesson> = model
        .commands()
        .flat_map(|(canonical, fact)| fact.reasons.iter().map(move |reason| (canonical, fact, reason)))
        .filter_map(|(canonical, fact, reason)| match reason.state(threshold) {
            LessonState::Candidate => None,
            LessonState::Active if current.has(canonical, fact) => {
                Some((canonical, fact, reason, LessonState::Active))
            }
            _ => Some((canonical, fact, reason, LessonState::Retired)),
        })
        .map(|(canonical, fact, reason, state)| Lesson {
            command: canonical.to_owned(),
            example: fact.example.clone(),
            workflow: fact.place.workflow.clone(),
            state,
            failure: reason.clone(),
            advice: reason.cause.advice(),
        })
        .collect();
    found.sort_by(|a, b| {
        let retired = |lesson: &Lesson| lesson.state == LessonState::Retired;
        let times = b.failure.count.cmp(&a.failure.count);
        retired(a)
            .cmp(&retired(b))
            .then(times)
            .then_with(|| (&a.failure.id, &a.command).cmp(&(&b.failure.id, &b.command)))
    });
    found
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailureFact { cause, text, count, runs, first_commit, last_good, suspects, .. } = &self.failure;
        write!(f, "`{}` fails with \"{text}\" ({cause})", self.example)?;
        write!(f, ": {count} times, last in run {}", runs.last().map_or("?", String::as_str))?;
        if !first_commit.is_empty() {
            write!(f, "; since {}", short(first_commit))?;
            if let Some(good) = last_good {
                write!(f, " (last good {})", short(good))?;
            }
            if !suspects.is_empty() {
                write!(f, ", which changed {}", suspects.join(", "))?;
            }
        }
        write!(f, "; {}", self.advice)
    }
}

/// A commit as people write it; what was not committed keeps its mark.
pub(super) fn short(commit: &str) -> String {
    match commit.split_once('+') {
        Some((sha, _)) => format!("{}+changes", sha.get(..10).unwrap_or(sha)),
        None => commit.get(..10).unwrap_or(commit).to_owned(),
    }
}
