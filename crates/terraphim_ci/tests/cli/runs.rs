//! Recorded runs: shown, followed, removed. The runs are recorded here as the engine would record them.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use terraphim_github_runner::{
    engine::{Annotation, AnnotationLevel, Conclusion, JobKey, RunConclusion, RunEvent, RunObserver as _},
    store::{NewRun, RunId, RunStore, StoreObserver},
};
use terraphim_vm::ProcessId;
use tokio::runtime::Runtime;

use crate::fixture::{Said, World};

/// A run that is being recorded by this very process.
struct Recording {
    runtime: Runtime,
    observer: Arc<StoreObserver>,
    id: RunId,
}

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap()
}

impl Recording {
    fn start(world: &World, owner: &ProcessId) -> Recording {
        let runtime = Runtime::new().unwrap();
        let (observer, id) = runtime.block_on(async {
            let store = RunStore::open(&world.data()).await.unwrap();
            let run = NewRun {
                workflow_name: "CI".into(),
                workflow_path: ".github/workflows/ci.yml".into(),
                repository: "me/it".into(),
                event: "push".into(),
                git_ref: "refs/heads/main".into(),
                sha: "0123456789abcdef".into(),
                rerun_of: None,
                request: serde_json::json!({}),
            };
            let id = store.create_run(&run, owner, at(0).timestamp_millis()).await.unwrap();
            (Arc::new(StoreObserver::new(store, id)), id)
        });
        let recording = Recording { runtime, observer, id };
        let key = JobKey::new("build", None);
        recording.tell(&RunEvent::JobStarted {
            job: key.clone(),
            name: "Build".into(),
            vm_id: "7f".into(),
            environment: Some("prod".into()),
            permissions: None,
            at: at(0),
        });
        recording.tell(&RunEvent::StepStarted {
            job: key,
            name: "Make".into(),
            number: 1,
            of: 1,
            background: false,
            at: at(1),
        });
        recording
    }

    fn tell(&self, event: &RunEvent) {
        self.runtime.block_on(self.observer.observe(event));
        assert!(self.observer.error().is_none(), "{:?}", self.observer.error());
    }

    fn say(&self, text: &'static str) {
        let job = Some(JobKey::new("build", None));
        self.tell(&RunEvent::Output { job, step: 1, text: text.into(), at: at(123) });
    }

    fn end(&self) {
        let key = JobKey::new("build", None);
        let (failure, duration) = (Conclusion::Failure, Duration::from_millis(1500));
        let annotation = Annotation::new(AnnotationLevel::Error, "broken");
        self.tell(&RunEvent::Annotation { job: key.clone(), step: Some(1), annotation, at: at(200) });
        self.tell(&RunEvent::StepFinished {
            job: key.clone(),
            name: "Make".into(),
            number: 1,
            outcome: failure,
            conclusion: failure,
            exit_code: Some(3),
            duration,
            at: at(1501),
        });
        self.tell(&RunEvent::JobFinished {
            job: key,
            name: "Build".into(),
            outcome: failure,
            conclusion: failure,
            outputs: Default::default(),
            environment_url: Some("https://prod.example.org".into()),
            duration,
            at: at(1502),
        });
        self.tell(&RunEvent::RunFinished {
            conclusion: RunConclusion::Failure,
            message: None,
            duration,
            at: at(1503),
        });
    }
}

#[test]
fn a_run_is_listed_shown_printed_and_removed() {
    let world = World::new();
    let recording = Recording::start(&world, &ProcessId::current().unwrap());
    world.run(&["runs", "ls"]).prints(&["running"]);
    world.run(&["runs", "rm", "1"]).fails(2, &["still executed"]);
    recording.say("one\ntwo\n");
    recording.end();
    let id = recording.id.to_string();
    world.run(&["runs", "ls"]).prints(&["failure", "CI", "push", "main", "2023-11-14 22:13:20", "1.5 s"]);
    // A log that nobody reads any more is nothing to die of.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = world.tci();
    unread.args(["runs", "ls"]).env("RUST_LOG", "trace").stdout(Stdio::null()).stderr(writer);
    assert_eq!(unread.status().unwrap().code(), Some(0));
    let said = world.run(&["runs", "show", &id]);
    said.prints(&[
        "run 1: CI (✗ failure)",
        "me/it",
        "0123456789ab",
        "Build",
        "1. Make",
        "exit code 3",
        "environment prod (https://prod.example.org)",
        "error: broken",
    ]);
    assert_eq!(world.run(&["runs", "logs", &id]).stdout, "one\ntwo\n");
    let timed = "2023-11-14T22:13:20.123Z one\n2023-11-14T22:13:20.123Z two\n";
    assert_eq!(world.run(&["runs", "logs", &id, "-t", "-j", "build", "-s", "1"]).stdout, timed);
    world.run(&["runs", "logs", &id, "-j", "deploy"]).fails(2, &["no such job", "build"]);
    world.run(&["runs", "logs", &id, "-s", "9"]).fails(2, &["has no step 9"]);
    let json: serde_json::Value =
        serde_json::from_str(&world.run(&["runs", "show", &id, "--json"]).stdout).unwrap();
    assert_eq!(json["jobs"][0]["steps"][0]["exit_code"], 3);
    let environment = serde_json::json!({"name": "prod", "url": "https://prod.example.org"});
    assert_eq!(json["jobs"][0]["environment"], environment);
    assert_eq!(json["jobs"][0]["permissions"], serde_json::Value::Null, "the workflow says nothing");
    world.run(&["runs", "rm", &id]).prints(&["1"]);
    world.run(&["runs", "show", &id]).fails(2, &["there is no run 1"]);
    assert!(!world.data().join("runs/1").exists());
}

#[test]
fn a_run_whose_process_is_gone_is_interrupted() {
    let world = World::new();
    let me = ProcessId::current().unwrap();
    let gone = ProcessId { start_time: me.start_time + 1, ..me };
    let _recording = Recording::start(&world, &gone);
    world.run(&["runs", "ls"]).prints(&["interrupted"]);
    world.run(&["runs", "show", "1"]).prints(&["! interrupted"]);
    world.run(&["runs", "rm", "1"]).prints(&["1"]);
}

#[test]
fn logs_are_followed_to_the_end_of_the_run() {
    let world = World::new();
    let recording = Recording::start(&world, &ProcessId::current().unwrap());
    recording.say("first\n");
    let mut follower = world
        .tci()
        .args(["runs", "logs", "1", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    recording.say("second\n");
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    recording.say("third\n");
    recording.end();
    assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["third"]);
    assert_eq!(Said::of(&follower.wait_with_output().unwrap()).code, 0);
}

#[test]
fn a_follower_learns_that_the_process_of_the_run_died() {
    let world = World::new();
    let mut owner = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let recording = Recording::start(&world, &ProcessId::of(owner.id().cast_signed()).unwrap());
    recording.say("first\n");
    let mut follower = world
        .tci()
        .args(["runs", "logs", "1", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(lines.next().is_none());
    let said = Said::of(&follower.wait_with_output().unwrap());
    assert!(said.code == 0 && said.stderr.contains("interrupted"), "{said:?}");
}

#[test]
fn a_damaged_or_newer_store_is_refused_and_left_alone() {
    let world = World::new();
    std::fs::create_dir_all(world.data()).unwrap();
    let path = world.data().join("runs.db");
    std::fs::write(&path, "this is no database").unwrap();
    world.run(&["runs", "ls"]).fails(3, &["is damaged or no database", "hint:"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "this is no database");
}
