//! Every directory of `testdata/workflows` is a behaviour: `workflow.yml` is run, and the result must be as
//! `expected.json`: `rule` says whose rule it is and where it is written; `report` is what the report must hold at least
//! (lists of the same length, entry by entry), `error` part of the message of a workflow that is refused and `at` its line
//! and column; `output` are texts that the log must hold, `notices` texts that must be said about the run, `lacks` texts
//! that must be nowhere. `called/x.yml` is what jobs call as `./.github/workflows/x.yml`. `files` is the working tree;
//! `repositories/OWNER/NAME/TAG` are repositories of actions and workflows that a git server on loopback has.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;
use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::workflow::{Loader, Options, Workflow};
use terraphim_github_runner::action::{ActionStore, WorkflowPlace, fetch_called};
use terraphim_github_runner::engine::{
    EngineError, EnvironmentSettings, InvalidWorkflow, Isolation, Secret, plan_workflow,
};

use crate::expected::compare;
use crate::world::World;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct How {
    event_name: Option<String>,
    event: Option<Value>,
    env: IndexMap<String, String>,
    vars: IndexMap<String, String>,
    secrets: IndexMap<String, String>,
    inputs: IndexMap<String, Value>,
    jobs: Vec<String>,
    matrix: IndexMap<String, Vec<String>>,
    isolation: Option<String>,
    token: Option<String>,
    environments: IndexMap<String, Environment>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Environment {
    vars: IndexMap<String, String>,
    secrets: IndexMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    rule: String,
    report: Value,
    error: Option<String>,
    at: Option<String>,
    output: Vec<String>,
    notices: Vec<String>,
    lacks: Vec<String>,
}

fn read<T: Default + for<'a> Deserialize<'a>>(path: &Path) -> T {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Err(_) => T::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_behaviour_is_as_its_directory_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/workflows");
    let mut directories: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    directories.sort();
    assert!(directories.len() > 10, "the behaviours are there");
    let mut problems = Vec::new();
    for directory in directories {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        problems.extend(check(&directory).await.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

async fn check(directory: &Path) -> Vec<String> {
    let how: How = read(&directory.join("run.json"));
    let expected: Expected = read(&directory.join("expected.json"));
    let text = std::fs::read_to_string(directory.join("workflow.yml")).unwrap();
    let mut world = World::new();
    if directory.join("files").is_dir() {
        world = world.with_files(&directory.join("files"));
    }
    let repositories = directory.join("repositories");
    let _server = if repositories.is_dir() { Some(world.serve(&repositories).await) } else { None };
    apply(how, &mut world);
    let store = world.inputs.actions.clone();
    let read = load(directory, &text, store.as_deref()).await;
    let plan = read.map_err(|diagnostics| InvalidWorkflow { diagnostics }).and_then(|(workflow, called)| {
        world.inputs.called = called;
        plan_workflow(&workflow)
    });
    let result = match plan {
        Ok(plan) => world.run_plan(plan).await,
        Err(error) => Err(EngineError::from(error)),
    };
    let mut problems = Vec::new();
    if expected.rule.is_empty() {
        problems.push("no rule is cited".to_owned());
    }
    match (&result, &expected.error) {
        (Ok(report), None) => {
            let report = serde_json::to_value(report).unwrap();
            if !expected.report.is_null() {
                compare("report", &expected.report, &report, &mut problems);
            }
        }
        (Err(error), Some(part)) if error.to_string().contains(part) => {
            let at = expected.at.as_ref().and_then(|at| at.split_once(':'));
            let place = at.map(|(line, col)| format!("workflow.yml (Line: {line}, Col: {col})"));
            if place.is_some_and(|place| !error.to_string().contains(&place)) {
                problems.push(format!("refused at another place: {error}"));
            }
        }
        (Ok(_), Some(part)) => problems.push(format!("ran, but should be refused with {part:?}")),
        (Err(error), _) => problems.push(format!("refused: {error}")),
    }
    let output = world.recorder.output();
    let everything = format!(
        "{}{}",
        world.recorder.everything(),
        result.map_or(String::new(), |report| { serde_json::to_string(&report).unwrap() })
    );
    for part in expected.output.iter().filter(|part| !output.contains(*part)) {
        problems.push(format!("the log lacks {part:?}"));
    }
    for part in expected.notices.iter().filter(|part| !everything.contains(*part)) {
        problems.push(format!("nobody says {part:?}"));
    }
    for part in expected.lacks.iter().filter(|part| everything.contains(*part)) {
        problems.push(format!("the log or the report holds {part:?}"));
    }
    if !problems.is_empty() {
        problems.push(format!("the log was:\n{output}"));
    }
    problems
}

/// The workflow with those that it calls, as far as they are there, and where those of other repositories are from.
pub(crate) async fn load(
    directory: &Path,
    text: &str,
    store: Option<&ActionStore>,
) -> Result<(Workflow, IndexMap<String, WorkflowPlace>), Vec<Diagnostic>> {
    let mut loader = Loader::default();
    let mut files = vec![("workflow.yml".to_owned(), text.to_owned())];
    for file in std::fs::read_dir(directory.join("called")).into_iter().flatten() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        files.push((format!("./.github/workflows/{name}"), std::fs::read_to_string(&path).unwrap()));
    }
    files[1..].iter().for_each(|(name, text)| loader.add(name, text));
    let is_alone = files.len() == 1;
    let remote = match store {
        Some(store) => fetch_called(store, files).await?,
        None => IndexMap::new(),
    };
    if is_alone && remote.is_empty() {
        return Ok((Workflow::parse(text, "workflow.yml")?, IndexMap::new()));
    }
    remote.iter().for_each(|(name, file)| loader.add(name, &file.text));
    let workflow = Workflow::load(text, "workflow.yml", &loader, &Options::default())?;
    Ok((workflow, remote.iter().map(|(name, file)| (name.clone(), file.place(name))).collect()))
}

fn apply(how: How, world: &mut World) {
    let inputs = &mut world.inputs;
    inputs.event_name = how.event_name.unwrap_or_else(|| "push".to_owned());
    inputs.event = how.event.unwrap_or_else(|| serde_json::json!({}));
    inputs.env = how.env;
    inputs.vars = how.vars;
    inputs.secrets = secrets(how.secrets);
    inputs.token = how.token.map(Secret::from).unwrap_or_default();
    let settings = |it: Environment| EnvironmentSettings { vars: it.vars, secrets: secrets(it.secrets) };
    inputs.environments = how.environments.into_iter().map(|(name, it)| (name, settings(it))).collect();
    inputs.inputs = how.inputs;
    inputs.jobs = how.jobs;
    inputs.matrix = how.matrix;
    if how.isolation.as_deref() == Some("job") {
        inputs.isolation = Isolation::Job;
    }
}

fn secrets(pairs: IndexMap<String, String>) -> IndexMap<String, Secret> {
    pairs.into_iter().map(|(name, value)| (name, Secret::from(value))).collect()
}
