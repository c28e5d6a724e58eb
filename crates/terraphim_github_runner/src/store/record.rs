//! What is stored, as the rest of the program sees it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use terraphim_vm::ProcessId;

use crate::engine::{Conclusion, EnvironmentReport, RunConclusion};

/// The number of a run: 1, 2, 3 in the order of creation, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<RunId, Self::Err> {
        text.parse().map(RunId)
    }
}

/// How a run, job or step ended: what the engine says, and what it could no longer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredConclusion {
    /// Everything that counts succeeded.
    Success,
    /// Something failed.
    Failure,
    /// It was cancelled.
    Cancelled,
    /// Its condition was false.
    Skipped,
    /// The host failed, not the workflow: nothing is known about what it would have done.
    InfrastructureFault,
    /// The process that executed it ended before it did.
    Interrupted,
}

impl StoredConclusion {
    const ALL: [StoredConclusion; 6] = [
        StoredConclusion::Success,
        StoredConclusion::Failure,
        StoredConclusion::Cancelled,
        StoredConclusion::Skipped,
        StoredConclusion::InfrastructureFault,
        StoredConclusion::Interrupted,
    ];

    /// The word in the database and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StoredConclusion::Success => "success",
            StoredConclusion::Failure => "failure",
            StoredConclusion::Cancelled => "cancelled",
            StoredConclusion::Skipped => "skipped",
            StoredConclusion::InfrastructureFault => "infrastructure_fault",
            StoredConclusion::Interrupted => "interrupted",
        }
    }

    /// An unknown word in the database is never taken for a success.
    pub(super) fn from_word(word: &str) -> StoredConclusion {
        StoredConclusion::ALL
            .into_iter()
            .find(|known| known.name() == word)
            .unwrap_or(StoredConclusion::InfrastructureFault)
    }
}

impl From<Conclusion> for StoredConclusion {
    fn from(conclusion: Conclusion) -> StoredConclusion {
        match conclusion {
            Conclusion::Success => StoredConclusion::Success,
            Conclusion::Failure => StoredConclusion::Failure,
            Conclusion::Cancelled => StoredConclusion::Cancelled,
            Conclusion::Skipped => StoredConclusion::Skipped,
        }
    }
}

impl From<RunConclusion> for StoredConclusion {
    fn from(conclusion: RunConclusion) -> StoredConclusion {
        match conclusion {
            RunConclusion::Success => StoredConclusion::Success,
            RunConclusion::Failure => StoredConclusion::Failure,
            RunConclusion::Cancelled => StoredConclusion::Cancelled,
            RunConclusion::InfrastructureFault => StoredConclusion::InfrastructureFault,
        }
    }
}

impl fmt::Display for StoredConclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A run that is about to start.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The workflow's `name`, or its file name.
    pub workflow_name: String,
    /// The workflow file, relative to the repository.
    pub workflow_path: String,
    /// `owner/name`.
    pub repository: String,
    /// The event's name, for instance `push`.
    pub event: String,
    /// The full ref, for instance `refs/heads/main`; empty when unknown.
    pub git_ref: String,
    /// The commit; empty when unknown.
    pub sha: String,
    /// The run that this one repeats.
    pub rerun_of: Option<RunId>,
    /// Everything needed to run it again. Holds no secret.
    pub request: Value,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// The workflow's name.
    pub workflow_name: String,
    /// The workflow file, relative to the repository.
    pub workflow_path: String,
    /// `owner/name`.
    pub repository: String,
    /// The event's name.
    pub event: String,
    /// The full ref.
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// The how-manieth run of this workflow in this repository.
    pub run_number: i64,
    /// 1, and one more for every repetition.
    pub attempt: i64,
    /// The run that this one repeats.
    pub rerun_of: Option<RunId>,
    /// How it ended; absent while it runs.
    pub conclusion: Option<StoredConclusion>,
    /// Why it ended with a fault.
    pub error: Option<String>,
    /// The process that executes it, or did.
    pub owner: ProcessId,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it ended; unknown (absent) for an interrupted run.
    pub finished_at_ms: Option<i64>,
}

/// One job of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobRecord {
    /// Its place among the jobs of the run in the order in which they started, from 1; names its log file.
    pub number: i64,
    /// Unique in the run: the job's id, and in a matrix its index (`test.2`).
    pub key: String,
    /// Its display name.
    pub name: String,
    /// How it ended before `continue-on-error` was looked at; absent while it runs.
    pub outcome: Option<StoredConclusion>,
    /// How it counts.
    pub conclusion: Option<StoredConclusion>,
    /// The VM it ran in.
    pub vm_id: Option<String>,
    /// Its outputs.
    pub outputs: Value,
    /// The environment that it is for.
    pub environment: Option<EnvironmentReport>,
    /// `permissions`, by scope, without those in which it may do nothing; absent if its workflow does not say.
    pub permissions: Option<Value>,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// When it ended.
    pub finished_at_ms: Option<i64>,
    /// Its steps in order.
    pub steps: Vec<StepRecord>,
    /// Its annotations in order.
    pub annotations: Vec<AnnotationRecord>,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Its place in the job, from 1.
    pub number: i64,
    /// Its display name.
    pub name: String,
    /// How it ended before `continue-on-error` was looked at; absent while it runs.
    pub outcome: Option<StoredConclusion>,
    /// How it counts.
    pub conclusion: Option<StoredConclusion>,
    /// Its exit code, if it ran a process to its end.
    pub exit_code: Option<i64>,
    /// What it wrote to `GITHUB_STEP_SUMMARY`.
    pub summary: Option<String>,
    /// Where its log starts in the job's log file, in bytes.
    pub log_start: u64,
    /// Where its log ends; absent while it runs.
    pub log_end: Option<u64>,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// When it ended.
    pub finished_at_ms: Option<i64>,
}

/// A notice, warning or error that a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnotationRecord {
    /// The number of the step.
    pub step: Option<i64>,
    /// `notice`, `warning` or `error`.
    pub level: String,
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub message: String,
    /// The file it is about.
    pub file: Option<String>,
    /// The first line, from 1.
    pub line: Option<i64>,
    /// The last line.
    pub end_line: Option<i64>,
    /// The first column, from 1.
    pub col: Option<i64>,
    /// The last column.
    pub end_column: Option<i64>,
}

/// A run with its jobs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: RunRecord,
    /// Its jobs in the order in which they started.
    pub jobs: Vec<JobRecord>,
}
