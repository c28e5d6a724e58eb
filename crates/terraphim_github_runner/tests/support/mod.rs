//! Doubles that the tests of sessions and workflows share.
#![expect(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use terraphim_github_runner::{
    GitHubEvent, GitHubEventType, GitHubRunnerError, ParsedWorkflow, RepositoryInfo, Result, SessionManager,
    SessionManagerConfig, VmProvider, WorkflowContext, WorkflowStep,
};

/// A provider that knows which VMs live, and misbehaves on request.
pub(crate) struct Provider {
    next: AtomicUsize,
    state: Mutex<State>,
    pub(crate) behaviour: Box<dyn Fn(Call) -> Behaviour + Send + Sync>,
}

#[derive(Default)]
struct State {
    live: BTreeSet<String>,
    most: usize,
    allocations: usize,
    releases: usize,
    double_releases: usize,
}

/// A call of the provider, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Allocate(usize),
    Release(usize),
}

/// What the provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Work(Duration),
    Fail,
    Panic,
}

impl Provider {
    pub(crate) fn new(behaviour: impl Fn(Call) -> Behaviour + Send + Sync + 'static) -> Arc<Provider> {
        Arc::new(Provider {
            next: AtomicUsize::new(0),
            state: Mutex::default(),
            behaviour: Box::new(behaviour),
        })
    }

    /// One that works at once.
    pub(crate) fn quick() -> Arc<Provider> {
        Provider::new(|_| Behaviour::Work(Duration::ZERO))
    }

    pub(crate) fn live(&self) -> usize {
        self.state.lock().unwrap().live.len()
    }

    /// The most VMs that lived at the same time.
    pub(crate) fn most(&self) -> usize {
        self.state.lock().unwrap().most
    }

    pub(crate) fn allocations(&self) -> usize {
        self.state.lock().unwrap().allocations
    }

    pub(crate) fn releases(&self) -> usize {
        self.state.lock().unwrap().releases
    }

    /// Every VM was given back, and only once.
    pub(crate) fn assert_clean(&self) {
        let state = self.state.lock().unwrap();
        assert_eq!(state.live, BTreeSet::new(), "VMs are left");
        assert_eq!(state.allocations, state.releases);
        assert_eq!(state.double_releases, 0);
    }

    async fn behave(&self, call: Call) -> Result<()> {
        match (self.behaviour)(call) {
            Behaviour::Work(time) => {
                // Also without time something else gets its turn, as with any real provider.
                if time.is_zero() {
                    tokio::task::yield_now().await
                } else {
                    tokio::time::sleep(time).await
                }
                Ok(())
            }
            Behaviour::Fail => Err(GitHubRunnerError::failed("reach the host", "it is down")),
            Behaviour::Panic => panic!("the provider panics in {call:?}"),
        }
    }
}

#[async_trait]
impl VmProvider for Provider {
    async fn allocate(&self, _vm_type: &str) -> Result<(String, Duration)> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.behave(Call::Allocate(number)).await?;
        let mut state = self.state.lock().unwrap();
        state.allocations += 1;
        state.live.insert(number.to_string());
        state.most = state.most.max(state.live.len());
        Ok((number.to_string(), Duration::from_millis(1)))
    }

    async fn release(&self, vm_id: &str) -> Result<()> {
        self.behave(Call::Release(vm_id.parse().unwrap())).await?;
        let mut state = self.state.lock().unwrap();
        if state.live.remove(vm_id) {
            state.releases += 1;
        } else {
            state.double_releases += 1;
        }
        Ok(())
    }
}

pub(crate) fn config(limit: usize) -> SessionManagerConfig {
    SessionManagerConfig { max_concurrent_sessions: limit, ..SessionManagerConfig::default() }
}

pub(crate) fn manager(provider: &Arc<Provider>, config: SessionManagerConfig) -> Arc<SessionManager> {
    Arc::new(SessionManager::with_provider(Arc::clone(provider) as _, config))
}

pub(crate) fn context() -> WorkflowContext {
    WorkflowContext::new(GitHubEvent {
        event_type: GitHubEventType::Push,
        action: None,
        repository: RepositoryInfo {
            full_name: "octo/hello".to_owned(),
            clone_url: None,
            default_branch: None,
        },
        pull_request: None,
        git_ref: None,
        sha: None,
        extra: HashMap::new(),
    })
}

pub(crate) fn step(command: &str) -> WorkflowStep {
    WorkflowStep {
        name: command.to_owned(),
        command: command.to_owned(),
        working_dir: "/workspace".to_owned(),
        continue_on_error: false,
        timeout_seconds: 60,
    }
}

pub(crate) fn workflow(steps: &[&str]) -> ParsedWorkflow {
    ParsedWorkflow {
        name: "CI".to_owned(),
        trigger: "push".to_owned(),
        environment: HashMap::new(),
        setup_commands: vec!["setup".to_owned()],
        steps: steps.iter().map(|command| step(command)).collect(),
        cleanup_commands: vec!["cleanup".to_owned()],
        cache_paths: vec![],
    }
}

/// Numbers that look random and are the same every time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
