//! A run that repeats another one in part: what ended well is kept, the rest runs.

use indexmap::IndexMap;
use terraphim_actions::workflow::{Loader, Options, Workflow};
use terraphim_github_runner::engine::{
    Conclusion, JobKey, KeptJob, RunConclusion, RunEvent, RunReport, plan_workflow,
};

use crate::world::World;

/// What is kept of a run that failed.
fn kept(report: &RunReport) -> IndexMap<JobKey, KeptJob> {
    let good = |conclusion| matches!(conclusion, Conclusion::Success | Conclusion::Skipped);
    let jobs = report.jobs.iter().filter(|job| good(job.conclusion));
    jobs.map(|job| {
        let kept = KeptJob {
            name: job.name.clone(),
            outcome: job.outcome,
            conclusion: job.conclusion,
            outputs: job.outputs.clone(),
            environment: job.environment.clone(),
        };
        (job.key.clone(), kept)
    })
    .collect()
}

/// The key of each job, how it ended, and whether it was kept.
fn briefly(report: &RunReport) -> Vec<(&str, Conclusion, bool)> {
    report.jobs.iter().map(|job| (&*job.key.0, job.conclusion, job.kept)).collect()
}

/// The first attempt and the second, which keeps what it can; the second's world.
async fn twice(workflow: &str, called: &str) -> (RunReport, RunReport, World) {
    let mut loader = Loader::default();
    loader.add("./.github/workflows/called.yml", called);
    let name = ".github/workflows/test.yml";
    let workflow = Workflow::load(workflow, name, &loader, &Options::default()).unwrap();
    let first = World::new().run_plan(plan_workflow(&workflow).unwrap()).await.unwrap();
    assert_eq!(first.conclusion, RunConclusion::Failure);
    let mut world = World::new();
    world.inputs.run_attempt = 2;
    world.inputs.kept = kept(&first);
    let second = world.run_plan(plan_workflow(&workflow).unwrap()).await.unwrap();
    assert_eq!(second.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    (first, second, world)
}

const CALLED: &str = "on:
  workflow_call:
    outputs: {by: {value: '${{ jobs.make.outputs.by }}'}}
jobs:
  make:
    runs-on: linux
    outputs: {by: 'made by ${{ github.run_attempt }}'}
    steps: [run: 'true']
  check:
    runs-on: linux
    steps: [run: 'test $GITHUB_RUN_ATTEMPT = 2']
  last:
    needs: check
    runs-on: linux
    steps: [run: 'true']
";

#[tokio::test(flavor = "multi_thread")]
async fn failed_legs_and_what_depends_on_them_run_again_and_see_the_whole_matrix() {
    let workflow = "on: push
jobs:
  setup:
    runs-on: linux
    if: github.run_attempt == 1
    outputs: {by: 'set up by ${{ github.run_attempt }}'}
    steps: [run: 'true']
  late:
    runs-on: linux
    if: github.run_attempt > 1
    steps: [run: 'true']
  test:
    needs: setup
    runs-on: linux
    strategy: {fail-fast: false, matrix: {n: [1, 2, 3]}}
    outputs:
      one: \"${{ matrix.n == 1 && format('leg 1 of {0}', github.run_attempt) || '' }}\"
      two: \"${{ matrix.n == 2 && format('leg 2 of {0}', github.run_attempt) || '' }}\"
    steps: [run: 'test ${{ matrix.n }} != 2 || test $GITHUB_RUN_ATTEMPT = 2']
  after:
    needs: [setup, test]
    runs-on: linux
    steps: [run: 'echo \"${{ needs.test.result }}, ${{ join(needs.test.outputs.*) }}, ${{ needs.setup.outputs.by }}\"']
  apart:
    needs: setup
    runs-on: linux
    steps: [run: 'true']
";
    let (first, second, world) = twice(workflow, CALLED).await;
    let (success, skipped) = (Conclusion::Success, Conclusion::Skipped);
    assert_eq!(
        briefly(&first),
        [
            ("setup", success, false),
            ("late", skipped, false),
            ("test.0", success, false),
            ("test.1", Conclusion::Failure, false),
            ("test.2", success, false),
            ("after", skipped, false),
            ("apart", success, false),
        ]
    );
    assert_eq!(
        briefly(&second),
        [
            ("setup", success, true),
            ("late", skipped, false),
            ("test.0", success, true),
            ("test.1", success, false),
            ("test.2", success, true),
            ("after", success, false),
            ("apart", success, true),
        ]
    );
    assert_eq!(world.recorder.output(), "success, leg 1 of 1,leg 2 of 2, set up by 1\n");
    let events = world.recorder.events.lock().unwrap();
    let started = |event: &&RunEvent| matches!(event, RunEvent::JobStarted { .. });
    assert_eq!(events.iter().filter(started).count(), 2);
    assert_eq!((&*second.jobs[4].name, second.jobs[4].matrix.is_some()), ("test (3)", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn legs_that_fail_fast_stopped_run_again() {
    let workflow = "on: push
jobs:
  test:
    runs-on: linux
    strategy: {max-parallel: 1, matrix: {n: [1, 2, 3]}}
    steps: [run: 'test ${{ matrix.n }} != 2 || test $GITHUB_RUN_ATTEMPT = 2']
";
    let (first, second, _) = twice(workflow, CALLED).await;
    assert_eq!(briefly(&first)[2], ("test.2", Conclusion::Cancelled, false));
    let runs: Vec<bool> = second.jobs.iter().map(|job| !job.kept).collect();
    assert_eq!(runs, [false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_called_workflow_are_kept_unless_the_call_depends_on_what_runs() {
    let workflow = "on: push
jobs:
  call:
    uses: ./.github/workflows/called.yml
  after:
    needs: call
    runs-on: linux
    steps: [run: 'echo \"${{ needs.call.result }}, ${{ needs.call.outputs.by }}\"']
  flaky:
    runs-on: linux
    steps: [run: 'test $GITHUB_RUN_ATTEMPT = 2']
  dependent:
    needs: flaky
    if: always()
    uses: ./.github/workflows/called.yml
";
    let (first, second, world) = twice(workflow, CALLED).await;
    assert!(briefly(&first).contains(&("dependent.make", Conclusion::Success, false)));
    let runs: Vec<(&str, bool)> = second.jobs.iter().map(|job| (&*job.key.0, !job.kept)).collect();
    assert_eq!(
        runs,
        [
            ("call.make", false),
            ("call.check", true),
            ("call.last", true),
            ("after", true),
            ("flaky", true),
            ("dependent.make", true),
            ("dependent.check", true),
            ("dependent.last", true),
        ]
    );
    assert!(world.recorder.output().contains("success, made by 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_is_another_one_by_now_runs() {
    let workflow = "on: push
jobs:
  test:
    runs-on: linux
    strategy: {matrix: {n: '${{ fromJSON(vars.LEGS) }}'}}
    steps: [run: 'true']
";
    let mut world = World::new();
    world.inputs.vars.insert("LEGS".to_owned(), "[1, 2]".to_owned());
    let first = world.run(workflow).await.unwrap();
    let mut world = World::new();
    world.inputs.vars.insert("LEGS".to_owned(), "[1, 3]".to_owned());
    world.inputs.kept = kept(&first);
    let second = world.run(workflow).await.unwrap();
    let names: Vec<_> = second.jobs.iter().map(|job| (job.name.as_str(), job.kept)).collect();
    assert_eq!(names, [("test (1)", true), ("test (3)", false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_a_run_have_a_limit_and_those_of_kept_jobs_count() {
    let workflow = "on: push
jobs:
  large: {runs-on: linux, steps: [run: 'true']}
  small: {runs-on: linux, needs: large, outputs: {x: y}, steps: [run: 'true']}
  none: {runs-on: linux, needs: large, steps: [run: 'true']}
";
    let mut world = World::new();
    let large = KeptJob {
        name: "large".to_owned(),
        outcome: Conclusion::Success,
        conclusion: Conclusion::Success,
        // As much as a run may have: two bytes for each.
        outputs: IndexMap::from([("all".to_owned(), "x".repeat(25 << 20))]),
        environment: None,
    };
    world.inputs.kept = IndexMap::from([(JobKey::new("large", None), large)]);
    let report = world.run(workflow).await.unwrap();
    let ends: Vec<_> = report.jobs.iter().map(|job| (&*job.id, job.conclusion)).collect();
    let (success, failure) = (Conclusion::Success, Conclusion::Failure);
    assert_eq!(ends, [("large", success), ("small", failure), ("none", success)]);
    assert!(report.jobs[1].outputs.is_empty());
    let said = &report.jobs[1].annotations[0].message;
    assert!(
        said.contains("exceed 52428800 bytes: with those of this job they would have 52428802"),
        "{said}"
    );
}
