//! A GitHub workflow file as a list of commands, where it is no more than that.
//!
//! The engine executes whole workflow files; this is for files so plain that the simple form says everything. What
//! the simple form cannot say is an error that names its place.

use std::collections::HashMap;
use std::sync::Arc;

use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::span::Span;
use terraphim_actions::template::{Node, Template};
use terraphim_actions::workflow::{Job, Step, StepKind, Workflow};

use super::lower::exports;
use super::parser::{ParsedWorkflow, WorkflowStep};
use crate::engine::InvalidWorkflow;

/// GitHub: a job may take six hours ("Usage limits").
const MAX_MINUTES: f64 = 360.0;
const DEFAULT_TIMEOUT_SECONDS: u64 = 300;

/// Whether a description is a workflow file rather than words.
pub(super) fn is_workflow_file(description: &str) -> bool {
    description.lines().any(|line| line.trim_end() == "jobs:" || line.starts_with("jobs: "))
}

pub(super) fn parse(text: &str) -> Result<ParsedWorkflow, InvalidWorkflow> {
    let workflow =
        Workflow::parse(text, "workflow").map_err(|diagnostics| InvalidWorkflow { diagnostics })?;
    let mut reader = Reader { file: Arc::from("workflow"), problems: Vec::new() };
    let parsed = reader.workflow(&workflow);
    if reader.problems.is_empty() {
        Ok(parsed)
    } else {
        Err(InvalidWorkflow { diagnostics: reader.problems })
    }
}

/// Collects everything that a list of commands cannot say.
struct Reader {
    file: Arc<str>,
    problems: Vec<Diagnostic>,
}

impl Reader {
    fn refuse(&mut self, span: Span, what: impl std::fmt::Display) {
        let problem = Diagnostic::error(&self.file, span, format!("a list of commands cannot say {what}"));
        self.problems.push(problem.with_hint("run the file itself with `tci run`"));
    }

    fn refuse_all<'a>(&mut self, keys: impl IntoIterator<Item = (&'a str, &'a Option<Template>)>) {
        for (key, value) in keys {
            if let Some(value) = value {
                self.refuse(value.span, format_args!("`{key}`"));
            }
        }
    }

    fn workflow(&mut self, workflow: &Workflow) -> ParsedWorkflow {
        self.refuse_all([("defaults", &workflow.defaults)]);
        let mut environment = HashMap::new();
        self.variables(&workflow.env, &mut environment);
        let mut steps = Vec::new();
        for (index, job) in workflow.jobs.values().enumerate() {
            if index > 0 {
                self.refuse(job.id.span, "more than one job");
                break;
            }
            self.job(job, &mut environment, &mut steps);
        }
        let events: Vec<&str> = workflow.on.events.keys().map(String::as_str).collect();
        ParsedWorkflow {
            name: workflow.name.as_ref().map_or("Workflow", |name| name.value.as_str()).to_owned(),
            trigger: events.join(", "),
            environment,
            setup_commands: Vec::new(),
            steps,
            cleanup_commands: Vec::new(),
            cache_paths: Vec::new(),
        }
    }

    fn job(&mut self, job: &Job, environment: &mut HashMap<String, String>, steps: &mut Vec<WorkflowStep>) {
        self.refuse_all([
            ("strategy", &job.strategy),
            ("defaults", &job.defaults),
            ("outputs", &job.outputs),
            ("timeout-minutes", &job.timeout_minutes),
            ("continue-on-error", &job.continue_on_error),
            ("container", &job.container),
            ("services", &job.services),
        ]);
        if job.condition.written.is_some() {
            self.refuse(job.condition.span, "`if`");
        }
        if let Some(call) = &job.call {
            self.refuse(call.uses.span, "a call of another workflow");
        }
        self.variables(&job.env, environment);
        for step in &job.steps {
            steps.extend(self.step(step));
        }
    }

    fn step(&mut self, step: &Step) -> Option<WorkflowStep> {
        if step.condition.written.is_some() {
            self.refuse(step.condition.span, "`if`");
        }
        let (run, shell, directory) = match &step.kind {
            StepKind::Run { run, shell, working_directory } => (run, shell, working_directory),
            StepKind::Uses { uses, with: None } if uses.value.starts_with("actions/checkout@") => {
                // The repository is in the working directory already.
                return None;
            }
            StepKind::Uses { uses, .. } => {
                self.refuse(uses.span, format_args!("the action {:?}", uses.value));
                return None;
            }
            _ => {
                self.refuse(step.span, "steps side by side");
                return None;
            }
        };
        let script = self.text(run)?;
        let name = step.name.as_ref().and_then(|name| self.text(name));
        let first_line = script.lines().next().unwrap_or("").to_owned();
        let seconds = step.timeout_minutes.as_ref().map(|minutes| self.seconds(minutes));
        Some(WorkflowStep {
            name: name.unwrap_or_else(|| format!("Run {first_line}")),
            command: format!("{}{}{script}", self.step_exports(step), self.shell_options(shell)),
            working_dir: self.optional(directory).unwrap_or_else(|| "/workspace".to_owned()),
            continue_on_error: step.continue_on_error.as_ref().is_some_and(|value| self.flag(value)),
            timeout_seconds: seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS),
        })
    }

    /// What GitHub gives the shell: `bash -e` by default, and `-o pipefail` too when bash is named.
    fn shell_options(&mut self, shell: &Option<Template>) -> &'static str {
        match self.optional(shell).as_deref() {
            None | Some("sh") => "set -e\n",
            Some("bash") => "set -eo pipefail\n",
            Some(_) => {
                let span = shell.as_ref().map(|shell| shell.span).unwrap_or_default();
                self.refuse(span, "a shell other than bash and sh");
                ""
            }
        }
    }

    fn step_exports(&mut self, step: &Step) -> String {
        let mut variables = HashMap::new();
        self.variables(&step.env, &mut variables);
        let mut sorted: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sorted.sort_unstable();
        exports(sorted).unwrap_or_else(|_| {
            let span = step.env.as_ref().map(|env| env.span).unwrap_or_default();
            self.refuse(span, "these variables");
            String::new()
        })
    }

    fn variables(&mut self, env: &Option<Template>, into: &mut HashMap<String, String>) {
        let Some(env) = env else { return };
        if env.is_expression() {
            self.refuse(env.span, "an expression");
        }
        for (name, value) in env.entries() {
            if let (Some(name), Some(value)) = (self.text(name), self.text(value)) {
                into.insert(name, value);
            }
        }
    }

    fn optional(&mut self, template: &Option<Template>) -> Option<String> {
        template.as_ref().and_then(|template| self.text(template))
    }

    fn text(&mut self, template: &Template) -> Option<String> {
        let text = template.literal_text();
        if text.is_none() {
            self.refuse(template.span, "an expression");
        }
        text.map(std::borrow::Cow::into_owned)
    }

    fn flag(&mut self, template: &Template) -> bool {
        match template.node {
            Node::Bool(value) => value,
            _ => {
                self.refuse(template.span, "an expression");
                false
            }
        }
    }

    fn seconds(&mut self, template: &Template) -> u64 {
        match template.node {
            Node::Num(minutes) if minutes > 0.0 && minutes <= MAX_MINUTES => {
                std::time::Duration::from_secs_f64(minutes * 60.0).as_secs().max(1)
            }
            _ => {
                self.refuse(
                    template.span,
                    format_args!("this time limit (0 to {MAX_MINUTES} minutes are accepted)"),
                );
                DEFAULT_TIMEOUT_SECONDS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_becomes_commands() {
        let text = "\
name: CI
on: [push, pull_request]
env: { A: 1 }
jobs:
  build:
    runs-on: ubuntu-latest
    env: { B: two }
    steps:
      - uses: actions/checkout@v4
      - run: make
      - name: Test
        run: |
          make test | tee log
        shell: bash
        working-directory: sub
        env: { C: it's }
        timeout-minutes: 2.5
        continue-on-error: true
";
        assert!(is_workflow_file(text));
        let workflow = parse(text).unwrap();
        let step = |name: &str, command: &str, dir: &str, may_fail, seconds| WorkflowStep {
            name: name.into(),
            command: command.into(),
            working_dir: dir.into(),
            continue_on_error: may_fail,
            timeout_seconds: seconds,
        };
        assert_eq!((workflow.name.as_str(), workflow.trigger.as_str()), ("CI", "push, pull_request"));
        assert_eq!(
            workflow.environment,
            HashMap::from([("A".into(), "1".into()), ("B".into(), "two".into())])
        );
        assert_eq!(
            workflow.steps,
            [
                step("Run make", "set -e\nmake", "/workspace", false, 300),
                step(
                    "Test",
                    "export C='it'\\''s'\nset -eo pipefail\nmake test | tee log\n",
                    "sub",
                    true,
                    150
                ),
            ]
        );
        workflow.check().unwrap();
    }

    #[test]
    fn what_a_list_of_commands_cannot_say_is_named_with_its_place() {
        let refused = |lines: &str, expected: &str| {
            let text = format!("on: push\njobs:\n  a:\n    runs-on: x\n{lines}");
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("(Line: "), "{lines}\n{error}");
        };
        refused("    strategy: { matrix: { x: [1] } }\n    steps: [{ run: a }]\n", "`strategy`");
        refused("    if: always()\n    steps: [{ run: a }]\n", "`if`");
        refused("    steps: [{ run: a, if: failure() }]\n", "`if`");
        refused("    steps: [{ run: 'echo ${{ github.sha }}' }]\n", "an expression");
        refused("    steps: [{ uses: actions/setup-node@v4 }]\n", "the action \"actions/setup-node@v4\"");
        refused("    steps: [{ uses: actions/checkout@v4, with: { ref: x } }]\n", "the action");
        refused("    steps: [{ run: a, shell: python }]\n", "a shell other than");
        refused("    steps: [{ run: a, timeout-minutes: 0 }]\n", "this time limit");
        refused(
            "    steps: [{ run: a }]\n  b:\n    runs-on: x\n    steps: [{ run: b }]\n",
            "more than one job",
        );
        refused("    stepz: []\n", "stepz");
    }
}
