//! `tci plan`.

use serde_json::{Value, json};

use crate::fixture::{Said, World};

const CI: &str = "\
name: CI
on:
  push:
    branches: [main]
    paths: ['src/**']
concurrency: ci-${{ github.ref_name }}-${{ github.run_id }}
jobs:
  build:
    runs-on: ${{ matrix.os }}
    strategy: {matrix: {os: [a, b]}}
    steps: [{run: make}]
  test:
    needs: build
    runs-on: a
    strategy:
      matrix: ${{ fromJSON(needs.build.outputs.matrix) }}
    steps: [{run: make test}]
  call:
    uses: ./.github/workflows/called.yml
";
const CALLED: &str =
    "on: workflow_call\njobs:\n  inner:\n    runs-on: a\n    steps:\n      - run: make call\n";

/// A repository with two workflows, and a push to `branch` that changed `files`.
fn world(branch: &str, files: &Value) -> World {
    let world = World::with_workflow(CI);
    world.write(".github/workflows/called.yml", CALLED);
    let commit = json!({"added": files, "modified": [], "removed": []});
    let event = json!({"ref": format!("refs/heads/{branch}"), "commits": [commit]});
    world.write("event.json", &event.to_string());
    world
}

fn plan(world: &World, args: &[&str]) -> Said {
    let mut all = vec!["plan", "--event", "push", "--eventpath", "event.json"];
    all.extend(args);
    world.run(&all)
}

#[test]
fn what_starts_is_planned_and_what_does_not_says_why() {
    let said = plan(&world("main", &json!(["src/a.rs"])), &[]);
    let expected = "\
.github/workflows/called.yml:1:5: not started: 'on' does not name the event 'push'
.github/workflows/ci.yml:3:3: started: the event 'push' passes all filters
  CI
    concurrency: (waits for github.run_id)
    build
      build (a) on a, 1 step
      build (b) on b, 1 step
    call
      call
      calls ./.github/workflows/called.yml
        call/inner
          inner on a, 1 step
    test  needs build
      matrix waits for needs.build.outputs.matrix
";
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, expected, ""));
    let said = plan(&world("old", &json!(["src/a.rs"])), &[".github/workflows/ci.yml"]);
    let expected =
        ".github/workflows/ci.yml:4:5: not started: branch 'old' matches no pattern of branches, line 4\n";
    assert_eq!((said.code, said.stdout.as_str()), (0, expected));
}

#[test]
fn changed_files_come_from_the_payload_the_command_line_or_a_file() {
    let world = world("main", &json!(["README.md"]));
    world.write("changed", "README.md\nsrc/b.rs\n");
    plan(&world, &[]).prints(&["changed file 'README.md' matches no pattern of paths, line 5"]);
    plan(&world, &["--changed", "README.md", "src/b.rs"]).prints(&["ci.yml:3:3: started"]);
    plan(&world, &["--changed-from", "changed"]).prints(&["ci.yml:3:3: started"]);
    plan(&world, &["--changed-from", "nope"]).fails(2, &["cannot read nope"]);
}

#[test]
fn a_filter_that_nobody_can_look_at_is_named() {
    let world = world("main", &json!(["src/a.rs"]));
    world.write("event.json", r#"{"ref": "refs/heads/main"}"#);
    plan(&world, &[]).prints(&["started", "the event does not say: paths\n"]);
}

#[test]
fn json_has_decisions_plans_and_what_is_known_later() {
    let said = plan(&world("main", &json!(["src/a.rs"])), &["--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(answer["event"], "push");
    let [called, ci] = answer["workflows"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&called["decision"]["starts"], &called["plan"]), (&json!(false), &Value::Null));
    let decision = json!({"starts": true, "reason": "started: the event 'push' passes all filters", "line": 3, "col": 3, "unchecked": []});
    assert_eq!(ci["decision"], decision);
    let jobs = &ci["plan"]["jobs"];
    assert_eq!(jobs[0]["instances"]["now"][1]["name"], json!({"now": "build (b)"}));
    assert_eq!(jobs[2]["instances"], json!({"later": "needs.build.outputs.matrix"}));
}

#[test]
fn graphs_are_alone_on_standard_output() {
    let world = world("main", &json!(["src/a.rs"]));
    let said = plan(&world, &["--format", "mermaid"]);
    said.prints(&["flowchart LR\n", "build (2 jobs)", "test (matrix later)"]);
    assert!(said.stdout.starts_with("flowchart") && said.stderr.contains("not started"), "{said:?}");
    plan(&world, &["--format", "dot"]).prints(&["digraph workflow {", "\"build\" -> \"test\""]);
    world.write(".github/workflows/other.yml", "on: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}");
    plan(&world, &["--format", "mermaid"]).fails(2, &["starts 2 workflows", "other.yml"]);
}

#[test]
fn a_broken_workflow_does_not_hide_the_others() {
    let world = world("main", &json!(["src/a.rs"]));
    world.write(".github/workflows/bad.yml", "on: push\njobs: {a: {runs-on: x, stepz: []}}");
    let said = plan(&world, &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("bad.yml:2:24") && said.stdout.contains("ci.yml:3:3: started"), "{said:?}");
    let answer: Value = serde_json::from_str(&plan(&world, &["--json"]).stdout).unwrap();
    let bad = &answer["workflows"][0];
    assert_eq!((&bad["decision"], &bad["errors"][0]["line"]), (&Value::Null, &json!(2)));
}

#[test]
fn wrong_inputs_of_a_dispatch_are_an_error_of_the_plan() {
    let on = "on:\n  workflow_dispatch: {inputs: {n: {type: number, required: true}}}\n";
    let job = "jobs: {a: {name: 'n ${{ inputs.n }}', runs-on: x, steps: [{run: x}]}}\n";
    let world = World::with_workflow(&format!("{on}{job}"));
    let said = world.run(&["plan", "-e", "workflow_dispatch"]);
    assert!(said.code == 2 && said.stderr.contains("ci.yml:2:3"), "{said:?}");
    world.write("event.json", r#"{"inputs": {"n": "7"}}"#);
    world.run(&["plan", "-e", "workflow_dispatch", "--eventpath", "event.json"]).prints(&["n 7 on x"]);
}

#[test]
fn an_unknown_event_or_payload_is_refused_and_help_has_an_example() {
    let world = world("main", &json!([]));
    world.run(&["plan", "--event", "psuh"]).fails(2, &["there is no event `psuh`"]);
    world.run(&["plan", "--eventpath", "nope.json"]).fails(2, &["cannot read nope.json"]);
    world.run(&["plan", "nope"]).fails(2, &["cannot find nope"]);
    world.run(&["plan", "--help"]).prints(&["Examples:", "--eventpath event.json"]);
}

#[test]
fn times_of_a_schedule_say_when_they_are_due_next() {
    let world = World::with_workflow(
        "on:\n  schedule:\n    - cron: '30 2 * * *'\n      timezone: Asia/Tokyo\n    - cron: '0 0 31 2 *'\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
    );
    let said = world.run(&["plan", "--event", "schedule"]);
    said.prints(&[
        "line 3: 30 2 * * * Asia/Tokyo, next 20",
        "T02:30:00+09:00",
        "line 5: 0 0 31 2 * UTC, never due",
    ]);
    let said = world.run(&["plan", "--event", "schedule", "--json"]);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let times = &answer["workflows"][0]["schedule"];
    assert_eq!((&times[0]["timezone"], &times[1]["next"]), (&json!("Asia/Tokyo"), &Value::Null), "{answer}");
}
