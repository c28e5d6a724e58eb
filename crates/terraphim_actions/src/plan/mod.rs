//! What a run of a workflow will do, as far as that is known before it starts.
//!
//! [`Plan::new`] evaluates what the given contexts decide: conditions, matrices, names, runners,
//! groups. What depends on jobs that have not run, or on contexts that are not given, is marked
//! [`Known::Later`] with the reason; so is what asks for a property of `github` that is not given. A plan prints as text, as a graph for Mermaid or Graphviz, and
//! serializes to JSON.

mod build;
mod graph;
mod text;

use serde::Serialize;

/// A value that is known before the run, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known<T> {
    /// Known now.
    Now(T),
    /// Known during the run.
    Later(
        /// What it waits for.
        String,
    ),
}

impl<T> Known<T> {
    /// The value, if it is known.
    pub fn now(&self) -> Option<&T> {
        match self {
            Self::Now(value) => Some(value),
            Self::Later(_) => None,
        }
    }
}

/// The plan of a workflow.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The name of the workflow.
    pub name: Option<String>,
    /// The concurrency group of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Known<String>>,
    /// The jobs in an order in which each comes after those it needs; those that are free at the
    /// same time in the order of the file.
    pub jobs: Vec<PlannedJob>,
}

/// A job of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedJob {
    /// The id; that of a job in a called workflow comes after the caller's and `/`.
    pub id: String,
    /// The ids of the jobs it needs.
    pub needs: Vec<String>,
    /// The condition with the implicit `success()`.
    pub condition: String,
    /// Whether the condition holds.
    pub runs: Known<bool>,
    /// The jobs of the matrix, one if there is none.
    pub instances: Known<Vec<Instance>>,
    /// Does a failure cancel the other jobs of the matrix?
    pub fail_fast: bool,
    /// How many jobs of the matrix run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// The number of steps.
    pub steps: usize,
    /// What the job calls, and the jobs of that workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<PlannedCall>,
}

/// A call of a workflow.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedCall {
    /// `uses`
    pub uses: String,
    /// The jobs of the called workflow, if it was loaded.
    pub jobs: Vec<PlannedJob>,
}

/// One job of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Instance {
    /// The name.
    pub name: Known<String>,
    /// The values of the matrix.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub matrix: serde_json::Value,
    /// The labels of the runner; none for a job that calls a workflow.
    pub runs_on: Known<Vec<String>>,
    /// The concurrency group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Known<String>>,
    /// The environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Known<String>>,
}
