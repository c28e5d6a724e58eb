//! An event and the filters of a workflow: the event's name, its payload as JSON on the second line, then `on`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use terraphim_actions::{
    expr::from_json,
    trigger::{Event, PatternList, cron::Cron, decide},
    workflow::Workflow,
};

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\n');
    let (Some(name), Some(payload), Some(on)) = (parts.next(), parts.next(), parts.next()) else { return };
    // What may stand in the filters, also when the whole is no workflow.
    let lines: Vec<&str> = on.lines().take(8).collect();
    if let Ok(list) = PatternList::new(&lines) {
        let _ = (list.admits(&[name, payload]), list.ignores(&[name, payload]), list.chooses(name));
    }
    let _ = Cron::parse(name);
    let Ok(payload) = from_json(payload) else { return };
    let workflow = format!("{on}\njobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}\n");
    if let Ok(workflow) = Workflow::parse(&workflow, "w.yml") {
        let decision = decide(&workflow.on, &Event::from_payload(name, &payload));
        assert!(!decision.reason.is_empty());
    }
});
