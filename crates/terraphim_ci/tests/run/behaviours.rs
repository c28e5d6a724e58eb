//! Directories of `testdata/workflows` in real virtual machines: the same files and the same expectations as the tests
//! of the engine with processes of this machine.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{expected::compare, git_server::make_repositories, host::World};

/// Runs the directory `name` and compares.
fn behaves(name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/workflows").join(name);
    let read = |file: &str| fs::read_to_string(from.join(file)).unwrap_or_else(|_| "{}".to_owned());
    let how: Value = serde_json::from_str(&read("run.json")).unwrap();
    let expected: Value = serde_json::from_str(&read("expected.json")).unwrap();
    let world = World::new();
    world.workflow("behaviour", &read("workflow.yml"));
    copy(&from.join("called"), &world.repo().join(".github/workflows"));
    copy(&from.join("files"), &world.repo());
    // Checkouts say which branch and commit they are.
    world.git(&["add", "--all"]);
    world.git(&["commit", "--quiet", "-m", "first"]);
    let pairs = |value: &Value| {
        let pairs = value.as_object().cloned().unwrap_or_default();
        pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={}\n", value.as_str().unwrap()))
            .collect::<String>()
    };
    // Stored, not given with the run: what is given with a run is stronger than an environment.
    let set = |scope: &[&str], own: &Value| {
        for (command, kind) in [("secret", "secrets"), ("var", "vars")] {
            if own[kind].is_object() {
                let file = world.write("../stored.env", &pairs(&own[kind]));
                world.tell(&[&[command, "set", "-f", file.to_str().unwrap()], scope].concat()).ends(0, &[]);
            }
        }
    };
    set(&[], &how);
    for (environment, own) in how["environments"].as_object().into_iter().flatten() {
        set(&["--env", environment], own);
    }
    let mirror = world.path().join("mirror");
    let mut args = vec![".github/workflows/behaviour.yml"];
    if from.join("repositories").is_dir() {
        make_repositories(&from.join("repositories"), &mirror);
        args.extend(["--action-mirror", mirror.to_str().unwrap()]);
    }
    let (said, report) = world.run(&args);
    let mut problems = Vec::new();
    compare("report", &expected["report"], &report, &mut problems);
    let stored = world.tell(&["runs", "show", "1", "--json"]);
    let log = world.tell(&["runs", "logs", "1"]);
    // The engine's tests, which share these expectations, see what processes write: nothing of groups is between it.
    let written = without_groups(&log.stdout);
    let everything =
        [said.stdout.as_str(), &said.stderr, &report.to_string(), &stored.stdout, &log.stdout, &written]
            .concat();
    for (key, want) in [("output", true), ("notices", true), ("lacks", false)] {
        for text in expected[key].as_array().into_iter().flatten() {
            let text = text.as_str().unwrap();
            if everything.contains(text.trim_end()) != want {
                problems.push(format!("{text:?} is {}", if want { "nowhere" } else { "somewhere" }));
            }
        }
    }
    assert!(problems.is_empty(), "{name}: {problems:#?}\n{said:#?}");
    world.assert_clean();
}

/// A log without the lines that begin and end groups.
fn without_groups(log: &str) -> String {
    let is_mark = |line: &&str| line.starts_with("##[group]") || line.starts_with("##[endgroup]");
    log.lines().filter(|line| !is_mark(line)).map(|line| format!("{line}\n")).collect()
}

/// Copies the files below a directory, if it is there.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::create_dir_all(to).unwrap();
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_called_workflow_has_its_own_world() {
    behaves("called-workflow");
}

#[test]
fn steps_in_the_background_give_what_they_have_when_someone_waited() {
    behaves("background-steps");
    behaves("background-cancel");
}

#[test]
fn the_steps_of_a_group_run_at_the_same_time() {
    behaves("parallel-steps");
}

#[test]
fn messages_of_tools_are_found() {
    behaves("problem-matchers");
}

#[test]
fn stored_settings_of_an_environment_are_the_strongest() {
    behaves("environments");
}

#[test]
fn actions_of_other_repositories_run_in_a_vm() {
    behaves("action-remote-stages");
}

#[test]
fn the_working_tree_is_checked_out_in_a_vm() {
    behaves("checkout-tree");
}

#[test]
fn local_actions_run_in_a_vm() {
    behaves("action-composite");
}

#[test]
fn calls_of_other_repositories_run_in_a_vm() {
    behaves("called-remote");
}

#[test]
#[ignore = "needs the image debian-testing: `make soak` builds it"]
fn soak_an_action_for_node_24_runs_on_node_24() {
    let world = World::new();
    world.write("is/action.yml", "runs: {using: node24, main: main.js}\n");
    // Programs start themselves again by this path.
    world.write(
        "is/main.js",
        "const {execFileSync} = require('node:child_process')\n\
         const again = execFileSync(process.execPath, ['-p', 'process.versions.node + typeof fetch'])\n\
         console.log(`${process.version} and again ${again}`)\n",
    );
    world.write("was/action.yml", "runs: {using: node20, main: ../is/main.js}\n");
    let step = |name: &str| format!("{{uses: ./{name}}}");
    let job = format!("{{runs-on: ubuntu-latest, steps: [{}, {}]}}", step("is"), step("was"));
    world.workflow("node", &format!("on: push\njobs: {{a: {job}}}\n"));
    let (said, report) = world.run(&["--image", "debian-testing"]);
    said.ends(0, &["v24.", " and again 24."]);
    let annotations = report["jobs"][0]["steps"][1]["annotations"].to_string();
    assert!(annotations.contains("asks for node 20 and runs on node 24"), "{annotations}");
    world.assert_clean();
}
