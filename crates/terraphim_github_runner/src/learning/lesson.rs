//! What learning has to say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A lesson that applies to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicableLesson {
    /// Its id; the same for as long as the coordinator lives.
    pub id: String,
    /// What happens, in one line.
    pub title: String,
    /// Why it applies here.
    pub reason: String,
    /// What to do.
    pub recommendation: String,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
}

impl fmt::Display for ApplicableLesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.recommendation)
    }
}

/// Something that could be done better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowOptimization {
    /// What kind of change.
    pub optimization_type: OptimizationType,
    /// What to do and why.
    pub description: String,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// What it would bring, if that is known.
    pub expected_improvement: Option<String>,
    /// The command it is about.
    pub related_command: Option<String>,
}

impl fmt::Display for WorkflowOptimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)?;
        match &self.expected_improvement {
            Some(gain) => write!(f, " ({gain})"),
            None => Ok(()),
        }
    }
}

/// A kind of change to a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptimizationType {
    /// Keep what the command makes between runs.
    CacheOperation,
    /// Do something about a command that fails often.
    AvoidFailurePattern,
    /// Run it before others that take longer and fail less.
    RunEarlier,
    /// Run it beside others.
    RunInParallel,
    /// Run it again when it fails.
    Retry,
    /// Change its time limit.
    AdjustTimeout,
    /// Run a leg of a matrix less often.
    ReduceMatrix,
}
