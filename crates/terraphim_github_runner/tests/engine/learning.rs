//! What is learned from a run of real processes: every command before, in and after the jobs, with what became of it.

use std::time::Duration;

use terraphim_github_runner::engine::{Command, RunConclusion, RunObserver as _, plan_workflow};
use terraphim_github_runner::learning::{CommandOutcome, EventKind, Learner, LearningObserver, RunFacts};
use terraphim_github_runner::store::RunStore;

use crate::world::{World, parse};

const WORKFLOW: &str = "
on: push
jobs:
  a:
    runs-on: linux
    steps:
      - uses: ./act
      - run: exit 4
        continue-on-error: true
      - run: echo fine
      - run: echo never
        if: false
";

fn command(text: &str) -> Command {
    Command { text: text.to_owned(), working_dir: None, timeout: Duration::from_secs(60) }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_steps_actions_and_cleanup_are_learned_with_their_real_outcomes() {
    let world = World::new();
    let files = world.directory.path().join("files");
    std::fs::create_dir_all(files.join("act")).unwrap();
    let file = |name: &str, text: &str| std::fs::write(files.join("act").join(name), text).unwrap();
    file("action.yml", "runs: {using: node20, main: main.js, post: post.js}\n");
    file("main.js", "console.log('main')\n");
    file("post.js", "console.log('error: nothing to put away'); process.exit(3)\n");
    let mut world = world.with_files(&files);
    let mut plan = plan_workflow(&parse(WORKFLOW)).unwrap();
    plan.setup = vec![command("echo prepared")];
    plan.cleanup = vec![command("exit 5"), command("echo swept")];

    let report = world.run_plan(plan).await.unwrap();

    assert_eq!(report.conclusion, RunConclusion::Failure, "{}", world.recorder.everything());
    let store = RunStore::open(&world.directory.path().join("store")).await.unwrap();
    let learner = Learner::open(store.clone(), "acme/rocket").await.unwrap();
    let facts = RunFacts { repository: "acme/rocket".to_owned(), ..RunFacts::default() };
    let observer = LearningObserver::new(learner, facts);
    let events = world.recorder.events.lock().unwrap().clone();
    for event in &events {
        observer.observe(event).await;
    }
    let learned = store.learning_events(0, 100).await.unwrap();
    let commands = learned.iter().map(|(_, event)| event).filter(|event| event.kind == EventKind::Command);
    let told: Vec<_> = commands
        .map(|event| (event.job.as_str(), event.command.as_str(), event.outcome, event.exit_code))
        .collect();
    let (good, bad) = (CommandOutcome::Success, CommandOutcome::Failure);
    assert_eq!(
        told,
        [
            ("(setup)", "echo prepared", good, Some(0)),
            ("a", "uses ./act/action.yml main.js", good, Some(0)),
            ("a", "exit 4", bad, Some(4)),
            ("a", "echo fine", good, Some(0)),
            ("a", "uses ./act/action.yml post.js", bad, Some(3)),
            ("(cleanup)", "exit 5", bad, Some(5)),
            ("(cleanup)", "echo swept", good, Some(0)),
        ]
    );
    let post = learned.iter().find(|(_, event)| event.exit_code == Some(3)).unwrap();
    assert_eq!(post.1.signature.as_ref().unwrap().text, "error: nothing to put away");
    assert_eq!(store.rebuild_learning().await.unwrap().corrected, 0);
    store.close().await;
}
