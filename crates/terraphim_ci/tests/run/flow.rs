//! What workflows do, as JSON tells it.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::host::World;

const WHOLE: &str = r#"
name: Whole
on: push
env: {LEVEL: workflow, WORKFLOW_ONLY: w}
jobs:
  build:
    runs-on: ubuntu-latest
    env: {LEVEL: job}
    outputs:
      version: ${{ steps.version.outputs.version }}
    steps:
      - uses: actions/checkout@v4
      - name: Version
        id: version
        run: |
          echo "version=1.2.3" >> "$GITHUB_OUTPUT"
          printf 'LATER<<END\ntwo\nlines\nEND\n' >> "$GITHUB_ENV"
          mkdir -p bin && printf '#!/bin/sh\necho tool of $LEVEL\n' > bin/tool && chmod +x bin/tool
          echo "$PWD/bin" >> "$GITHUB_PATH"
          echo "Built well" >> "$GITHUB_STEP_SUMMARY"
      - name: Tool
        env: {LEVEL: step}
        run: tool; echo "$WORKFLOW_ONLY and $LEVEL"; echo "$LATER"
      - name: May fail
        id: may
        continue-on-error: true
        run: exit 7
      - name: Python
        shell: python
        run: |
          import os
          print("python says", os.environ["LEVEL"], os.path.basename(os.getcwd()))
      - name: Bash
        shell: bash
        run: 'false | true && echo "never" || echo "bash has pipefail, ${{ steps.may.outcome }} ${{ steps.may.conclusion }}"'
  test:
    needs: build
    runs-on: ubuntu-latest
    strategy:
      matrix: {os: [a, b], n: [1]}
    steps:
      - name: Use
        run: echo "${{ matrix.os }}${{ matrix.n }} got ${{ needs.build.outputs.version }}"
"#;

#[test]
fn a_whole_workflow_is_reported_in_full() {
    let world = World::new();
    world.workflow("whole", WHOLE);
    let (said, report) = world.run(&[]);
    said.ends(0, &["tool of step", "w and step", "two\n", "python says job repo", "bash has pipefail"]);
    said.ends(0, &["failure success", "a1 got 1.2.3", "b1 got 1.2.3"]);
    assert_eq!(
        (
            &report["conclusion"],
            &report["workflow"],
            &report["id"],
            report["vm_ids"].as_array().unwrap().len()
        ),
        (&json!("success"), &json!("Whole"), &json!(1), 1)
    );
    let jobs = report["jobs"].as_array().unwrap();
    let brief =
        |job: &Value| json!([job["id"], job["name"], job["conclusion"], job["matrix"], job["outputs"]]);
    assert_eq!(
        jobs.iter().map(brief).collect::<Vec<_>>(),
        [
            json!(["build", "build", "success", null, {"version": "1.2.3"}]),
            json!(["test", "test (a, 1)", "success", {"os": "a", "n": 1}, {}]),
            json!(["test", "test (b, 1)", "success", {"os": "b", "n": 1}, {}]),
        ]
    );
    let steps = jobs[0]["steps"].as_array().unwrap();
    let brief = |step: &Value| json!([step["name"], step["outcome"], step["conclusion"], step["exit_code"]]);
    assert_eq!(
        steps[1..].iter().map(brief).collect::<Vec<_>>(),
        [
            json!(["Version", "success", "success", 0]),
            json!(["Tool", "success", "success", 0]),
            json!(["May fail", "failure", "success", 7]),
            json!(["Python", "success", "success", 0]),
            json!(["Bash", "success", "success", 0]),
        ]
    );
    assert_eq!(steps[1]["outputs"], json!({"version": "1.2.3"}));
    assert_eq!(steps[1]["summary"], "Built well\n");
    assert_eq!(steps[3]["annotations"][0]["message"], "Process completed with exit code 7.");
    for job in jobs {
        assert_eq!(job["vm_id"], report["vm_ids"][0]);
        assert!(job["duration_ms"].as_u64().is_some() && job["started_at"].is_string(), "{job}");
    }
}

/// A directory of `testdata/workflows`.
struct Behaviour {
    name: String,
    text: String,
    expected: Value,
}

/// Those that need no more than their workflow; the engine's own tests run the others.
fn behaviours() -> Vec<Behaviour> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/workflows");
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let path = entry.path();
        if ["run.json", "files", "repositories", "called"].iter().any(|name| path.join(name).exists()) {
            continue;
        }
        let text = fs::read_to_string(path.join("workflow.yml")).unwrap();
        let expected =
            serde_json::from_str(&fs::read_to_string(path.join("expected.json")).unwrap()).unwrap();
        all.push(Behaviour { name: entry.file_name().to_string_lossy().into_owned(), text, expected });
    }
    // As the files are: `a-b.yml` comes before `a.yml`.
    all.sort_by_key(|behaviour| format!("{}.yml", behaviour.name));
    assert!(all.len() > 10, "the behaviours are there");
    all
}

#[test]
fn every_behaviour_is_the_same_in_a_vm() {
    let world = World::new();
    let (refused, ran): (Vec<_>, Vec<_>) =
        behaviours().into_iter().partition(|behaviour| behaviour.expected["error"].is_string());
    for behaviour in &refused {
        let path = world.write(&format!("{}.yml", behaviour.name), &behaviour.text);
        let said = world.tell(&["run", path.to_str().unwrap()]);
        said.ends(2, &[behaviour.expected["error"].as_str().unwrap()]);
    }
    for behaviour in &ran {
        world.workflow(&behaviour.name, &behaviour.text);
    }
    let (said, reports) = world.run(&[]);
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), ran.len(), "{said:#?}");
    let mut problems = Vec::new();
    for (behaviour, report) in ran.iter().zip(reports) {
        let name = &behaviour.name;
        compare(name, &behaviour.expected["report"], report, &mut problems);
        assert_eq!(report["vm_ids"].as_array().unwrap().len(), 1, "{name} has one VM");
        for text in behaviour.expected["lacks"].as_array().into_iter().flatten() {
            if said.all().contains(text.as_str().unwrap()) {
                problems.push(format!("{name}: {text} is in the log"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n{}", problems.join("\n"), said.stdout);
}

/// What is expected must be there: of objects at least these keys, of lists all entries.
fn compare(path: &str, expected: &Value, got: &Value, problems: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(object)) => {
            for (key, value) in expected {
                compare(&format!("{path}.{key}"), value, object.get(key).unwrap_or(&Value::Null), problems);
            }
        }
        (Value::Array(expected), Value::Array(list)) if expected.len() == list.len() => {
            for (index, value) in expected.iter().enumerate() {
                compare(&format!("{path}[{index}]"), value, &list[index], problems);
            }
        }
        _ if expected == got => {}
        _ => problems.push(format!("{path} is {got}, not {expected}")),
    }
}
