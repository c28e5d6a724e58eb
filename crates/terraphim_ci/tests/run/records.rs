//! Runs after they have ended.

use serde_json::Value;

use crate::host::World;

#[test]
fn a_run_is_listed_shown_printed_repeated_and_removed() {
    let world = World::new();
    world.workflow(
        "twice",
        "name: Twice\non: push\njobs:\n  good:\n    runs-on: ubuntu-latest\n    steps: [{run: echo good ran}]\n  bad:\n    \
         runs-on: ubuntu-latest\n    steps: [{name: First, run: echo bad began}, {name: Second, run: exit 4}]\n",
    );
    let (said, _) = world.run(&["--image", "busybox", "--memory", "128"]);
    said.ends(1, &["tci rerun 1", "tci runs logs 1"]);
    world.tell(&["runs", "ls"]).ends(0, &["failure", "Twice", "push"]);
    world.tell(&["runs", "show", "1"]).ends(0, &["Twice", "First", "Second", "exit code 4"]);
    let log = world.tell(&["runs", "logs", "1", "--job", "bad", "--step", "1"]);
    log.ends(0, &["bad began"]);
    assert!(!log.stdout.contains("exit code 4") && !log.stdout.contains("good ran"), "{log:#?}");
    // Only what failed, in the same kind of VM.
    let again = world.tell(&["rerun", "1", "--failed"]);
    again.ends(1, &["bad began"]);
    assert!(!again.stdout.contains("good ran"), "{again:#?}");
    let runs: Value = serde_json::from_str(&world.tell(&["runs", "ls", "--json"]).stdout).unwrap();
    let brief: Vec<_> = runs.as_array().unwrap().iter().map(|run| (&run["id"], &run["rerun_of"])).collect();
    assert_eq!(brief, [(&2.into(), &1.into()), (&1.into(), &Value::Null)]);
    world.tell(&["runs", "rm", "1"]).ends(0, &[]);
    world.tell(&["runs", "show", "1"]).ends(2, &["tci runs ls"]);
    assert!(!world.data().join("runs/1").exists() && world.data().join("runs/2").exists());
}
