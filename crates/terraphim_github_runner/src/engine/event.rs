//! What a run says about itself while it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::report::EnvironmentReport;

/// Identifies one job of a run: the job's id, and for a matrix its index (`test.2`).
///
/// Unique in a run and safe as the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct JobKey(pub Arc<str>);

impl JobKey {
    /// The key of the job `id`, or of its matrix job number `index`.
    #[must_use]
    pub fn new(id: &str, index: Option<usize>) -> JobKey {
        JobKey(index.map_or_else(|| Arc::from(id), |index| Arc::from(format!("{id}.{index}"))))
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// It was stopped, or not started, because something was cancelled.
    Cancelled,
    /// Its condition was false.
    Skipped,
}

impl Conclusion {
    /// GitHub's word for it, as expressions see it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Conclusion::Success => "success",
            Conclusion::Failure => "failure",
            Conclusion::Cancelled => "cancelled",
            Conclusion::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunConclusion {
    /// No job failed.
    Success,
    /// A job failed, or ran out of time.
    Failure,
    /// Someone cancelled the run.
    Cancelled,
    /// The VM or its host failed: nothing is known about the workflow.
    InfrastructureFault,
}

/// How important an [`Annotation`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotationLevel {
    /// `::notice::`
    Notice,
    /// `::warning::`
    Warning,
    /// `::error::`
    Error,
}

/// A message about the run or about a place in a file of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Annotation {
    /// How important it is.
    pub level: AnnotationLevel,
    /// The message, masked.
    pub message: String,
    /// A short title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The file, relative to the workspace if it is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// First line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// First column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub col: Option<u32>,
    /// Last column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_col: Option<u32>,
}

impl Annotation {
    /// A message without a place.
    pub fn new(level: AnnotationLevel, message: impl Into<String>) -> Annotation {
        Annotation {
            level,
            message: message.into(),
            title: None,
            file: None,
            line: None,
            end_line: None,
            col: None,
            end_col: None,
        }
    }
}

/// Something that happened in a run. All texts are masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins.
    RunStarted {
        /// Identifies the run; also the id of its session.
        run_id: Uuid,
        /// The name of the workflow.
        workflow: String,
        /// Its title: `run-name`, else the name of the workflow.
        title: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Something about the whole run that a reader should know.
    Notice {
        /// The text.
        message: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A VM is ready.
    VmAllocated {
        /// Its id.
        vm_id: String,
        /// The type of VM that was asked for.
        vm_type: String,
        /// The job it is for; absent if it is for all of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<JobKey>,
        /// How long it took.
        #[serde(rename = "took_ms", serialize_with = "millis")]
        took: Duration,
        /// When.
        at: DateTime<Utc>,
    },
    /// A command of the workflow's setup or cleanup begins.
    CommandStarted {
        /// Before or after the jobs.
        phase: Phase,
        /// The command.
        command: String,
        /// Its number in its phase, from 1.
        number: usize,
        /// How many there are in its phase.
        of: usize,
        /// When.
        at: DateTime<Utc>,
    },
    /// A command of the workflow's setup or cleanup ended.
    CommandFinished {
        /// Before or after the jobs.
        phase: Phase,
        /// Its number in its phase, from 1.
        number: usize,
        /// Failed also when it took too long; cancelled when the run was.
        outcome: Conclusion,
        /// Its exit code.
        exit_code: i32,
        /// How long it took.
        #[serde(rename = "duration_ms", serialize_with = "millis")]
        duration: Duration,
        /// When.
        at: DateTime<Utc>,
    },
    /// A job begins.
    JobStarted {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// The VM it runs in.
        vm_id: String,
        /// The environment that it is for, masked.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment: Option<String>,
        /// `permissions`, without the scopes in which it may do nothing; absent if neither the job nor the workflow says.
        #[serde(skip_serializing_if = "Option::is_none")]
        permissions: Option<IndexMap<&'static str, &'static str>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A job is not run.
    JobSkipped {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// [`Conclusion::Skipped`] or [`Conclusion::Cancelled`].
        conclusion: Conclusion,
        /// When.
        at: DateTime<Utc>,
    },
    /// A job is not run, because it ended well in the run that this one repeats.
    JobKept {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// The environment that it was for.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentReport>,
        /// `permissions`, without the scopes in which it may do nothing; absent if neither the job nor the workflow says.
        #[serde(skip_serializing_if = "Option::is_none")]
        permissions: Option<IndexMap<&'static str, &'static str>>,
        /// How it ended.
        outcome: Conclusion,
        /// The same after `continue-on-error`: what dependent jobs see.
        conclusion: Conclusion,
        /// Its outputs.
        outputs: IndexMap<String, String>,
        /// When this was found.
        at: DateTime<Utc>,
    },
    /// A step begins. One whose condition is false does not begin, it only finishes.
    StepStarted {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// Its number in the job, from 1.
        number: usize,
        /// How many steps the job has.
        of: usize,
        /// The steps that follow run beside it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        background: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// A script or program of a step is about to run. A step made of several says so for each.
    ScriptStarted {
        /// The job.
        job: JobKey,
        /// The step's number.
        step: usize,
        /// The script, masked.
        script: String,
        /// The step's own time limit in milliseconds, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Whole lines that a step wrote.
    Output {
        /// The job; absent for setup and cleanup.
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<JobKey>,
        /// The step's number, from 1; the command's number for setup and cleanup.
        step: usize,
        /// The lines with their line ends.
        #[serde(serialize_with = "lossy")]
        text: Bytes,
        /// When they arrived.
        at: DateTime<Utc>,
    },
    /// The lines that follow belong together.
    GroupStart {
        /// The job.
        job: JobKey,
        /// The step's number.
        step: usize,
        /// The title of the group.
        name: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The group ends.
    GroupEnd {
        /// The job.
        job: JobKey,
        /// The step's number.
        step: usize,
        /// When.
        at: DateTime<Utc>,
    },
    /// A message of a step or about a job.
    Annotation {
        /// The job.
        job: JobKey,
        /// The step's number; absent if it is about the job.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<usize>,
        /// The message.
        annotation: Annotation,
        /// When.
        at: DateTime<Utc>,
    },
    /// What a step wrote to `GITHUB_STEP_SUMMARY`.
    Summary {
        /// The job.
        job: JobKey,
        /// The step's number.
        step: usize,
        /// Markdown.
        text: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A step ended, or is not run.
    StepFinished {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// The step's number.
        number: usize,
        /// How it ended.
        outcome: Conclusion,
        /// The same after `continue-on-error`.
        conclusion: Conclusion,
        /// Its exit code, if it ran.
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// How long it took.
        #[serde(rename = "duration_ms", serialize_with = "millis")]
        duration: Duration,
        /// When.
        at: DateTime<Utc>,
    },
    /// A job ended.
    JobFinished {
        /// The job.
        job: JobKey,
        /// Its name for people.
        name: String,
        /// How it ended.
        outcome: Conclusion,
        /// The same after `continue-on-error`: what dependent jobs see.
        conclusion: Conclusion,
        /// Its outputs.
        outputs: IndexMap<String, String>,
        /// The address of its environment, which the steps may have given.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_url: Option<String>,
        /// How long it took.
        #[serde(rename = "duration_ms", serialize_with = "millis")]
        duration: Duration,
        /// When.
        at: DateTime<Utc>,
    },
    /// The run ended. Always the last event of a run that began.
    RunFinished {
        /// How.
        conclusion: RunConclusion,
        /// Why, for an infrastructure fault.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// How long it took.
        #[serde(rename = "duration_ms", serialize_with = "millis")]
        duration: Duration,
        /// When.
        at: DateTime<Utc>,
    },
}

/// The two lists of commands around the jobs of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the jobs.
    Setup,
    /// After the jobs, always.
    Cleanup,
}

/// Is told what happens in a run.
#[async_trait]
pub trait RunObserver: Send + Sync {
    /// Takes the next event. What the event is about waits meanwhile: a slow observer slows the steps down, so
    /// nothing piles up in memory. Events of one job come in order; jobs that run at the same time call at the
    /// same time.
    async fn observe(&self, event: &RunEvent);

    /// Takes several events, which happened in this order. Who does more for one than for one among many may gather it.
    async fn observe_all(&self, events: &[RunEvent]) {
        for event in events {
            self.observe(event).await;
        }
    }
}

pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn lossy<S: Serializer>(text: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(text))
}
