//! What is learned from: one event for each command, job and run that ended.

use serde::{Deserialize, Serialize};

use super::signature::FailureSignature;

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A command before or after the jobs, or the script of a step.
    Command,
    /// A job; its name has the leg of a matrix (`test.2`).
    Job,
    /// A run.
    Run,
}

/// How it ended. What was cancelled or skipped is no event: nothing is known about what it would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It succeeded.
    Success,
    /// It failed, whether or not that was tolerated.
    Failure,
    /// The VM or its host failed: it counts neither for nor against the command.
    Fault,
}

/// The tests that a command reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSummary {
    /// How many passed.
    pub passed: u64,
    /// The names of those that failed; at most [`TestSummary::MAX_NAMES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// The names of those that passed now and failed at some time before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<String>,
}

impl TestSummary {
    /// More names are not kept: when so many fail, it is one cause.
    pub const MAX_NAMES: usize = 100;

    /// Whether there were no tests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == TestSummary::default()
    }
}

/// Something that ended. All texts are masked: no event holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearningEvent {
    /// Unique among all events of all machines, so that an import may be repeated.
    pub uid: String,
    /// What ended.
    pub kind: EventKind,
    /// `owner/name`.
    pub repository: String,
    /// The workflow file, or its name.
    pub workflow: String,
    /// The run: the same for everything that ended in it.
    pub run: String,
    /// 1, and one more for every repetition of the run.
    pub attempt: i64,
    /// The job with the leg of its matrix; `(setup)` and `(cleanup)` for commands around the jobs; empty for a run.
    pub job: String,
    /// The name of the step; empty for jobs and runs.
    pub step: String,
    /// The number of the step in its job, from 1; 0 for jobs and runs.
    pub number: i64,
    /// The command or script as it was run; empty for jobs and runs.
    pub command: String,
    /// The canonical form of the command before it in the same job; empty for the first.
    pub previous: String,
    /// How it ended.
    pub outcome: CommandOutcome,
    /// Its exit code, if it ran to an end.
    pub exit_code: Option<i32>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How long it might have taken, in milliseconds, if its own limit is known.
    pub limit_ms: Option<u64>,
    /// Why it failed.
    pub signature: Option<FailureSignature>,
    /// The commit, with a hash of what was changed in the working tree since; empty when unknown.
    pub commit: String,
    /// Paths that this commit changes; at most a few hundred.
    pub changed: Vec<String>,
    /// A hash of what else may matter: image, VM type, event.
    pub environment: String,
    /// The tests it reported.
    #[serde(default, skip_serializing_if = "TestSummary::is_empty")]
    pub tests: TestSummary,
    /// How many lines it wrote.
    pub output_lines: u64,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
}

impl LearningEvent {
    /// A command that ended, of which nothing else is known: no place, no time, no cause.
    #[must_use]
    pub fn of_command(repository: &str, run: &str, command: &str, outcome: CommandOutcome) -> LearningEvent {
        LearningEvent {
            uid: String::new(),
            kind: EventKind::Command,
            repository: repository.to_owned(),
            workflow: String::new(),
            run: run.to_owned(),
            attempt: 1,
            job: String::new(),
            step: String::new(),
            number: 0,
            command: command.to_owned(),
            previous: String::new(),
            outcome,
            exit_code: None,
            duration_ms: 0,
            limit_ms: None,
            signature: None,
            commit: String::new(),
            changed: Vec::new(),
            environment: String::new(),
            tests: TestSummary::default(),
            output_lines: 0,
            at_ms: 0,
        }
    }
}
