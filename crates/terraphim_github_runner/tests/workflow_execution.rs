//! What a run does with its commands, its time and its VM.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use support::{Behaviour, Call, Dice, Provider, config, context, manager, workflow};
use terraphim_github_runner::{
    ApplicableLesson, CommandExecutor, CommandResult, ExecutionStatus, GitHubRunnerError,
    InMemoryLearningCoordinator, LearningCoordinator, ParsedWorkflow, Result, Session, SessionManagerConfig,
    SnapshotId, WorkflowContext, WorkflowExecutor, WorkflowExecutorConfig, WorkflowOptimization,
    WorkflowResult,
};
use tokio_util::sync::CancellationToken;

/// Does what a command's words say: `exit N`, `sleep N`, `panic`, `lost`; everything else succeeds.
#[derive(Default)]
struct Scripted {
    log: Mutex<Vec<String>>,
    without_snapshots: bool,
}

impl Scripted {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

#[async_trait]
impl CommandExecutor for Scripted {
    async fn execute(
        &self,
        _session: &Session,
        command: &str,
        _timeout: Duration,
        working_dir: &str,
    ) -> Result<CommandResult> {
        self.note(if working_dir == "/workspace" {
            command.into()
        } else {
            format!("{working_dir}: {command}")
        });
        let number = |words: &str| words.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        let mut exit_code = 0;
        match command {
            "panic" => panic!("the executor panics"),
            "lost" => return Err(GitHubRunnerError::failed("reach the guest", "it is gone")),
            exit if exit.starts_with("exit") => exit_code = i32::try_from(number(exit)).unwrap(),
            sleep if sleep.starts_with("sleep") => {
                tokio::time::sleep(Duration::from_secs(number(sleep))).await;
            }
            _ => tokio::task::yield_now().await,
        }
        let stderr = if exit_code == 0 { String::new() } else { "error: it failed".to_owned() };
        Ok(CommandResult { exit_code, stdout: String::new(), stderr, duration: Duration::ZERO })
    }

    async fn create_snapshot(&self, _session: &Session, name: &str) -> Result<SnapshotId> {
        if self.without_snapshots {
            self.note("no snapshot".into());
            return Err(GitHubRunnerError::Unsupported { operation: "take snapshots" });
        }
        let number = name.rsplit('-').next().unwrap();
        self.note(format!("snapshot {number}"));
        Ok(SnapshotId::new(number))
    }

    async fn rollback(&self, _session: &Session, snapshot: &SnapshotId) -> Result<()> {
        self.note(format!("rollback {snapshot}"));
        Ok(())
    }
}

fn plain() -> WorkflowExecutorConfig {
    WorkflowExecutorConfig { snapshot_on_success: false, ..WorkflowExecutorConfig::default() }
}

async fn run_with(
    executor: Arc<Scripted>,
    workflow: &ParsedWorkflow,
    settings: WorkflowExecutorConfig,
) -> (WorkflowResult, Vec<String>) {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let workflows =
        WorkflowExecutor::with_executor(Arc::clone(&executor) as _, Arc::clone(&sessions), settings);
    let result = workflows.execute_workflow(workflow, &context()).await.unwrap();
    sessions.shutdown().await.unwrap();
    provider.assert_clean();
    (result, executor.log())
}

async fn run(workflow: &ParsedWorkflow, settings: WorkflowExecutorConfig) -> (WorkflowResult, Vec<String>) {
    run_with(Arc::default(), workflow, settings).await
}

fn statuses(result: &WorkflowResult) -> Vec<ExecutionStatus> {
    result.steps.iter().map(|step| step.status).collect()
}

use ExecutionStatus::{Failed, RolledBack, Skipped, Success};

#[tokio::test]
async fn after_a_failed_step_the_rest_is_skipped_and_cleanup_runs() {
    let (result, log) = run(&workflow(&["a", "exit 3", "c"]), plain()).await;
    assert_eq!(log, ["setup", "a", "exit 3", "cleanup"]);
    assert!(!result.success);
    assert_eq!(statuses(&result), [Success, Failed, Skipped]);
    assert_eq!(result.steps[1].exit_code, Some(3));
    assert!(result.summary.ends_with("step 2 (exit 3) failed"), "{}", result.summary);
}

#[tokio::test]
async fn a_step_may_fail_when_it_says_so() {
    let mut workflow = workflow(&["exit 1", "b"]);
    workflow.steps[0].continue_on_error = true;
    let (result, log) = run(&workflow, plain()).await;
    assert_eq!(log, ["setup", "exit 1", "b", "cleanup"]);
    assert!(result.success);
    assert_eq!(statuses(&result), [Failed, Success]);
}

#[tokio::test]
async fn all_steps_run_when_failure_does_not_stop_them() {
    let settings = WorkflowExecutorConfig { stop_on_failure: false, ..plain() };
    let (result, log) = run(&workflow(&["exit 1", "b"]), settings).await;
    assert_eq!(log, ["setup", "exit 1", "b", "cleanup"]);
    assert!(!result.success);
    assert_eq!(statuses(&result), [Failed, Success]);
}

#[tokio::test]
async fn after_failed_setup_no_step_runs_and_cleanup_does() {
    let mut workflow = workflow(&["a"]);
    workflow.setup_commands = vec!["exit 9".into(), "more".into()];
    let (result, log) = run(&workflow, plain()).await;
    assert_eq!(log, ["exit 9", "cleanup"]);
    assert!(!result.success);
    assert_eq!(statuses(&result), [Failed, Skipped]);
}

#[tokio::test]
async fn failed_cleanup_is_told_and_changes_nothing() {
    let mut workflow = workflow(&["a"]);
    workflow.cleanup_commands = vec!["exit 1".into(), "more".into()];
    let (result, log) = run(&workflow, plain()).await;
    assert_eq!(log, ["setup", "a", "exit 1", "more"]);
    assert!(result.success);
    assert_eq!(statuses(&result), [Success, Failed]);
    assert!(result.summary.ends_with("a cleanup command failed"), "{}", result.summary);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_runs_too_long_is_stopped() {
    let mut workflow = workflow(&["sleep 100000", "b"]);
    workflow.steps[0].timeout_seconds = 5;
    let (result, log) = run(&workflow, plain()).await;
    assert_eq!(log, ["setup", "sleep 100000", "cleanup"]);
    assert_eq!(statuses(&result), [Failed, Skipped]);
    assert_eq!(result.steps[0].exit_code, None);
    assert_eq!(result.steps[0].stderr, "the command did not end within 5s");
    assert!(result.total_duration_ms < 10_000, "{}", result.total_duration_ms);

    workflow.steps[0].continue_on_error = true;
    let (result, _) = run(&workflow, plain()).await;
    assert!(result.success);
    assert_eq!(statuses(&result), [Failed, Success]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_stopped_and_cleanup_has_its_own_time() {
    let mut workflow = workflow(&["sleep 40", "sleep 50", "c"]);
    workflow.steps.iter_mut().for_each(|step| step.continue_on_error = true);
    workflow.cleanup_commands = vec!["sleep 50".into(), "sleep 100000".into(), "last".into()];
    let settings = WorkflowExecutorConfig {
        max_execution_time: Duration::from_secs(60),
        default_timeout: Duration::from_secs(55),
        ..plain()
    };
    let (result, log) = run(&workflow, settings).await;
    assert_eq!(log, ["setup", "sleep 40", "sleep 50", "sleep 50", "sleep 100000", "last"]);
    assert!(!result.success, "continue-on-error does not help a run that is out of time");
    assert_eq!(statuses(&result), [Success, Failed, Skipped, Failed]);
    assert!(result.total_duration_ms < 200_000, "{}", result.total_duration_ms);
}

#[tokio::test]
async fn a_lost_vm_fails_the_run_whatever_the_step_says() {
    let mut workflow = workflow(&["lost", "b"]);
    workflow.steps[0].continue_on_error = true;
    let settings = WorkflowExecutorConfig { stop_on_failure: false, ..plain() };
    let (result, log) = run(&workflow, settings).await;
    assert_eq!(log, ["setup", "lost", "cleanup"]);
    assert!(!result.success);
    assert_eq!(result.steps[0].stderr, "cannot reach the guest: it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_its_command_and_cleans_up() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let executor = Arc::new(Scripted::default());
    let workflows =
        WorkflowExecutor::with_executor(Arc::clone(&executor) as _, Arc::clone(&sessions), plain());
    let cancel = CancellationToken::new();
    let (workflow, context) = (workflow(&["sleep 50", "b"]), context());
    let run = workflows.execute_workflow_until(&workflow, &context, &cancel);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(run, stop);
    let result = result.unwrap();
    assert_eq!(executor.log(), ["setup", "sleep 50", "cleanup"]);
    assert_eq!(statuses(&result), [Failed, Skipped]);
    assert_eq!(result.steps[0].stderr, "the run was cancelled");
    assert_eq!(result.total_duration_ms, 3000);
    sessions.shutdown().await.unwrap();
    provider.assert_clean();
}

#[tokio::test]
async fn snapshots_follow_success_and_failure_goes_back_to_the_last() {
    let all = WorkflowExecutorConfig::default();
    let (result, log) = run(&workflow(&["a", "b", "exit 1", "d"]), all.clone()).await;
    assert_eq!(log, ["setup", "a", "snapshot 1", "b", "snapshot 2", "exit 1", "rollback 2", "cleanup"]);
    assert_eq!(statuses(&result), [Success, Success, RolledBack, Skipped]);
    assert_eq!(result.final_snapshot, Some(SnapshotId::new("2")));
    assert_eq!(result.steps[0].snapshot_id, Some(SnapshotId::new("1")));

    let settings = WorkflowExecutorConfig { auto_rollback: false, ..all.clone() };
    let (result, log) = run(&workflow(&["a", "exit 1"]), settings).await;
    assert_eq!(log, ["setup", "a", "snapshot 1", "exit 1", "cleanup"]);
    assert_eq!(statuses(&result), [Success, Failed]);

    let none = Arc::new(Scripted { without_snapshots: true, ..Scripted::default() });
    let (result, log) = run_with(none, &workflow(&["a", "b", "exit 1"]), all).await;
    assert_eq!(log, ["setup", "a", "no snapshot", "b", "exit 1", "cleanup"], "it asks once");
    assert_eq!(statuses(&result), [Success, Success, Failed]);
}

#[tokio::test]
async fn variables_and_directories_reach_the_commands() {
    let mut workflow = workflow(&["a", "b"]);
    workflow.environment.insert("B".into(), "it's".into());
    workflow.environment.insert("A".into(), "1".into());
    workflow.steps[0].working_dir = "sub".into();
    workflow.steps[1].working_dir = "/elsewhere".into();
    let (_, log) = run(&workflow, plain()).await;
    let exports = "export A=1\nexport B='it'\\''s'\n";
    assert_eq!(
        log,
        [
            format!("{exports}setup"),
            format!("/workspace/sub: {exports}a"),
            format!("/elsewhere: {exports}b"),
            format!("{exports}cleanup"),
        ]
    );
}

#[tokio::test]
async fn a_workflow_that_cannot_run_gets_no_vm() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let workflows = WorkflowExecutor::with_executor(Arc::new(Scripted::default()), sessions, plain());
    let mut bad_name = workflow(&["a"]);
    bad_name.environment.insert("A B".into(), String::new());
    for bad in [bad_name, workflow(&[" "]), workflow(&["a\0"])] {
        let error = workflows.execute_workflow(&bad, &context()).await.unwrap_err();
        assert!(matches!(error, GitHubRunnerError::InvalidWorkflow(_)), "{error:?}");
    }
    let mut bad_context = context();
    bad_context.env_vars.insert("1".into(), String::new());
    workflows.execute_workflow(&workflow(&["a"]), &bad_context).await.unwrap_err();
    assert_eq!(provider.allocations(), 0);
}

/// What a coordinator heard, in order.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

#[async_trait]
impl LearningCoordinator for Heard {
    async fn record_success(
        &self,
        command: &str,
        _duration_ms: u64,
        _context: &WorkflowContext,
    ) -> Result<()> {
        self.0.lock().unwrap().push(format!("{command}: good"));
        Ok(())
    }

    async fn record_failure(&self, command: &str, error: &str, _context: &WorkflowContext) -> Result<()> {
        self.0.lock().unwrap().push(format!("{command}: {error}"));
        Ok(())
    }

    async fn record_workflow_result(&self, result: &WorkflowResult) -> Result<()> {
        self.0.lock().unwrap().push(format!("the run: {}", result.success));
        Ok(())
    }

    async fn suggest_optimizations(&self, _context: &WorkflowContext) -> Result<Vec<WorkflowOptimization>> {
        Ok(Vec::new())
    }

    async fn get_applicable_lessons(&self, _context: &WorkflowContext) -> Result<Vec<ApplicableLesson>> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn setup_steps_and_cleanup_are_reported_with_what_became_of_them() {
    let provider = Provider::quick();
    let heard = Arc::new(Heard::default());
    let workflows = WorkflowExecutor::with_executor(
        Arc::new(Scripted::default()),
        manager(&provider, config(1)),
        plain(),
    )
    .with_learning(Arc::clone(&heard) as _);
    let mut workflow = workflow(&["a", "exit 7", "never"]);
    workflow.cleanup_commands = vec!["exit 9".into(), "sweep".into()];
    workflows.execute_workflow(&workflow, &context()).await.unwrap();
    // A setup command that fails ends the run before its steps.
    workflow.setup_commands = vec!["exit 5".into()];
    workflows.execute_workflow(&workflow, &context()).await.unwrap();
    assert_eq!(
        *heard.0.lock().unwrap(),
        [
            "setup: good",
            "a: good",
            "exit 7: error: it failed",
            "exit 9: error: it failed",
            "sweep: good",
            "the run: false",
            "exit 5: error: it failed",
            "exit 9: error: it failed",
            "sweep: good",
            "the run: false",
        ]
    );
}

#[tokio::test]
async fn learning_hears_of_every_command_and_its_lessons_come_back() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let learning = Arc::new(InMemoryLearningCoordinator::with_knowledge_graph("test").await.unwrap());
    let workflows = WorkflowExecutor::with_executor(Arc::new(Scripted::default()), sessions, plain())
        .with_learning(Arc::clone(&learning) as _);
    let workflow = workflow(&["a", "exit 1"]);
    for _ in 0..2 {
        let result = workflows.execute_workflow(&workflow, &context()).await.unwrap();
        assert_eq!(result.lessons, [""; 0]);
    }
    let result = workflows.execute_workflow(&workflow, &context()).await.unwrap();
    assert_eq!(result.lessons.len(), 1, "{:?}", result.lessons);
    assert!(result.lessons[0].contains("error: it failed"), "{:?}", result.lessons);
    let stats = learning.get_stats();
    assert_eq!((stats.total_successes, stats.total_failures), (9, 3), "setup, a, cleanup; exit 1");
    assert_eq!(
        (stats.unique_success_patterns, stats.unique_failure_patterns, stats.lessons_created),
        (3, 1, 1)
    );
    let graph = learning.knowledge_graph().unwrap();
    assert!(graph.predict_success("setup", "a").await > 0.7);
    assert!(graph.predict_success("a", "exit 1").await < 0.3);
}

/// The VM that was lost and the command that was cancelled or stopped with its run did not fail by themselves.
#[tokio::test(start_paused = true)]
async fn learning_does_not_hear_of_what_was_not_a_commands_own_end() {
    let provider = Provider::quick();
    let learning = Arc::new(InMemoryLearningCoordinator::new("test"));
    let of = |config| {
        WorkflowExecutor::with_executor(
            Arc::new(Scripted::default()),
            manager(&provider, self::config(1)),
            config,
        )
        .with_learning(Arc::clone(&learning) as _)
    };
    let counted = || {
        let stats = learning.get_stats();
        (stats.total_successes, stats.total_failures)
    };
    of(plain()).execute_workflow(&workflow(&["a", "lost"]), &context()).await.unwrap();
    assert_eq!(counted().1, 0, "the VM was lost");
    let before = counted();
    // Longer than the whole run may last, and shorter than its own limit.
    let brief = WorkflowExecutorConfig { max_execution_time: Duration::from_secs(5), ..plain() };
    let result = of(brief).execute_workflow(&workflow(&["sleep 60"]), &context()).await;
    assert!(result.is_err() || result.is_ok_and(|result| !result.success));
    assert_eq!(counted().1, before.1, "the run was over");
    // Its own limit is the command's own end.
    of(plain()).execute_workflow(&workflow(&["sleep 100000"]), &context()).await.unwrap();
    assert_eq!(counted().1, before.1 + 1);
}

/// Ten thousand runs, of which many fail, hang, panic, lose their VM, are cancelled in good order or dropped,
/// on a provider that fails and panics too.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_after_ten_thousand_runs() {
    let dice = Mutex::new(Dice::new(7));
    let provider = Provider::new(move |call| {
        let mut dice = dice.lock().unwrap();
        match (call, dice.roll(40)) {
            (_, 0) => Behaviour::Fail,
            (_, 1) => Behaviour::Panic,
            (Call::Allocate(_), _) => Behaviour::Work(Duration::from_millis(dice.roll(3000))),
            (Call::Release(_), _) => Behaviour::Work(Duration::from_millis(dice.roll(1000))),
        }
    });
    let settings = SessionManagerConfig {
        at_limit: terraphim_github_runner::AtLimit::Queue,
        completed_linger: Duration::from_secs(2),
        cleanup_interval: Duration::from_secs(1),
        ..config(16)
    };
    let sessions = manager(&provider, settings);
    let workflows = Arc::new(WorkflowExecutor::with_executor(
        Arc::new(Scripted::default()),
        Arc::clone(&sessions),
        WorkflowExecutorConfig::default(),
    ));
    let mut dice = Dice::new(11);
    let mut ends = [0_usize; 4];
    for _ in 0..100 {
        let mut runs = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let commands = ["true", "exit 1", "sleep 1", "sleep 1000", "panic", "lost", "true", "true"];
            let steps: Vec<_> = (0..3).map(|_| commands[usize::try_from(dice.roll(8)).unwrap()]).collect();
            let (end, after) = (dice.roll(4), Duration::from_millis(dice.roll(5000)));
            let (workflows, workflow) = (Arc::clone(&workflows), workflow(&steps));
            runs.spawn(async move {
                let cancel = CancellationToken::new();
                let context = context();
                let run = workflows.execute_workflow_until(&workflow, &context, &cancel);
                match end {
                    0 => drop(tokio::time::timeout(after, run).await),
                    1 => {
                        let stop = async {
                            tokio::time::sleep(after).await;
                            cancel.cancel();
                        };
                        let _ = tokio::join!(run, stop);
                    }
                    _ => drop(run.await),
                }
            });
        }
        while let Some(ended) = runs.join_next().await {
            ends[usize::from(ended.is_err())] += 1;
        }
    }
    assert_eq!(ends[0] + ends[1], 10_000);
    assert!(ends[1] > 100, "some panicked: {ends:?}");
    assert!(provider.most() <= 16, "{}", provider.most());
    assert_eq!(sessions.active_session_count(), 0);
    // A release may fail again at the end; the reaper goes on until all are gone.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(provider.allocations() > 3000, "{}", provider.allocations());
    provider.assert_clean();
    assert_eq!(sessions.get_stats().total_sessions, 0);
}
