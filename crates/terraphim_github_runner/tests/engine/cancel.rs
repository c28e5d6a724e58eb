//! Cancelling, and time limits.

use terraphim_github_runner::engine::{Conclusion, RunConclusion, RunReport};

use crate::world::World;

fn outcomes(report: &RunReport, job: usize) -> Vec<&'static str> {
    report.jobs[job].steps.iter().map(|step| step.outcome.name()).collect()
}

/// Runs the workflow and cancels it once the step has said `ready`.
async fn cancelled(workflow: &str) -> (World, RunReport) {
    let mut world = World::new();
    // Nothing here is to end by its time limit.
    world.inputs.timing.minute = std::time::Duration::from_secs(60);
    let (recorder, cancel) = (world.recorder.clone(), world.cancel.clone());
    let canceller = tokio::spawn(async move {
        recorder.saw("ready").await;
        cancel.cancel();
    });
    let report = world.run(workflow).await.unwrap();
    canceller.await.unwrap();
    (world, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_step_is_stopped_and_what_wants_to_run_after_a_cancellation_runs() {
    let (world, report) = cancelled(
        "on: push
jobs:
  a:
    runs-on: linux
    steps:
      - run: echo ready; sleep 600
      - run: echo not reached
      - {if: failure(), run: echo no failure}
      - {if: cancelled(), run: echo was cancelled}
      - {if: always(), run: 'echo status ${{ job.status }}'}
  b:
    needs: a
    runs-on: linux
    steps: [run: echo never]
  c:
    needs: a
    if: always()
    runs-on: linux
    steps: [run: echo c runs]
",
    )
    .await;
    assert_eq!(report.conclusion, RunConclusion::Cancelled);
    assert_eq!(outcomes(&report, 0), ["cancelled", "skipped", "skipped", "success", "success"]);
    let jobs: Vec<Conclusion> = report.jobs.iter().map(|job| job.conclusion).collect();
    assert_eq!(jobs, [Conclusion::Cancelled, Conclusion::Skipped, Conclusion::Success]);
    assert_eq!(world.recorder.output(), "ready\nwas cancelled\nstatus cancelled\nc runs\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_condition_still_holds_goes_on() {
    let (world, report) = cancelled(
        "on: push
jobs:
  a:
    runs-on: linux
    steps:
      - if: always()
        run: |
          trap 'echo interrupted' INT
          echo ready
          sleep 1.5
          echo done
",
    )
    .await;
    assert_eq!(outcomes(&report, 0), ["success"]);
    assert_eq!(report.jobs[0].conclusion, Conclusion::Cancelled);
    assert_eq!(world.recorder.output(), "ready\ndone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_condition_still_holds_is_not_cancelled() {
    let (_, report) = cancelled(
        "on: push
jobs:
  a:
    if: always()
    runs-on: linux
    steps: [run: echo ready; sleep 1, run: 'true']
"
        .replace("run: echo ready; sleep 1, run: 'true'", "{run: echo ready; sleep 1}, {run: 'true'}")
        .as_str(),
    )
    .await;
    assert_eq!(report.conclusion, RunConclusion::Cancelled);
    assert_eq!(outcomes(&report, 0), ["success", "success"]);
    assert_eq!(report.jobs[0].conclusion, Conclusion::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ignores_signals_is_killed() {
    let (world, report) = cancelled(
        "on: push
jobs:
  a:
    runs-on: linux
    steps:
      - run: |
          trap 'echo got INT' INT
          trap 'echo got TERM' TERM
          echo ready
          while :; do sleep 0.05 || :; done
        shell: bash {0}
",
    )
    .await;
    assert_eq!(outcomes(&report, 0), ["cancelled"]);
    assert_eq!(report.jobs[0].steps[0].exit_code, Some(128 + 9));
    let output = world.recorder.output();
    assert!(output.contains("got INT\n") && output.contains("got TERM\n"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cancelled_before_it_began_starts_nothing() {
    let mut world = World::new();
    world.cancel.cancel();
    let workflow = "on: push\njobs:\n  a: {runs-on: linux, steps: [run: 'true']}\n";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Cancelled);
    assert!(report.jobs.iter().all(|job| job.conclusion != Conclusion::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_fails() {
    let mut world = World::new();
    let report = world
        .run(
            "on: push
jobs:
  a:
    runs-on: linux
    steps:
      - {timeout-minutes: 1.9, run: sleep 600}
      - {if: failure(), run: echo it failed}
      - {if: always(), timeout-minutes: 1, continue-on-error: true, run: sleep 600}
      - {if: always(), timeout-minutes: 0.5, run: sleep 1}
",
        )
        .await
        .unwrap();
    assert_eq!(report.conclusion, RunConclusion::Failure);
    assert_eq!(outcomes(&report, 0), ["failure", "success", "failure", "success"]);
    assert_eq!(report.jobs[0].steps[2].conclusion, Conclusion::Success);
    assert!(report.jobs[0].steps[0].annotations[0].message.contains("longer than its limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_long_is_cancelled() {
    let mut world = World::new();
    let report = world
        .run(
            "on: push
jobs:
  a:
    runs-on: linux
    timeout-minutes: 1
    steps:
      - run: sleep 600
      - {if: failure(), run: echo no}
      - {if: cancelled(), run: echo yes}
      - {if: always(), run: sleep 600}
      - {if: always(), run: echo too late}
    cancel-timeout-minutes: 2
",
        )
        .await
        .unwrap();
    assert_eq!(report.conclusion, RunConclusion::Failure);
    assert_eq!(report.jobs[0].conclusion, Conclusion::Cancelled);
    assert_eq!(outcomes(&report, 0), ["cancelled", "skipped", "success", "cancelled", "cancelled"]);
    assert!(report.jobs[0].annotations[0].message.contains("1 minutes"));
    assert_eq!(world.recorder.output(), "yes\n");
}
