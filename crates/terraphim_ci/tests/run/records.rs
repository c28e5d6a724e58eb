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

#[test]
fn a_repeated_run_keeps_its_id_and_number_and_counts_attempts() {
    let world = World::new();
    let step = "{name: Tell, run: 'echo \"run=$GITHUB_RUN_ID ${{ github.run_id }} $GITHUB_RUN_NUMBER $GITHUB_RUN_ATTEMPT\"'}";
    world.workflow(
        "ids",
        &format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{step}]\n"),
    );
    // GitHub: the id, once more, the number, the attempt.
    let ids = |args: &[&str]| {
        let said = world.tell(args);
        said.ends(0, &["run="]);
        let line = said.stdout.lines().find_map(|line| line.split_once("run=")).unwrap().1.to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    let run = ["run", "--image", "busybox", "--memory", "128"];
    let first = ids(&run);
    let id = first[0].as_str();
    assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()), "{first:?}");
    assert_eq!(first, [id, id, "1", "1"]);
    assert_eq!(ids(&["rerun", "1"]), [id, id, "1", "2"]);
    assert_eq!(ids(&["rerun", "2"]), [id, id, "1", "3"]);
    let other = ids(&run);
    assert_ne!(other[0], id);
    assert_eq!(other[2..], ["2", "1"]);
}

#[test]
fn only_failed_legs_run_again_and_what_depends_on_them_sees_all() {
    let world = World::new();
    world.workflow(
        "legs",
        "on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {fail-fast: false, matrix: {n: [1, 2]}}
    outputs: {first: \"${{ matrix.n == 1 && format('of attempt {0}', github.run_attempt) || '' }}\"}
    steps:
      - name: Try
        run: |
          echo \"leg ${{ matrix.n }} in attempt $GITHUB_RUN_ATTEMPT\"
          test ${{ matrix.n }} = 1 || test $GITHUB_RUN_ATTEMPT = 3
  after:
    needs: test
    runs-on: ubuntu-latest
    steps: [{name: See, run: 'echo \"saw ${{ needs.test.result }} ${{ needs.test.outputs.first }}\"'}]
",
    );
    let (said, _) = world.run(&["--image", "busybox", "--memory", "128"]);
    said.ends(1, &["leg 1 in attempt 1", "leg 2 in attempt 1"]);
    let second = world.tell(&["rerun", "1", "--failed"]);
    second.ends(1, &["leg 2 in attempt 2", "test (1): success, kept"]);
    // What was kept once is kept again.
    let third = world.tell(&["rerun", "2", "--failed"]);
    third.ends(0, &["leg 2 in attempt 3", "saw success of attempt 1"]);
    for said in [&second, &third] {
        assert!(!said.stdout.contains("leg 1 in"), "{said:#?}");
    }
    world.tell(&["rerun", "3", "--failed"]).ends(2, &["no job of run 3 failed", "tci rerun 3"]);
}
