//! Any text as a workflow file: read, printed, planned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use terraphim_actions::{
    expr::{Object, Value, from_json},
    plan::Plan,
    workflow::{Loader, Options, Workflow},
};

/// A workflow that calls itself: what is called is read too, to the limit of depth.
const CALLED: &str = "./.github/workflows/called.yml";

fuzz_target!(|text: &str| {
    let mut loader = Loader::default();
    loader.add(CALLED, text);
    let workflow = match Workflow::load(text, "w.yml", &loader, &Options::default()) {
        Ok(workflow) => workflow,
        Err(errors) => {
            assert!((1..=10).contains(&errors.len()), "{} errors", errors.len());
            for error in errors {
                let _ = (error.render(text), error.annotation(), error.to_string());
            }
            return;
        }
    };
    for finding in &workflow.warnings {
        let _ = finding.render(text);
    }
    let _ = workflow.template_json(true);
    let contexts = match from_json(r#"{"github": {"ref": "refs/heads/main", "event": {}}, "inputs": {}}"#) {
        Ok(Value::Obj(contexts)) => (*contexts).clone(),
        _ => Object::new(),
    };
    if let Ok(plan) = Plan::new(&workflow, &contexts) {
        let _ = (plan.to_string(), plan.mermaid(), plan.dot());
    }
});
