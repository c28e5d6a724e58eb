//! One VM per workflow: what is allocated, what runs where, and what is given back.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use terraphim_github_runner::{
    CommandExecutor, CommandResult, GitHubEvent, GitHubEventType, GitHubRunnerError, ParsedWorkflow,
    RepositoryInfo, Result, Session, SessionManager, SessionManagerConfig, SnapshotId, VmProvider,
    WorkflowContext, WorkflowExecutor, WorkflowExecutorConfig, WorkflowResult, WorkflowStep,
};

/// Hands out names and notes who had them.
#[derive(Default)]
struct CountingProvider {
    allocated: Mutex<Vec<String>>,
    released: Mutex<Vec<String>>,
}

#[async_trait]
impl VmProvider for CountingProvider {
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)> {
        assert_eq!(vm_type, "bionic-test");
        let mut allocated = self.allocated.lock().unwrap();
        let vm_id = format!("vm-{}", allocated.len() + 1);
        allocated.push(vm_id.clone());
        Ok((vm_id, Duration::ZERO))
    }

    async fn release(&self, vm_id: &str) -> Result<()> {
        self.released.lock().unwrap().push(vm_id.to_owned());
        Ok(())
    }
}

impl CountingProvider {
    fn allocated(&self) -> Vec<String> {
        self.allocated.lock().unwrap().clone()
    }

    fn released(&self) -> Vec<String> {
        self.released.lock().unwrap().clone()
    }
}

/// Succeeds at everything and notes in which VM.
#[derive(Default)]
struct NotingExecutor {
    executions: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl CommandExecutor for NotingExecutor {
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        _timeout: Duration,
        _working_dir: &str,
    ) -> Result<CommandResult> {
        self.executions.lock().unwrap().push((session.vm_id.clone(), command.to_owned()));
        tokio::task::yield_now().await;
        let (stdout, stderr) = (String::new(), String::new());
        Ok(CommandResult { exit_code: 0, stdout, stderr, duration: Duration::ZERO })
    }

    async fn create_snapshot(&self, session: &Session, name: &str) -> Result<SnapshotId> {
        Ok(SnapshotId(format!("{}/{name}", session.vm_id)))
    }

    async fn rollback(&self, _session: &Session, _snapshot: &SnapshotId) -> Result<()> {
        unreachable!("nothing fails here")
    }
}

impl NotingExecutor {
    fn commands(&self) -> Vec<String> {
        self.executions.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
    }

    fn vms(&self) -> BTreeSet<String> {
        self.executions.lock().unwrap().iter().map(|(vm, _)| vm.clone()).collect()
    }
}

/// A manager with its provider, and executors on it.
struct Lab {
    provider: Arc<CountingProvider>,
    sessions: Arc<SessionManager>,
}

impl Lab {
    fn new(config: SessionManagerConfig) -> Lab {
        // `RUST_LOG=info` shows the manager's and the executor's own lines.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let provider = Arc::new(CountingProvider::default());
        let sessions = Arc::new(SessionManager::with_provider(Arc::clone(&provider) as _, config));
        Lab { provider, sessions }
    }

    async fn run(&self, workflow: &ParsedWorkflow) -> (WorkflowResult, Arc<NotingExecutor>) {
        let executor = Arc::new(NotingExecutor::default());
        let workflows = WorkflowExecutor::with_executor(
            Arc::clone(&executor) as _,
            Arc::clone(&self.sessions),
            WorkflowExecutorConfig::default(),
        );
        let result = workflows.execute_workflow(workflow, &context()).await.unwrap();
        assert!(result.success, "{}", result.summary);
        (result, executor)
    }
}

fn context() -> WorkflowContext {
    WorkflowContext::new(GitHubEvent {
        event_type: GitHubEventType::Push,
        action: None,
        repository: RepositoryInfo {
            full_name: "octo/hello".to_owned(),
            clone_url: None,
            default_branch: Some("main".to_owned()),
        },
        pull_request: None,
        git_ref: Some("refs/heads/main".to_owned()),
        sha: None,
        extra: HashMap::new(),
    })
}

fn workflow(name: &str, steps: usize) -> ParsedWorkflow {
    let step = |i| WorkflowStep {
        name: format!("Step {i}"),
        command: format!("step {i}"),
        working_dir: "/workspace".to_owned(),
        continue_on_error: false,
        timeout_seconds: 300,
    };
    ParsedWorkflow {
        name: name.to_owned(),
        trigger: "push".to_owned(),
        environment: HashMap::new(),
        setup_commands: vec!["setup".to_owned()],
        steps: (1..=steps).map(step).collect(),
        cleanup_commands: vec!["cleanup".to_owned()],
        cache_paths: vec![],
    }
}

#[tokio::test]
async fn test_single_workflow_multiple_steps_one_vm() {
    let lab = Lab::new(SessionManagerConfig::default());
    let (result, executor) = lab.run(&workflow("one", 5)).await;
    assert_eq!(lab.provider.allocated(), ["vm-1"]);
    assert_eq!(executor.commands(), ["setup", "step 1", "step 2", "step 3", "step 4", "step 5", "cleanup"]);
    assert_eq!(executor.vms(), BTreeSet::from(["vm-1".to_owned()]));
    assert_eq!(result.steps.len(), 5);
}

#[tokio::test]
async fn test_multiple_workflows_multiple_vms() {
    let lab = Lab::new(SessionManagerConfig::default());
    let (a, b, c) = (workflow("a", 5), workflow("b", 3), workflow("c", 7));
    let ((_, a), (_, b), (_, c)) = tokio::join!(lab.run(&a), lab.run(&b), lab.run(&c));
    assert_eq!(lab.provider.allocated().len(), 3);
    let used: Vec<_> = [&a, &b, &c].iter().flat_map(|executor| executor.vms()).collect();
    assert_eq!(used.len(), 3, "one VM each");
    assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), 3, "and none shared: {used:?}");
    assert_eq!([a, b, c].map(|executor| executor.commands().len()), [7, 5, 9]);
}

#[tokio::test]
async fn test_vm_reuse_after_completion() {
    let lab = Lab::new(SessionManagerConfig::default());
    let (first, executor_1) = lab.run(&workflow("first", 2)).await;
    assert_eq!(lab.provider.released(), [""; 0], "it is kept so that it can be looked at");
    lab.sessions.release_session(&first.session_id).await.unwrap();
    assert_eq!(lab.provider.released(), ["vm-1"]);

    let (_, executor_2) = lab.run(&workflow("second", 2)).await;
    assert_eq!(lab.provider.allocated(), ["vm-1", "vm-2"]);
    assert!(executor_1.vms().is_disjoint(&executor_2.vms()));

    lab.sessions.release_session(&first.session_id).await.unwrap();
    assert_eq!(lab.provider.released(), ["vm-1"], "asking again changes nothing");
}

#[tokio::test]
async fn test_concurrent_workflow_limit() {
    let config = SessionManagerConfig { max_concurrent_sessions: 2, ..SessionManagerConfig::default() };
    let lab = Lab::new(config);
    let first = lab.sessions.create_session(&context()).await.unwrap();
    lab.sessions.create_session(&context()).await.unwrap();
    let refused = lab.sessions.create_session(&context()).await;
    assert!(matches!(refused, Err(GitHubRunnerError::SessionLimit { limit: 2 })), "{refused:?}");
    assert_eq!(lab.provider.allocated().len(), 2);

    lab.sessions.release_session(&first.id).await.unwrap();
    lab.sessions.create_session(&context()).await.unwrap();
    assert_eq!(lab.provider.allocated().len(), 3);
}

#[tokio::test]
async fn test_step_execution_vm_consistency() {
    let lab = Lab::new(SessionManagerConfig::default());
    let (result, executor) = lab.run(&workflow("ten", 10)).await;
    assert_eq!(lab.provider.allocated(), ["vm-1"]);
    assert_eq!(executor.commands().len(), 12);
    assert_eq!(executor.vms(), BTreeSet::from(["vm-1".to_owned()]));
    assert!(result.steps.iter().all(|step| step.is_success()));
}
