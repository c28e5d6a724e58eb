//! What runs in VMs learn, and where people see it.

use std::fs;

use serde_json::Value;

use crate::host::{Said, World};

const SECRET: &str = "w4NqX7sGm2ReVb";

/// Fails with a secret in its script and in what it says; what comes before it does not.
const FAILING: &str = "
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: echo built
      - name: Deliver
        run: |
          echo \"using ${{ secrets.KEY }}\"
          echo \"error: the depot refused ${{ secrets.KEY }}\" >&2
          exit 7
";

fn world() -> World {
    let world = World::new();
    world.git(&["remote", "add", "origin", "https://github.com/acme/tool.git"]);
    world
}

fn json(said: &Said) -> Value {
    said.ends(0, &[]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:#?}"))
}

fn stats(world: &World, repository: &str) -> Value {
    json(&world.tell(&["learn", "stats", "--repository", repository, "--json"]))
}

#[test]
fn a_failure_that_repeats_is_a_lesson_and_the_next_run_is_warned() {
    let world = world();
    world.workflow("ci", FAILING);
    let secret = format!("KEY={SECRET}");
    for run in 1..=3 {
        let (said, report) = world.run(&["--secret", &secret]);
        said.ends(1, &[]);
        assert_eq!(said.all().contains("learned: "), run == 3, "run {run}: {said:#?}");
        let lessons = report["lessons"].as_array().cloned().unwrap_or_default();
        assert_eq!(lessons.len(), usize::from(run == 3), "run {run}: {report:#}");
        if run == 3 {
            assert!(lessons[0].as_str().unwrap().contains("the depot refused ***"), "{lessons:?}");
        }
    }
    let (said, _) = world.run(&["--secret", &secret]);
    said.ends(1, &["expected: ", "fails in", "learned: "]);

    // The same where people ask for it, and with no secret anywhere.
    let explained = json(&world.tell(&["learn", "lessons", "--json"]));
    let lesson = &explained[0];
    assert_eq!((lesson["count"].as_u64(), lesson["state"].as_str()), (Some(4), Some("active")), "{lesson:#}");
    let totals = stats(&world, "acme/tool");
    assert_eq!(
        (&totals["successes"], &totals["failures"], &totals["lessons"]),
        (&4.into(), &4.into(), &1.into())
    );
    for args in [
        &["learn", "flaky", "--json"][..],
        &["insights", "--json"],
        &["learn", "explain", "echo built", "--json"],
        &["learn", "rebuild", "--json"],
    ] {
        let answer = world.tell(args);
        json(&answer);
        assert!(!answer.all().contains(SECRET), "{args:?}: {answer:#?}");
    }
    let rebuilt = json(&world.tell(&["learn", "rebuild", "--json"]));
    assert_eq!(rebuilt["corrected"], 0, "{rebuilt}");
    let export = world.tell(&["learn", "export"]).stdout;
    assert!(export.contains("error: the depot refused ***") && !export.contains(SECRET), "{export}");
    for name in ["runs.db", "runs.db-wal"] {
        let bytes = fs::read(world.data().join(name)).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{name}");
    }
}

#[test]
fn repositories_are_apart_and_whoever_does_not_want_it_is_not_learned_from() {
    let world = world();
    world.workflow("ci", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [run: echo mine]\n");
    world.run(&[]).0.ends(0, &[]);
    let before = stats(&world, "acme/tool");
    assert_eq!(before["successes"], 1);

    // Off for one command, and off for the user.
    let said = Said::of(&world.tci().args(["run"]).env("TCI_LEARNING", "off").output().unwrap());
    said.ends(0, &[]);
    let config = world.path().join("home/.config/tci/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "[learning]\nenabled = false\n").unwrap();
    world.write("tci.toml", "[learning]\nenabled = true\n");
    world.run(&[]).0.ends(0, &[]);
    assert_eq!(stats(&world, "acme/tool"), before, "the store is as it was");
    fs::remove_file(&config).unwrap();
    fs::remove_file(world.repo().join("tci.toml")).unwrap();

    // Another repository knows nothing of this one.
    world.git(&["remote", "set-url", "origin", "https://github.com/acme/other.git"]);
    let (said, _) = world.run(&[]);
    said.ends(0, &[]);
    assert!(!said.all().contains("expected: "), "{said:#?}");
    assert_eq!(stats(&world, "acme/other")["successes"], 1);
    assert_eq!(stats(&world, "acme/tool"), before);
    let explained = json(&world.tell(&["learn", "explain", "echo mine", "--json"]));
    assert_eq!(explained["fact"]["successes"], 1, "{explained:#}");
}

/// A threshold of the repository, and a fix that says what was learned and uses it.
#[test]
fn a_lesson_comes_when_the_repository_wants_it_and_a_fix_uses_what_was_learned() {
    let world = world();
    world.write("deliver.sh", "echo 'error: the depot refused' >&2\nexit 7\n");
    world.workflow(
        "ci",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: sh ./deliver.sh\n",
    );
    world.write("tci.toml", "[learning]\nlesson-threshold = 2\n");
    for run in 1..=2 {
        let (said, report) = world.run(&[]);
        said.ends(1, &[]);
        let lessons = report["lessons"].as_array().map(Vec::len);
        assert_eq!(lessons.unwrap_or_default(), usize::from(run == 2), "run {run}: {report:#}");
    }
    let told = "learned: `sh ./deliver.sh` fails with \"error: the depot refused\"";
    world
        .tell(&["fix", "2"])
        .ends(1, &[told, "2 times, last in run 2", "no change of the workflow answers this"]);
    let said = world.tell(&["fix", "2", "--json"]);
    let fix: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&fix["proposal"], fix["lessons"].as_array().map(Vec::len)),
        (&Value::Null, Some(1)),
        "{fix:#}"
    );

    // The same command on the same commit, which succeeded each time when it was run again.
    let export = world.tell(&["learn", "export"]).stdout;
    let failed = export.lines().find(|line| line.contains("the depot refused")).unwrap();
    let failed: Value = serde_json::from_str(failed).unwrap();
    let mut history = export.lines().next().unwrap().to_owned() + "\n";
    for n in 0..6 {
        let mut event = failed.clone();
        event["event"]["uid"] = format!("again {n}").into();
        event["event"]["commit"] = "c1".into();
        if n % 2 == 0 {
            event["event"]["outcome"] = "success".into();
            event["event"]["signature"] = Value::Null;
        }
        history += &format!("{event}\n");
    }
    let file = world.write("history.jsonl", &history);
    world.tell(&["learn", "import", file.to_str().unwrap()]).ends(0, &["6 events, 0 of them known already"]);
    let proposal = [
        "-      - run: sh ./deliver.sh\n",
        "+          for try in 1 2 3; do\n",
        "it is flaky",
        "repetitions succeeded",
    ];
    world.tell(&["fix", "2"]).ends(0, &proposal);
    // Who does not want to learn is not told either.
    world.write("tci.toml", "[learning]\nenabled = false\n");
    world.tell(&["fix", "2"]).ends(1, &["no change of the workflow answers this"]);
}
