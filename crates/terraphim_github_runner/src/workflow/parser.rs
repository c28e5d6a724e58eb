//! The simple form of a workflow: commands in order.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A workflow as a list of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParsedWorkflow {
    /// Its name.
    pub name: String,
    /// The event that starts it, as GitHub names it.
    pub trigger: String,
    /// Environment variables of every command.
    pub environment: HashMap<String, String>,
    /// Run before the steps, in order; the first that fails ends the run.
    pub setup_commands: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<WorkflowStep>,
    /// Run after the steps, always and all of them.
    pub cleanup_commands: Vec<String>,
    /// Directories worth keeping between runs.
    pub cache_paths: Vec<String>,
}

/// One step of a [`ParsedWorkflow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStep {
    /// Its name.
    pub name: String,
    /// A shell command; may have several lines.
    pub command: String,
    /// Where it runs; a relative path is below the run's own working directory.
    #[serde(default = "default_working_dir")]
    pub working_dir: String,
    /// Whether the run goes on, and may succeed, when it fails.
    #[serde(default)]
    pub continue_on_error: bool,
    /// Its time limit; 0 means the executor's default.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u64,
}

fn default_working_dir() -> String {
    "/workspace".to_owned()
}

fn default_timeout_seconds() -> u64 {
    300
}

/// Why a [`ParsedWorkflow`] cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WorkflowProblem {
    /// A name of an environment variable that no shell accepts.
    #[error("{name:?} is not a name for an environment variable (letters, digits and _, no digit first)")]
    EnvironmentName {
        /// The name.
        name: String,
    },
    /// A NUL byte, which neither a command line nor an environment can carry.
    #[error("{place} contains a NUL byte")]
    Nul {
        /// Where.
        place: String,
    },
    /// A step without a command.
    #[error("step {number} ({name:?}) has no command")]
    NoCommand {
        /// Its number, from 1.
        number: usize,
        /// Its name.
        name: String,
    },
}

impl ParsedWorkflow {
    /// Whether it can be executed as it is written.
    ///
    /// # Errors
    /// The first problem found.
    pub fn check(&self) -> Result<(), WorkflowProblem> {
        for (name, value) in &self.environment {
            check_variable(name, value)?;
        }
        for (i, command) in self.setup_commands.iter().enumerate() {
            no_nul(command, || format!("setup command {}", i + 1))?;
        }
        for (i, step) in self.steps.iter().enumerate() {
            step.check(i + 1)?;
        }
        for (i, command) in self.cleanup_commands.iter().enumerate() {
            no_nul(command, || format!("cleanup command {}", i + 1))?;
        }
        Ok(())
    }
}

impl WorkflowStep {
    fn check(&self, number: usize) -> Result<(), WorkflowProblem> {
        if self.command.trim().is_empty() {
            return Err(WorkflowProblem::NoCommand { number, name: self.name.clone() });
        }
        no_nul(&self.command, || format!("the command of step {number}"))?;
        no_nul(&self.working_dir, || format!("the working directory of step {number}"))
    }
}

/// Whether a variable can be set by `export NAME=value`.
pub(crate) fn check_variable(name: &str, value: &str) -> Result<(), WorkflowProblem> {
    let ok = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !ok {
        return Err(WorkflowProblem::EnvironmentName { name: name.to_owned() });
    }
    no_nul(value, || format!("the environment variable {name}"))
}

fn no_nul(text: &str, place: impl FnOnce() -> String) -> Result<(), WorkflowProblem> {
    if text.contains('\0') { Err(WorkflowProblem::Nul { place: place() }) } else { Ok(()) }
}
