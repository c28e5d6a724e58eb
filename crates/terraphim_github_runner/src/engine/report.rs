//! What is left of a run when it is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde::Serialize;
use uuid::Uuid;

use super::event::{Annotation, Conclusion, JobKey, RunConclusion, millis};

/// A run and its jobs. Its JSON is what `tci run --json` writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// Identifies the run.
    pub run_id: Uuid,
    /// The name of the workflow.
    pub workflow: String,
    /// Its title.
    pub title: String,
    /// How it ended.
    pub conclusion: RunConclusion,
    /// Why, for an infrastructure fault or a run that could not begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// The VMs it ran in.
    pub vm_ids: Vec<String>,
    /// Its jobs in the order of the file; the jobs of a matrix in the order of the matrix.
    pub jobs: Vec<JobReport>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobReport {
    /// Identifies it in the run.
    pub key: JobKey,
    /// Its id in the file.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The VM it ran in, if it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// Its values of the matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<serde_json::Value>,
    /// How it ended.
    pub outcome: Conclusion,
    /// The same after `continue-on-error`.
    pub conclusion: Conclusion,
    /// It ended so in the run that this one repeats, and did not run again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Its outputs.
    pub outputs: IndexMap<String, String>,
    /// The environment that it was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentReport>,
    /// `permissions`, without the scopes in which it may do nothing; absent if neither the job nor the workflow says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<IndexMap<&'static str, &'static str>>,
    /// Messages about the job itself.
    pub annotations: Vec<Annotation>,
    /// When it began, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// How long it took.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// Its steps, as far as the job came.
    pub steps: Vec<StepReport>,
}

impl JobReport {
    /// A job that did not begin.
    pub(super) fn not_run(key: JobKey, id: &str, name: &str, conclusion: Conclusion) -> JobReport {
        JobReport {
            key,
            id: id.to_owned(),
            name: name.to_owned(),
            vm_id: None,
            matrix: None,
            outcome: conclusion,
            conclusion,
            kept: false,
            outputs: IndexMap::new(),
            environment: None,
            permissions: None,
            annotations: Vec::new(),
            started_at: None,
            duration: Duration::ZERO,
            steps: Vec::new(),
        }
    }
}

/// The environment of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvironmentReport {
    /// Its name.
    pub name: String,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Its number in the job, from 1.
    pub number: usize,
    /// Its `id`, if the file gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name for people.
    pub name: String,
    /// How it ended.
    pub outcome: Conclusion,
    /// The same after `continue-on-error`.
    pub conclusion: Conclusion,
    /// Its exit code, if it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Its outputs, masked.
    pub outputs: IndexMap<String, String>,
    /// Its messages.
    pub annotations: Vec<Annotation>,
    /// What it wrote to `GITHUB_STEP_SUMMARY`, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When it began, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// How long it took.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
}
