//! `tci plan`: which workflows an event starts and why, and the jobs of those.

mod contexts;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use terraphim_actions::{
    diagnostic::Diagnostic,
    expr,
    plan::Plan,
    span::Span,
    template::TemplateError,
    trigger::{self, Event},
    workflow::{Trigger, Workflow},
};

use super::{
    check::Input,
    diagnostic::{Texts, render},
    run::{Selection, find, outside_git, payload},
    schedule::{self, Due},
};
use crate::{
    exit::Exit,
    failure::Failure,
    input,
    output::{self, Paint},
    workspace::Repository,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tci plan --event push --eventpath event.json
  git diff --name-only main | tci plan --changed-from - --json
  tci plan .github/workflows/ci.yml --format dot | dot -Tsvg > jobs.svg
  tci plan --event schedule                  also when each time is due next

What only the run knows is marked: text says `waits for`, JSON has `later` instead of `now`.
Ends with 2 when a workflow file or the command line is wrong.")]
pub(crate) struct PlanArgs {
    /// A workflow file (of `.github/workflows`, its name alone will do), a directory with workflow files, or a repository
    /// [default: the current repository].
    path: Option<PathBuf>,
    /// The event's name.
    #[arg(long, short, value_name = "NAME", default_value = "push")]
    event: String,
    /// Its payload, a JSON file [default: what GitHub would send, as far as the repository tells].
    #[arg(long, visible_alias = "event-path", value_name = "FILE")]
    eventpath: Option<PathBuf>,
    /// The files that the event changed, instead of those of the payload.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "changed_from")]
    changed: Vec<String>,
    /// The same, one a line of a file (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    changed_from: Option<PathBuf>,
    /// How the plan is printed; graphs go to standard output, the reasons to standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object for all workflows.
    Json,
    /// A graph for Mermaid; of one workflow only.
    Mermaid,
    /// Graphs for Graphviz.
    Dot,
}

/// All that is printed as JSON.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    event: &'a str,
    workflows: &'a [Outcome],
}

/// What the event means for one workflow file.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Its path from the root of the repository.
    path: String,
    /// Unknown for a file with errors.
    decision: Option<Decision>,
    /// Of a workflow that starts.
    plan: Option<Plan>,
    /// When its `schedule` is due next; only for that event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schedule: Vec<Due>,
    /// What is wrong with the file.
    errors: Vec<Diagnostic>,
    #[serde(skip)]
    texts: Texts,
}

#[derive(Debug, Serialize)]
struct Decision {
    starts: bool,
    reason: String,
    line: u32,
    col: u32,
    /// Filters that were not looked at, because the event does not say what they ask for.
    unchecked: Vec<&'static str>,
}

pub(crate) fn main(args: &PlanArgs) -> Result<Exit, Failure> {
    if trigger::find(&args.event).is_none() {
        return Err(Failure::usage(format!("there is no event `{}`", args.event))
            .hint("names are those of `on` in a workflow: push, pull_request, workflow_dispatch, ..."));
    }
    let selection = find(args.path.as_deref())?;
    let git = selection.git.as_ref().map_or_else(|| outside_git(&selection), Repository::info);
    let payload = payload(args.eventpath.as_deref(), &args.event, &git)?;
    let mut event = Event::from_payload(&args.event, &expr::Value::from(&payload));
    if let Some(changed) = changed_files(args)? {
        event.changed_files = Some(changed);
    }
    let mut outcomes = Vec::new();
    for file in &selection.files {
        outcomes.push(outcome(&selection, file, &event, &payload)?);
    }
    let format = if args.json { Format::Json } else { args.format };
    if format == Format::Json {
        output::json(&Answer { event: &args.event, workflows: &outcomes })?;
    } else {
        show::print(&outcomes, format)?;
    }
    let is_broken = outcomes.iter().any(|outcome| !outcome.errors.is_empty());
    Ok(if is_broken { Exit::Usage } else { Exit::Success })
}

/// The changed files that the user names; `None` when the payload shall say.
fn changed_files(args: &PlanArgs) -> Result<Option<Vec<String>>, Failure> {
    let Some(path) = &args.changed_from else {
        return Ok((!args.changed.is_empty()).then(|| args.changed.clone()));
    };
    let read = if path.as_os_str() == "-" {
        input::text(std::io::stdin().lock(), input::MOST_DATA)
    } else {
        input::read_text(path, input::MOST_DATA)
    };
    let text = read.map_err(|error| Failure::io("read", path, error).ending(Exit::Usage))?;
    Ok(Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}

fn outcome(selection: &Selection, file: &Path, event: &Event, payload: &Value) -> Result<Outcome, Failure> {
    let path = file.strip_prefix(&selection.root).unwrap_or(file).to_string_lossy().into_owned();
    let mut input = Input::new(file, path.clone())?;
    input.add_local_calls();
    let loaded = Workflow::load(&input.text, &path, &input.loader, &input.options);
    let mut outcome = Outcome {
        path,
        decision: None,
        plan: None,
        schedule: Vec::new(),
        errors: Vec::new(),
        texts: input.texts,
    };
    let workflow = match loaded {
        Ok(workflow) => workflow,
        Err(errors) => {
            outcome.errors = errors;
            return Ok(outcome);
        }
    };
    let decision = decide(&workflow, event);
    if decision.starts {
        match plan(&workflow, &outcome.path, event, payload) {
            Ok(plan) => outcome.plan = Some(plan),
            Err(error) => outcome.errors.push(error),
        }
    }
    outcome.decision = Some(decision);
    if event.name == "schedule" {
        outcome.schedule = schedule::due(&workflow, jiff::Timestamp::now());
    }
    Ok(outcome)
}

fn decide(workflow: &Workflow, event: &Event) -> Decision {
    let trigger::Decision { starts, reason, span: Span { line, col } } = trigger::decide(&workflow.on, event);
    let trigger = workflow.on.events.get(&event.name).filter(|_| starts);
    let unchecked = trigger.map(|trigger| unchecked(trigger, event)).unwrap_or_default();
    Decision { starts, reason, line, col, unchecked }
}

/// The filters of a trigger about which the event says nothing.
fn unchecked(trigger: &Trigger, event: &Event) -> Vec<&'static str> {
    let no_ref = event.branch.is_none() && event.tag.is_none();
    let no_files = event.changed_files.is_none() && event.tag.is_none();
    [
        ("types", trigger.types.is_some() && event.activity.is_none()),
        ("branches", trigger.branches.is_some() && no_ref),
        ("branches-ignore", trigger.branches_ignore.is_some() && no_ref),
        ("tags", trigger.tags.is_some() && no_ref),
        ("tags-ignore", trigger.tags_ignore.is_some() && no_ref),
        ("paths", trigger.paths.is_some() && no_files),
        ("paths-ignore", trigger.paths_ignore.is_some() && no_files),
        ("workflows", trigger.workflows.is_some() && event.workflow.is_none()),
        ("cron", !trigger.schedule.is_empty() && event.cron.is_none()),
        // The payload of `image_version` is not public, so nobody can look at these.
        ("names", trigger.names.is_some()),
        ("versions", trigger.versions.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_unchecked)| is_unchecked.then_some(name))
    .collect()
}

fn plan(workflow: &Workflow, path: &str, event: &Event, payload: &Value) -> Result<Plan, Diagnostic> {
    let name = path.into();
    let span = workflow.on.events.get(&event.name).map_or(workflow.on.span, |trigger| trigger.span);
    let contexts = contexts::contexts(workflow, path, event, payload)
        .map_err(|error| Diagnostic::error(&name, span, error.to_string()))?;
    Plan::new(workflow, &contexts).map_err(|error| {
        let TemplateError { file, span, message, .. } = error;
        Diagnostic::error(workflow.files.get(file).unwrap_or(&name), span, message)
    })
}

/// Prints findings about a file for people.
fn say(outcome: &Outcome) {
    for error in &outcome.errors {
        output::note(render(error, &outcome.texts, Paint::for_stderr()).trim_end());
    }
}
