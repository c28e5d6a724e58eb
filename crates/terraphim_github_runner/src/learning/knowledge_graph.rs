//! Which command follows which, and how that goes.
//!
//! A thin front of the model of [`super::model`]. Everything is counters: recording and predicting take the same time
//! after a hundred thousand runs of one pair of commands as after one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::memory::{Memory, Told};
use super::signature::FailureSignature;
use crate::error::Result;

/// Commands as nodes, "was run next" as edges, outcomes counted on the edges.
///
/// Commands are told apart by their text, without blanks around it. At most 120,000 are; what happens to further ones
/// is only counted.
///
/// Safe to share between tasks. Its methods are `async` so that a graph in a database can take its place;
/// none of them waits.
#[derive(Debug, Default)]
pub struct CommandKnowledgeGraph {
    /// A plain mutex: each section is a few map operations and never waits. Shared with the coordinator whose graph
    /// this is.
    memory: Arc<Mutex<Memory>>,
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

    /// A graph of what a coordinator learns.
    pub(super) fn of(memory: Arc<Mutex<Memory>>) -> CommandKnowledgeGraph {
        CommandKnowledgeGraph { memory }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Counters stay usable whatever happened to their last user.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `second` succeeded after `first`, in the run `context_id`.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_success_sequence(&self, first: &str, second: &str, context_id: &str) -> Result<()> {
        let told = Told { command: second, after: Some(first), context: context_id, ..Told::default() };
        self.memory().record(told);
        Ok(())
    }

    /// Notes that `command` succeeded as the next one of the run `context_id`.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_success(&self, command: &str, context_id: &str) -> Result<()> {
        self.memory().record(Told { command, context: context_id, ..Told::default() });
        Ok(())
    }

    /// Notes that `command` failed as the next one of the run `context_id`.
    ///
    /// It counts against the pair of the run's last command and this one; if the run's last command is not
    /// known, against one of the pairs that end in this one, each as often as its share of them.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_failure(&self, command: &str, error: &str, context_id: &str) -> Result<()> {
        // Made before the memory is locked: the output may be a megabyte.
        let failure = Some(FailureSignature::of(error));
        self.memory().record(Told { command, context: context_id, failure, ..Told::default() });
        Ok(())
    }

    /// Notes that these commands, in this order, are one workflow, and that the run `session_id` is over.
    ///
    /// # Errors
    /// None in memory.
    pub async fn record_workflow(&self, commands: &[String], session_id: &str) -> Result<()> {
        self.memory().workflow("", commands, session_id);
        Ok(())
    }

    /// How probable it is that `second` succeeds after `first`, from 0 to 1; 0.5 when no outcome of `second` is known.
    ///
    /// What is not known about the pair is taken from the command, from others with the same subcommand and tool, and
    /// from all (docs/learning.md has the formula).
    pub async fn predict_success(&self, first: &str, second: &str) -> f64 {
        self.memory().predict(first, second)
    }

    /// The commands closest to this one: those that run right before or after it more often than chance, fail for the
    /// same reason or mean the same; then others of the same program.
    ///
    /// # Errors
    /// None in memory.
    pub async fn find_related_commands(&self, command: &str, limit: usize) -> Result<Vec<String>> {
        Ok(self.memory().related(command, limit))
    }

    /// The most frequent reasons for which a command failed, with how often; at most 16 are told apart.
    ///
    /// # Errors
    /// None in memory.
    pub async fn failure_signatures(&self, command: &str) -> Result<Vec<(String, u64)>> {
        Ok(self.memory().reasons(command))
    }

    /// How much the graph holds.
    pub async fn get_stats(&self) -> CommandGraphStats {
        self.memory().graph_stats()
    }

    /// How many different commands there are.
    #[must_use]
    pub fn command_count(&self) -> usize {
        self.memory().graph_stats().unique_commands
    }

    /// Whether this command was ever recorded.
    #[must_use]
    pub fn has_command(&self, command: &str) -> bool {
        self.memory().has(command)
    }
}
