//! Which command follows which, and how that goes.
//!
//! Everything is counters: recording and predicting take the same time after a hundred thousand runs of one
//! pair of commands as after one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::graph::Graph;
use super::signature::FailureSignature;
use crate::error::Result;

/// Commands as nodes, "was run next" as edges, outcomes counted on the edges.
///
/// Safe to share between tasks. Its methods are `async` so that a graph in a database can take its place;
/// none of them waits.
#[derive(Debug, Default)]
pub struct CommandKnowledgeGraph {
    /// A plain mutex: each section is a few map operations and never waits.
    graph: Mutex<Graph>,
}

/// How much a graph holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandGraphStats {
    /// Successes recorded for pairs of commands.
    pub success_edges: u64,
    /// Failures recorded.
    pub failure_edges: u64,
    /// Pairs recorded as parts of one workflow.
    pub workflow_edges: u64,
    /// Different commands.
    pub unique_commands: usize,
}

impl CommandKnowledgeGraph {
    /// An empty graph.
    ///
    /// # Errors
    /// None in memory.
    pub async fn new() -> Result<Self> {
        Ok(CommandKnowledgeGraph::default())
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        // Counters stay usable whatever happened to their last user.
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `second` succeeded after `first`, in the run `context_id`.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_success_sequence(&self, first: &str, second: &str, context_id: &str) -> Result<()> {
        self.graph().success_after(first, second, context_id);
        Ok(())
    }

    /// Notes that `command` succeeded as the next one of the run `context_id`.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_success(&self, command: &str, context_id: &str) -> Result<()> {
        self.graph().next(command, true, context_id);
        Ok(())
    }

    /// Notes that `command` failed as the next one of the run `context_id`.
    ///
    /// It counts against the pair of the run's last command and this one; if the run's last command is not
    /// known, against all pairs that end in this one, by how often each was seen.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_failure(&self, command: &str, error: &str, context_id: &str) -> Result<()> {
        self.note_failure(command, FailureSignature::of(error).text, context_id);
        Ok(())
    }

    /// The same when the signature is known. It is made before the graph is locked: the output may be a megabyte.
    pub(super) fn note_failure(&self, command: &str, signature: String, context_id: &str) {
        self.graph().failure(command, signature, context_id);
    }

    /// Notes that these commands, in this order, are one workflow, and that the run `session_id` is over.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_workflow(&self, commands: &[String], session_id: &str) -> Result<()> {
        self.graph().workflow(commands, session_id);
        Ok(())
    }

    /// How probable it is that `second` succeeds after `first`: 0.5 when nothing is known, and close to the
    /// observed rate when much is (Laplace's rule of succession).
    pub async fn predict_success(&self, first: &str, second: &str) -> f64 {
        self.graph().predict(first, second)
    }

    /// Commands that ran right before or after this one, the most frequent first; then others of the same
    /// program.
    ///
    /// # Errors
    /// None in memory.
    pub async fn find_related_commands(&self, command: &str, limit: usize) -> Result<Vec<String>> {
        Ok(self.graph().related(command, limit))
    }

    /// The most frequent reasons for which a command failed, with how often.
    ///
    /// # Errors
    /// None in memory.
    pub async fn failure_signatures(&self, command: &str) -> Result<Vec<(String, u64)>> {
        Ok(self.graph().signatures(command))
    }

    /// How much the graph holds.
    pub async fn get_stats(&self) -> CommandGraphStats {
        self.graph().stats()
    }

    /// How many different commands there are.
    #[must_use]
    pub fn command_count(&self) -> usize {
        self.graph().stats().unique_commands
    }

    /// Whether this command was ever recorded.
    #[must_use]
    pub fn has_command(&self, command: &str) -> bool {
        self.graph().has(command)
    }
}
