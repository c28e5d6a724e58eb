//! The contexts that are known before a run. What is not put in here, such as `github.run_id`, the plan marks.

use indexmap::IndexMap;
use serde_json::Value;
use terraphim_actions::{
    expr::{self, Object},
    resolve::{self, InputError},
    trigger::Event,
    workflow::Workflow,
};

use crate::cli::run::reference;

/// `github` as far as the payload tells, and `inputs`.
pub(super) fn contexts(
    workflow: &Workflow,
    path: &str,
    event: &Event,
    payload: &Value,
) -> Result<Object, InputError> {
    let mut contexts = Object::new();
    contexts.insert("github", github(workflow, path, event, payload));
    match event.name.as_str() {
        // Only the caller knows them.
        "workflow_call" => {}
        "workflow_dispatch" => {
            if let Some(trigger) = workflow.on.events.get(&event.name) {
                contexts.insert("inputs", resolve::dispatch_inputs(trigger, &given(payload))?);
            }
        }
        _ => contexts.insert("inputs", Object::new()),
    }
    Ok(contexts)
}

fn given(payload: &Value) -> IndexMap<String, String> {
    let inputs = payload.get("inputs").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    inputs.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn github(workflow: &Workflow, path: &str, event: &Event, payload: &Value) -> Object {
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let mut github = Object::new();
    github.insert("event", expr::Value::from(payload));
    github.insert("event_name", event.name.as_str());
    github.insert("workflow", workflow.name.as_ref().map_or(path, |name| name.value.as_str()));
    let repository = text("/repository/full_name");
    let owner = repository.as_deref().and_then(|name| name.split('/').next()).map(str::to_owned);
    let git_ref = reference(&event.name, payload, None);
    for (name, value) in [
        ("repository_owner", owner),
        ("repository", repository),
        ("ref_name", git_ref.as_deref().map(|git_ref| name_and_type(git_ref).0.to_owned())),
        ("ref_type", git_ref.as_deref().map(|git_ref| name_and_type(git_ref).1.to_owned())),
        ("ref", git_ref),
        // Of other events GitHub chooses the commit when they happen.
        ("sha", text("/after").filter(|_| event.name == "push")),
        ("actor", text("/sender/login")),
        // Empty for what is no pull request.
        ("head_ref", Some(text("/pull_request/head/ref").unwrap_or_default())),
        ("base_ref", Some(text("/pull_request/base/ref").unwrap_or_default())),
    ] {
        if let Some(value) = value {
            github.insert(name, value.as_str());
        }
    }
    github
}

/// `refs/heads/a/b` is the branch `a/b`; of pull requests GitHub gives `12/merge` and calls it a branch.
fn name_and_type(git_ref: &str) -> (&str, &'static str) {
    let branch = ["refs/heads/", "refs/pull/"].iter().find_map(|prefix| git_ref.strip_prefix(prefix));
    git_ref.strip_prefix("refs/tags/").map_or((branch.unwrap_or(git_ref), "branch"), |tag| (tag, "tag"))
}
