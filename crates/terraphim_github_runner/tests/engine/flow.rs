//! Jobs and VMs: who runs when and where.

use std::time::Duration;

use terraphim_github_runner::engine::{
    Conclusion, EngineError, Isolation, RunConclusion, RunEvent, plan_commands,
};
use terraphim_github_runner::{ParsedWorkflow, WorkflowStep};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_not_wait_for_jobs_it_does_not_need() {
    // `after` needs only `quick`; `slow` ends when `after` has run, which a barrier between stages would never allow.
    let mut world = World::new();
    let flag = world.directory.path().join("flag").display().to_string();
    let workflow = format!(
        "on: push
jobs:
  slow:
    runs-on: linux
    steps: [{{run: 'until [ -e {flag} ]; do read -t 0.01 <> <(:) || :; done', shell: 'bash {{0}}', timeout-minutes: 60}}]
  quick:
    runs-on: linux
    steps: [run: 'true']
  after:
    needs: quick
    runs-on: linux
    steps: [run: 'touch {flag}']
"
    );
    let report = world.run(&workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_share_one_vm_but_no_files() {
    let mut world = World::new();
    let job = "runs-on: linux\n    steps: [run: 'test ! -e mine && echo here > mine && echo $HOME > ~/x && test ! -e $RUNNER_TEMP/y && touch $RUNNER_TEMP/y']";
    let workflow =
        format!("on: push\njobs:\n  a:\n    {job}\n  b:\n    {job}\n  c:\n    needs: a\n    {job}\n");
    let report = world.run(&workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    assert_eq!(report.vm_ids.len(), 1);
    assert_eq!(world.provider.given.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_by_job_gives_each_job_a_vm() {
    let mut world = World::new();
    world.inputs.isolation = Isolation::Job;
    let workflow = "on: push
jobs:
  a: {runs-on: linux, steps: [run: 'true']}
  b: {runs-on: linux, needs: a, steps: [run: 'true']}
";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success);
    assert_eq!(report.vm_ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_views_jobs_run_one_after_another_in_one_directory() {
    let mut world = World::new();
    world.executor = world.executor.map(|executor| executor.without_views());
    // Each job fails if another one is in the directory at the same time.
    let job =
        "runs-on: linux\n    steps: [run: 'mkdir lock && echo $GITHUB_JOB >> log && rmdir lock && cat log']";
    let workflow = format!("on: push\njobs:\n  a:\n    {job}\n  b:\n    {job}\n  c:\n    {job}\n");
    let report = world.run(&workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    assert!(world.recorder.output().contains("a\nb\nc\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_jobs_are_skipped_needs_no_vm() {
    let mut world = World::new();
    let workflow = "on: push\njobs:\n  a: {runs-on: linux, if: false, steps: [run: 'true']}\n";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success);
    assert_eq!(report.jobs[0].conclusion, Conclusion::Skipped);
    assert!(world.provider.given.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_vm_is_no_result_of_the_workflow() {
    let mut world = World::new();
    world.executor.as_mut().unwrap().lose = Some(2);
    let workflow = "on: push
jobs:
  a:
    runs-on: linux
    steps: [{run: echo one, shell: sh}, {run: echo two, shell: sh, continue-on-error: true}, {run: echo three, shell: sh, continue-on-error: true}]
";
    let error = world.run(workflow).await.unwrap_err();
    let EngineError::Infrastructure { report, .. } = error else { panic!("{error}") };
    assert_eq!(report.conclusion, RunConclusion::InfrastructureFault);
    assert!(report.message.unwrap().contains("the VM is gone"));
    let events = world.recorder.events.lock().unwrap();
    let Some(RunEvent::RunFinished { conclusion, .. }) = events.last() else {
        panic!("the last event is the end")
    };
    assert_eq!(*conclusion, RunConclusion::InfrastructureFault);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_before_the_start_starts_nothing() {
    let cases = [
        ("on: push\njobs:\n  a: {runs-on: windows-latest, steps: [run: 'true']}\n", "windows-latest"),
        ("on: push\njobs:\n  a: {runs-on: linux, container: alpine, steps: [run: 'true']}\n", "`container`"),
        ("on: push\njobs:\n  a: {runs-on: linux, steps: [uses: 'actions/cache@v4']}\n", "actions/cache@v4"),
        (
            "on: push\njobs:\n  a: {runs-on: linux, steps: [{uses: 'actions/checkout@v4', with: {lfs: true}}]}\n",
            "the input `lfs` of actions/checkout",
        ),
        ("on: push\njobs:\n  a: {uses: './.github/workflows/b.yml'}\n", "uses: ./.github/workflows/b.yml"),
    ];
    for (workflow, part) in cases {
        let mut world = World::new();
        let error = world.run(workflow).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(error.contains("test.yml (Line: 3, Col: "), "{error}");
        assert!(world.provider.given.lock().unwrap().is_empty());
    }
    let mut world = World::new();
    world.inputs.jobs = vec!["nowhere".to_owned()];
    let error =
        world.run("on: push\njobs:\n  a: {runs-on: linux, steps: [run: 'true']}\n").await.unwrap_err();
    assert!(matches!(error, EngineError::UnknownJob { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_setup_steps_cleanup_in_one_vm() {
    let mut world = World::new();
    let step = |name: &str, command: &str, continue_on_error| WorkflowStep {
        name: name.to_owned(),
        command: command.to_owned(),
        working_dir: ".".to_owned(),
        continue_on_error,
        timeout_seconds: 60,
    };
    let plan = plan_commands(&ParsedWorkflow {
        name: "simple".to_owned(),
        trigger: "push".to_owned(),
        environment: [("WHO".to_owned(), "world".to_owned())].into(),
        setup_commands: vec!["echo setup $WHO".to_owned()],
        steps: vec![
            step("greet", "echo ::set-output hello $WHO", false),
            step("may fail", "exit 3", true),
            step("fails", "exit 4", false),
            step("not reached", "echo never", false),
        ],
        cleanup_commands: vec!["echo cleaning; exit 1".to_owned(), "echo cleaned $WHO".to_owned()],
        cache_paths: Vec::new(),
    })
    .unwrap();
    let report = world.run_plan(plan).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Failure);
    assert_eq!(report.vm_ids.len(), 1);
    let outcomes: Vec<Conclusion> = report.jobs[0].steps.iter().map(|step| step.outcome).collect();
    use Conclusion::{Failure, Skipped, Success};
    assert_eq!(outcomes, [Success, Failure, Failure, Skipped]);
    let want = "setup world\n::set-output hello world\ncleaning\ncleaned world\n";
    assert_eq!(world.recorder.output(), want);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_setup_runs_cleanup_only() {
    let mut world = World::new();
    let plan = plan_commands(&ParsedWorkflow {
        name: "simple".to_owned(),
        trigger: "push".to_owned(),
        environment: Default::default(),
        setup_commands: vec!["exit 9".to_owned(), "echo second".to_owned()],
        steps: Vec::new(),
        cleanup_commands: vec!["echo cleaned".to_owned()],
        cache_paths: Vec::new(),
    })
    .unwrap();
    let report = world.run_plan(plan).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Failure);
    assert_eq!(world.recorder.output(), "cleaned\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_arrives_whole_and_in_order() {
    let mut world = World::new();
    // 32 MiB in lines, a secret in every line, and one line that is far longer than what is held.
    world.inputs.secrets.insert("TOKEN".to_owned(), "hunter2hunter2".into());
    let workflow = "on: push
jobs:
  a:
    runs-on: linux
    steps:
      - shell: python
        run: |
          import sys
          for i in range(400000):
              sys.stdout.write(f'{i:08} hunter2hunter2 ' + 'x' * 60 + '\\n')
          sys.stdout.write('y' * 3000000 + 'hunter2hunter2' + 'z' * 3000000 + '\\n')
";
    let workflow = workflow.replace("shell: python", "shell: python3 {0}");
    let report = world.run(&workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{:?}", report.jobs[0].steps[0].annotations);
    let output = world.recorder.output();
    let mut lines = output.lines();
    for i in 0..400_000 {
        assert_eq!(lines.next().unwrap(), format!("{i:08} *** {}", "x".repeat(60)));
    }
    let long = lines.next().unwrap();
    assert!(long == format!("{}***{}", "y".repeat(3_000_000), "z".repeat(3_000_000)));
    assert_eq!(lines.next(), None);
    let events = world.recorder.events.lock().unwrap();
    let longest = events.iter().map(|event| match event {
        RunEvent::Output { text, .. } => text.len(),
        _ => 0,
    });
    assert!(longest.max().unwrap() <= 1 << 20, "no event holds it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_jobs_run_at_a_time_than_the_setting_allows() {
    // Jobs run at the same time as far as the setting allows, and no further.
    let mut world = World::new();
    world.inputs.parallelism = 2;
    world.inputs.timing.minute = Duration::from_secs(60);
    let workflow = "on: push
jobs:
  a:
    runs-on: linux
    strategy: {matrix: {n: [1, 2, 3, 4, 5, 6]}}
    steps: [run: 'true']
";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.jobs.len(), 6);
    let (mut now, mut most) = (0, 0);
    for event in world.recorder.events.lock().unwrap().iter() {
        match event {
            RunEvent::JobStarted { .. } => now += 1,
            RunEvent::JobFinished { .. } => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!(most, 2);
}
