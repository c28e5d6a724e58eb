//! What workflows do, as JSON tells it.

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
