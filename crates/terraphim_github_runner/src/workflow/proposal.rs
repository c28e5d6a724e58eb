//! What a language model may propose: the form it is told, and the checks it cannot talk its way around.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::parser::{ParsedWorkflow, WorkflowStep};

/// A workflow file of GitHub rarely has fifty steps.
const MAX_COMMANDS: usize = 100;
/// Enough for a long script.
const MAX_COMMAND_BYTES: usize = 16 << 10;
const MAX_NAME_CHARS: usize = 200;
const MAX_VARIABLES: usize = 100;
const MAX_VALUE_BYTES: usize = 16 << 10;
/// GitHub: a job may take six hours ("Usage limits").
const MAX_TIMEOUT_SECONDS: u64 = 6 * 3600;
const DEFAULT_TIMEOUT_SECONDS: u64 = 300;

pub(super) const INSTRUCTION: &str = "\
You turn a description of a continuous integration workflow, or a GitHub Actions workflow file, into shell commands \
for one Linux machine. Answer with one JSON object of the given schema and nothing else. Keep the order. Every command \
is for bash and non-interactive. Directories are absolute; the repository is in /workspace. Leave out what has no \
shell command, never invent secrets, and never download and run a script that the description does not name.";

/// Why a proposal is not a workflow.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProposalProblem {
    /// Not JSON, or not of the schema.
    #[error("it does not have the form that was asked for")]
    Form(#[source] serde_json::Error),
    /// It would run nothing.
    #[error("it has no steps")]
    NoSteps,
    /// More than any workflow needs.
    #[error("{what} has {actual} entries or characters, and at most {limit} are accepted")]
    TooMuch {
        /// What.
        what: String,
        /// How much it is.
        actual: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A time limit that is zero or longer than a job may take.
    #[error("step {number} asks for {seconds} s, and between 1 and {MAX_TIMEOUT_SECONDS} are accepted")]
    Timeout {
        /// The number of the step, from 1.
        number: usize,
        /// What it asks for.
        seconds: u64,
    },
    /// A directory that is not absolute, or climbs.
    #[error("step {number} asks for the directory {path:?}, which is not a plain absolute path")]
    Directory {
        /// The number of the step, from 1.
        number: usize,
        /// The directory.
        path: String,
    },
    /// A text with control characters, with which a command can look like another.
    #[error("{what} contains control characters")]
    Control {
        /// What.
        what: String,
    },
}

/// The JSON schema of [`Proposal`]. `strict` services want every property required.
pub(super) fn schema() -> Value {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let step = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "command", "working_dir", "continue_on_error", "timeout_seconds"],
        "properties": {
            "name": text(),
            "command": text(),
            "working_dir": text(),
            "continue_on_error": { "type": "boolean" },
            "timeout_seconds": { "type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_SECONDS },
        },
    });
    let variable = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "value"],
        "properties": { "name": text(), "value": text() },
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "trigger", "environment", "setup_commands", "steps", "cleanup_commands", "cache_paths"],
        "properties": {
            "name": text(),
            "trigger": { "type": "string", "enum": ["push", "pull_request", "workflow_dispatch"] },
            "environment": { "type": "array", "items": variable },
            "setup_commands": texts(),
            "steps": { "type": "array", "items": step, "minItems": 1, "maxItems": MAX_COMMANDS },
            "cleanup_commands": texts(),
            "cache_paths": texts(),
        },
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposal {
    name: String,
    trigger: Trigger,
    environment: Vec<Variable>,
    setup_commands: Vec<String>,
    steps: Vec<Step>,
    cleanup_commands: Vec<String>,
    cache_paths: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trigger {
    Push,
    PullRequest,
    WorkflowDispatch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    command: String,
    #[serde(default = "default_directory")]
    working_dir: String,
    #[serde(default)]
    continue_on_error: bool,
    #[serde(default = "default_timeout")]
    timeout_seconds: u64,
}

fn default_directory() -> String {
    "/workspace".to_owned()
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_SECONDS
}

/// The workflow that a model's answer proposes.
pub(super) fn read(answer: &str) -> Result<ParsedWorkflow, ProposalProblem> {
    let proposal: Proposal = serde_json::from_str(unfenced(answer)).map_err(ProposalProblem::Form)?;
    check(&proposal)?;
    let environment: HashMap<_, _> = proposal.environment.into_iter().map(|v| (v.name, v.value)).collect();
    let trigger = match proposal.trigger {
        Trigger::Push => "push",
        Trigger::PullRequest => "pull_request",
        Trigger::WorkflowDispatch => "workflow_dispatch",
    };
    let steps = proposal.steps.into_iter().map(|step| WorkflowStep {
        name: step.name,
        command: step.command,
        working_dir: step.working_dir,
        continue_on_error: step.continue_on_error,
        timeout_seconds: step.timeout_seconds,
    });
    Ok(ParsedWorkflow {
        name: proposal.name,
        trigger: trigger.to_owned(),
        environment,
        setup_commands: proposal.setup_commands,
        steps: steps.collect(),
        cleanup_commands: proposal.cleanup_commands,
        cache_paths: proposal.cache_paths,
    })
}

/// Models without a schema like to put their JSON into a code block.
fn unfenced(answer: &str) -> &str {
    let text = answer.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    inner.and_then(|inner| inner.strip_suffix("```")).unwrap_or(text)
}

fn check(proposal: &Proposal) -> Result<(), ProposalProblem> {
    if proposal.steps.is_empty() {
        return Err(ProposalProblem::NoSteps);
    }
    at_most("the list of steps", proposal.steps.len(), MAX_COMMANDS)?;
    at_most("the environment", proposal.environment.len(), MAX_VARIABLES)?;
    at_most("the list of cache paths", proposal.cache_paths.len(), MAX_VARIABLES)?;
    line("the name", &proposal.name)?;
    for variable in &proposal.environment {
        at_most(&format!("the variable {}", variable.name), variable.value.len(), MAX_VALUE_BYTES)?;
        script(&format!("the variable {}", variable.name), &variable.value)?;
    }
    for path in &proposal.cache_paths {
        line("a cache path", path)?;
    }
    for (list, what) in [(&proposal.setup_commands, "setup"), (&proposal.cleanup_commands, "cleanup")] {
        at_most(&format!("the list of {what} commands"), list.len(), MAX_COMMANDS)?;
        for (i, command) in list.iter().enumerate() {
            script(&format!("{what} command {}", i + 1), command)?;
        }
    }
    proposal.steps.iter().enumerate().try_for_each(|(i, step)| check_step(i + 1, step))
}

fn check_step(number: usize, step: &Step) -> Result<(), ProposalProblem> {
    line(&format!("the name of step {number}"), &step.name)?;
    script(&format!("the command of step {number}"), &step.command)?;
    let path = &step.working_dir;
    let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if !is_plain || path.chars().any(char::is_control) || path.len() > MAX_VALUE_BYTES {
        return Err(ProposalProblem::Directory { number, path: path.clone() });
    }
    if step.timeout_seconds == 0 || step.timeout_seconds > MAX_TIMEOUT_SECONDS {
        return Err(ProposalProblem::Timeout { number, seconds: step.timeout_seconds });
    }
    Ok(())
}

fn at_most(what: &str, actual: usize, limit: usize) -> Result<(), ProposalProblem> {
    if actual > limit {
        return Err(ProposalProblem::TooMuch { what: what.to_owned(), actual, limit });
    }
    Ok(())
}

/// One short line.
fn line(what: &str, text: &str) -> Result<(), ProposalProblem> {
    at_most(what, text.chars().count(), MAX_NAME_CHARS)?;
    if text.chars().any(char::is_control) {
        return Err(ProposalProblem::Control { what: what.to_owned() });
    }
    Ok(())
}

/// Lines of shell. A carriage return or an escape sequence would show a reader something else than what runs.
fn script(what: &str, text: &str) -> Result<(), ProposalProblem> {
    at_most(what, text.len(), MAX_COMMAND_BYTES)?;
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(ProposalProblem::Control { what: what.to_owned() });
    }
    Ok(())
}
