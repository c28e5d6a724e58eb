//! The whole way against a VM host: session, VM, commands, learning. Ignored by default because it needs one
//! (`FIRECRACKER_API_URL`, `FIRECRACKER_AUTH_TOKEN`); `scripts/test.sh` starts `tci serve` and runs it.

use std::{collections::HashMap, env, sync::Arc};

use terraphim_github_runner::{
    ExecutionStatus, GitHubEvent, GitHubEventType, InMemoryLearningCoordinator, ParsedWorkflow,
    RepositoryInfo, SessionManager, SessionManagerConfig, VmCommandExecutor, WorkflowContext,
    WorkflowExecutor, WorkflowExecutorConfig, WorkflowStep,
};

fn event() -> GitHubEvent {
    GitHubEvent {
        event_type: GitHubEventType::Push,
        action: None,
        repository: RepositoryInfo {
            full_name: "octo/app".to_owned(),
            clone_url: Some("https://github.com/octo/app.git".to_owned()),
            default_branch: Some("main".to_owned()),
        },
        pull_request: None,
        git_ref: Some("refs/heads/main".to_owned()),
        sha: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        extra: HashMap::new(),
    }
}

fn host() -> VmCommandExecutor {
    let url = env::var("FIRECRACKER_API_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let token =
        env::var("FIRECRACKER_AUTH_TOKEN").expect("FIRECRACKER_AUTH_TOKEN: `tci token create` prints one");
    VmCommandExecutor::with_auth(url, token)
}

fn step(name: &str, command: &str) -> WorkflowStep {
    WorkflowStep {
        name: name.to_owned(),
        command: command.to_owned(),
        working_dir: "/workspace".to_owned(),
        continue_on_error: false,
        timeout_seconds: 60,
    }
}

/// Setup, steps and cleanup, failures among them: each is learned as what it was.
#[tokio::test]
#[ignore = "needs a VM host: scripts/test.sh starts one"]
async fn end_to_end_setup_steps_and_cleanup_are_learned() {
    let sessions = Arc::new(SessionManager::new(SessionManagerConfig::default()));
    let learning = Arc::new(InMemoryLearningCoordinator::with_knowledge_graph("end-to-end").await.unwrap());
    let executor = Arc::new(host());
    let workflows =
        WorkflowExecutor::with_executor(executor, Arc::clone(&sessions), WorkflowExecutorConfig::default())
            .with_learning(Arc::clone(&learning) as _);
    let failing =
        WorkflowStep { continue_on_error: true, ..step("Fails", "echo 'error: no luck' >&2; exit 3") };
    let workflow = ParsedWorkflow {
        name: "learned".to_owned(),
        trigger: "push".to_owned(),
        environment: HashMap::new(),
        setup_commands: vec!["mkdir -p out".to_owned()],
        steps: vec![step("Works", "test -d out"), failing],
        cleanup_commands: vec!["rmdir out".to_owned()],
        cache_paths: vec![],
    };
    for _ in 0..3 {
        workflows.execute_workflow(&workflow, &WorkflowContext::new(event())).await.unwrap();
    }
    let stats = learning.get_stats();
    assert_eq!((stats.total_successes, stats.total_failures), (9, 3), "setup, a step, cleanup; the other");
    assert_eq!((stats.unique_success_patterns, stats.lessons_created), (3, 1));
    let graph = learning.knowledge_graph().unwrap();
    let reasons = graph.failure_signatures(&workflow.steps[1].command).await.unwrap();
    assert_eq!(reasons, [("error: no luck".to_owned(), 3)]);
    for (first, second) in [("mkdir -p out", "test -d out"), (&workflow.steps[1].command, "rmdir out")] {
        assert!(graph.predict_success(first, second).await > 0.6, "{first} then {second}");
    }
    sessions.shutdown().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a VM host: scripts/test.sh starts one"]
async fn end_to_end_real_firecracker_vm() {
    let sessions = Arc::new(SessionManager::new(SessionManagerConfig::default()));
    let learning = Arc::new(InMemoryLearningCoordinator::new("end-to-end"));
    let executor = Arc::new(host());
    let workflows =
        WorkflowExecutor::with_executor(executor, Arc::clone(&sessions), WorkflowExecutorConfig::default())
            .with_learning(Arc::clone(&learning) as _);
    let workflow = ParsedWorkflow {
        name: "end to end".to_owned(),
        trigger: "push".to_owned(),
        environment: HashMap::new(),
        setup_commands: vec![],
        steps: vec![
            step("Say", "echo hello from $(uname -s)"),
            step("Write", "echo kept > kept.txt && ls -l"),
            step("Read", "test \"$(cat kept.txt)\" = kept && pwd"),
        ],
        cleanup_commands: vec![],
        cache_paths: vec![],
    };

    let result = workflows.execute_workflow(&workflow, &WorkflowContext::new(event())).await.unwrap();

    println!("{}", result.format_for_github());
    assert!(result.success, "{result:?}");
    assert_eq!(result.steps.len(), 3);
    assert!(result.steps.iter().all(|step| step.status == ExecutionStatus::Success), "{result:?}");
    assert!(result.steps[0].stdout.contains("hello from Linux"), "{result:?}");
    assert!(result.final_snapshot.is_some(), "a snapshot of the VM was taken after each step");
    let stats = learning.get_stats();
    assert_eq!((stats.total_successes, stats.total_failures, stats.unique_success_patterns), (3, 0, 3));
    sessions.shutdown().await.unwrap();
    assert_eq!(sessions.active_session_count(), 0);
}
