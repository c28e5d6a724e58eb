//! Failures that repeat.

use std::fmt;

use serde::Serialize;

use crate::learning::model::{LessonState, Model};
use crate::learning::signature::Cause;

/// A failure that repeated often enough, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lesson {
    /// The id of the failure's signature.
    pub id: String,
    /// The command, by its canonical form.
    pub command: String,
    /// Its first line, masked.
    pub example: String,
    /// The workflow in which it last ran.
    pub workflow: String,
    /// What kind of cause.
    pub cause: Cause,
    /// The line that tells it, masked.
    pub text: String,
    /// Active or retired.
    pub state: LessonState,
    /// How often it happened.
    pub count: u64,
    /// The last runs with it.
    pub runs: Vec<String>,
    /// When it was first seen, in milliseconds since 1970.
    pub first_ms: i64,
    /// When it was last seen.
    pub last_ms: i64,
    /// The first commit with it; empty when unknown.
    pub first_commit: String,
    /// The last commit without it.
    pub last_good: Option<String>,
    /// What the first commit with it changed.
    pub suspects: Vec<String>,
    /// What can be done about it, in general.
    pub advice: &'static str,
}

/// All lessons, active ones first, the most frequent first.
#[must_use]
pub fn lessons(model: &Model) -> Vec<Lesson> {
    let mut found: Vec<Lesson> = model
        .commands()
        .flat_map(|(canonical, fact)| fact.reasons.iter().map(move |reason| (canonical, fact, reason)))
        .filter(|(_, _, reason)| reason.state != LessonState::Candidate)
        .map(|(canonical, fact, reason)| Lesson {
            id: reason.id.clone(),
            command: canonical.to_owned(),
            example: fact.example.clone(),
            workflow: fact.place.workflow.clone(),
            cause: reason.cause,
            text: reason.text.clone(),
            state: reason.state,
            count: reason.count,
            runs: reason.runs.clone(),
            first_ms: reason.first_ms,
            last_ms: reason.last_ms,
            first_commit: reason.first_commit.clone(),
            last_good: reason.last_good.clone(),
            suspects: reason.suspects.clone(),
            advice: reason.cause.advice(),
        })
        .collect();
    found.sort_by(|a, b| {
        let retired = |lesson: &Lesson| lesson.state == LessonState::Retired;
        retired(a).cmp(&retired(b)).then(b.count.cmp(&a.count)).then_with(|| a.id.cmp(&b.id))
    });
    found
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` fails with \"{}\" ({})", self.example, self.text, self.cause)?;
        write!(f, ": {} times, last in run {}", self.count, self.runs.last().map_or("?", String::as_str))?;
        if !self.first_commit.is_empty() {
            write!(f, "; since {}", short(&self.first_commit))?;
            if let Some(good) = &self.last_good {
                write!(f, " (last good {})", short(good))?;
            }
            if !self.suspects.is_empty() {
                write!(f, ", which changed {}", self.suspects.join(", "))?;
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
