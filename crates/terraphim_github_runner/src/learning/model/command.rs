//! What is known about one command of a repository, and its lessons.

use serde::{Deserialize, Deserializer, Serialize};

use super::history::History;
use super::job::StepPlace;
use super::repetition::LessonThreshold;
use super::window::Window;
use crate::learning::signature::Cause;

/// Different failures that are told apart for one command.
pub(super) const MAX_FAILURES: usize = 16;
/// Runs that a failure names.
const MAX_RUNS: usize = 5;
/// After so many successes in a row a lesson has had its day.
pub(super) const RETIRED_AFTER: u64 = 5;

/// A command, known by its canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFact {
    /// The first line of the command as it was last run, masked.
    pub example: String,
    /// Tools with their subcommands.
    pub subcommand: String,
    /// Successes ever.
    pub successes: u64,
    /// Failures ever.
    pub failures: u64,
    /// How often the host made it fail.
    pub faults: u64,
    /// Milliseconds that the last successes took.
    pub durations: Window,
    /// Lines that the last successes wrote.
    pub lines: Window,
    /// Its last outcomes.
    pub history: History,
    /// Its failures by signature.
    pub reasons: Vec<FailureFact>,
    /// Its own time limit in milliseconds, when it last had one.
    pub limit_ms: Option<u64>,
    /// Where it last ran.
    pub place: StepPlace,
    /// How often it ran again, in the same step and with the same text, on a commit and environment where it had failed.
    pub retries: u64,
    /// How many of those succeeded.
    pub cured: u64,
    /// The commit of the last success.
    pub last_good: String,
    /// When it last ended, in milliseconds since 1970.
    pub last_ms: i64,
}

impl CommandFact {
    /// How often it ran to an end of its own.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.successes + self.failures
    }

    /// The share of its runs that failed, from 0 to 1.
    #[must_use]
    pub fn failure_share(&self) -> f64 {
        if self.runs() == 0 { 0.0 } else { super::rate::real(self.failures) / super::rate::real(self.runs()) }
    }
}

/// Where a lesson is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LessonState {
    /// Not repeated often enough.
    #[default]
    Candidate,
    /// A lesson.
    Active,
    /// Was a lesson until the command succeeded often enough.
    Retired,
}

/// One reason for which a command fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureFact {
    /// The id of its template.
    pub id: String,
    /// What kind of cause.
    pub cause: Cause,
    /// The line that tells it, masked.
    pub text: String,
    /// How often.
    pub count: u64,
    /// How often since it last counted from zero.
    pub recent: u64,
    /// The most that `recent` ever was.
    #[serde(alias = "state", deserialize_with = "peak")]
    pub peak: u64,
    /// The last runs.
    pub runs: Vec<String>,
    /// When it was first seen, in milliseconds since 1970.
    pub first_ms: i64,
    /// When it was last seen.
    pub last_ms: i64,
    /// The first commit with it.
    pub first_commit: String,
    /// The last commit without it, if there was one.
    pub last_good: Option<String>,
    /// What the first commit with it changed.
    pub suspects: Vec<String>,
    /// Successes of the command since it was last seen.
    pub successes_since: u64,
}

impl FailureFact {
    /// Where it is in its life.
    #[must_use]
    pub fn state(&self, threshold: LessonThreshold) -> LessonState {
        if self.recent >= threshold.get() {
            LessonState::Active
        } else if self.peak >= threshold.get() {
            LessonState::Retired
        } else {
            LessonState::Candidate
        }
    }
}

/// A baseline of before the threshold could be chosen has the state at three failures in this place.
fn peak<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Peak(u64),
        State(LessonState),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Peak(peak) => peak,
        Stored::State(LessonState::Candidate) => 0,
        Stored::State(LessonState::Active | LessonState::Retired) => LessonThreshold::default().get(),
    })
}

/// What a failure is about, as an event gives it.
pub(super) struct Failure<'a> {
    pub(super) id: String,
    pub(super) cause: Cause,
    pub(super) text: String,
    pub(super) run: &'a str,
    pub(super) commit: &'a str,
    pub(super) changed: &'a [String],
    pub(super) at_ms: i64,
}

/// What noting a failure changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) is_new_reason: bool,
    /// How often it came since it last counted from zero; 0 when it is not told apart.
    pub(super) times: u64,
}

/// So many paths of a suspected change are kept.
const MAX_SUSPECTS: usize = 8;

impl CommandFact {
    pub(super) fn note_failure(&mut self, failure: &Failure<'_>) -> Noted {
        let known = self.reasons.iter().position(|reason| reason.id == failure.id);
        let at = known.unwrap_or_else(|| self.new_reason(failure));
        let reason = &mut self.reasons[at];
        reason.count += 1;
        reason.recent += 1;
        reason.peak = reason.peak.max(reason.recent);
        reason.text.clone_from(&failure.text);
        reason.last_ms = reason.last_ms.max(failure.at_ms);
        reason.successes_since = 0;
        if !reason.runs.iter().any(|run| run == failure.run) {
            if reason.runs.len() >= MAX_RUNS {
                reason.runs.remove(0);
            }
            reason.runs.push(failure.run.to_owned());
        }
        Noted { is_new_reason: known.is_none(), times: reason.recent }
    }

    /// A reason that was not seen before. When there are too many, the one that came the fewest times lately makes room,
    /// of several the one that was not seen for the longest time.
    fn new_reason(&mut self, failure: &Failure<'_>) -> usize {
        if self.reasons.len() >= MAX_FAILURES {
            let fewest = self.reasons.iter().enumerate().min_by_key(|(_, one)| (one.recent, one.last_ms));
            let (at, _) = fewest.expect("there are as many as there may be");
            self.reasons.remove(at);
        }
        self.reasons.push(FailureFact {
            id: failure.id.clone(),
            cause: failure.cause,
            text: failure.text.clone(),
            count: 0,
            recent: 0,
            peak: 0,
            runs: Vec::new(),
            first_ms: failure.at_ms,
            last_ms: failure.at_ms,
            first_commit: failure.commit.to_owned(),
            last_good: Some(self.last_good.clone()).filter(|commit| !commit.is_empty()),
            suspects: failure.changed.iter().take(MAX_SUSPECTS).cloned().collect(),
            successes_since: 0,
        });
        self.reasons.len() - 1
    }

    pub(super) fn note_success(&mut self, commit: &str) {
        commit.clone_into(&mut self.last_good);
        for reason in &mut self.reasons {
            reason.successes_since += 1;
            if reason.successes_since == RETIRED_AFTER {
                // It has to repeat as often again to come back.
                reason.recent = 0;
            }
        }
    }
}
