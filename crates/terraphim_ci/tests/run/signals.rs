//! Runs that are stopped from outside.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::host::World;

const SLEEPER: &str = r#"
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - name: Sleep
        run: 'trap "echo asked to stop; exit 9" INT TERM; echo started; sleep 600 & wait'
      - name: Never
        run: echo never
      - name: Clean up
        if: always()
        run: echo cleaned up; sleep ${{ vars.CLEANUP || '0' }}
      - name: If cancelled
        if: cancelled()
        run: echo was cancelled
"#;

/// The conclusion of the only run, as it is recorded.
fn recorded(world: &World) -> Value {
    let said = world.tell(&["runs", "ls", "--json"]);
    let runs: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    runs[0]["conclusion"].clone()
}

#[test]
fn one_interrupt_cancels_properly_and_a_request_to_end_does_the_same() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new();
        world.workflow("sleep", SLEEPER);
        let json = world.path().join("result.json");
        let mut running = world.start(&["run", "--json", json.to_str().unwrap()]);
        running.until(" started");
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(code, 130, "{said}");
        for text in ["cancelling", "asked to stop", "cleaned up", "was cancelled"] {
            assert!(said.contains(text), "no {text:?} in {said}");
        }
        let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        let steps = report["jobs"][0]["steps"].as_array().unwrap();
        let conclusions: Vec<&str> = steps.iter().map(|step| step["conclusion"].as_str().unwrap()).collect();
        assert_eq!(conclusions, ["cancelled", "skipped", "success", "success"]);
        assert_eq!((&report["conclusion"], recorded(&world)), (&"cancelled".into(), "cancelled".into()));
    }
}

#[test]
fn a_second_interrupt_kills() {
    let world = World::new();
    world.workflow("sleep", SLEEPER);
    let mut running = world.start(&["run", "--var", "CLEANUP=600"]);
    running.until(" started");
    running.signal(Signal::INT);
    running.until("cleaned up");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("killing the run"), "{said}");
    assert_eq!(recorded(&world), "cancelled");
}

#[test]
fn the_vm_of_a_killed_program_ends_and_its_row_tells_the_truth() {
    let world = World::new();
    world.workflow("sleep", SLEEPER);
    let mut running = world.start(&["run"]);
    running.until(" started");
    // It is written down beside what is shown, not before.
    world.until_logged("started");
    running.signal(Signal::KILL);
    assert_eq!(running.end().0, 128 + 9);
    world.assert_clean();
    assert_eq!(recorded(&world), "interrupted");
    let shown = world.tell(&["runs", "show", "1"]);
    shown.ends(0, &["interrupted", "Sleep"]);
    world.tell(&["runs", "logs", "1"]).ends(0, &["started"]);
    world.tell(&["runs", "rm", "1"]).ends(0, &[]);
}

#[test]
fn an_interrupt_while_the_vm_boots_releases_it() {
    let world = World::new();
    world.workflow("sleep", SLEEPER);
    let mut running = world.start(&["run"]);
    running.until("sleep.yml");
    world.until_hypervisor();
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
    assert_eq!(recorded(&world), "cancelled");
}
