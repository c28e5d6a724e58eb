//! One run and everything that can be seen of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::action::{ActionStore, Source};
use terraphim_github_runner::engine::{
    EmptyWorkspace, EngineError, Groups, Plan, RunEvent, RunInputs, RunObserver, RunReport, Timing,
    WorkspaceSource, plan_workflow, run,
};
use terraphim_github_runner::{RepositoryInfo, SessionManager, SessionManagerConfig, StopLadder};
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::git_server::{GitServer, Habits, make_repositories};
use crate::host::{HostExecutor, Provider};

/// Remembers everything that it is told.
pub(crate) struct Recorder {
    pub(crate) events: Mutex<Vec<RunEvent>>,
    output: watch::Sender<String>,
}

impl Recorder {
    fn new() -> Recorder {
        Recorder { events: Mutex::default(), output: watch::Sender::new(String::new()) }
    }

    /// Everything that was written so far.
    pub(crate) fn output(&self) -> String {
        self.output.borrow().clone()
    }

    /// Returns once the text was written.
    pub(crate) async fn saw(&self, text: &str) {
        self.output.subscribe().wait_for(|output| output.contains(text)).await.unwrap();
    }

    /// Everything that was told, as one text.
    pub(crate) fn everything(&self) -> String {
        self.events.lock().unwrap().iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
    }
}

#[async_trait]
impl RunObserver for Recorder {
    async fn observe(&self, event: &RunEvent) {
        self.events.lock().unwrap().push(event.clone());
        if let RunEvent::Output { text, .. } = event {
            self.output.send_modify(|output| output.push_str(&String::from_utf8_lossy(text)));
        }
    }
}

/// A directory of this machine as the files of the repository.
pub(crate) struct Files(pub(crate) std::path::PathBuf);

#[async_trait]
impl WorkspaceSource for Files {
    async fn tar(&self) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let output = tokio::process::Command::new("tar").arg("-cC").arg(&self.0).arg(".").output().await?;
        Ok(Box::new(std::io::Cursor::new(output.stdout)))
    }
}

pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) executor: Option<HostExecutor>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) inputs: RunInputs,
    pub(crate) cancel: CancellationToken,
}

impl World {
    pub(crate) fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let repository = RepositoryInfo {
            full_name: "acme/rocket".to_owned(),
            clone_url: Some("https://github.com/acme/rocket.git".to_owned()),
            default_branch: Some("main".to_owned()),
        };
        let mut inputs = RunInputs::new("push", repository, Arc::new(EmptyWorkspace));
        inputs.layout = HostExecutor::layout(directory.path());
        inputs.git_ref = "refs/heads/main".to_owned();
        inputs.sha = "0123456789abcdef0123456789abcdef01234567".to_owned();
        inputs.parallelism = 4;
        inputs.groups = Some(Groups::new(directory.path().join("groups")));
        inputs.timing = Timing {
            // A minute that is short, and a ladder that a test can wait for.
            minute: Duration::from_millis(700),
            stop: StopLadder { interrupt: Duration::from_millis(300), terminate: Duration::from_millis(300) },
            ..Timing::default()
        };
        World {
            executor: Some(HostExecutor::new(directory.path())),
            directory,
            provider: Arc::new(Provider::default()),
            recorder: Arc::new(Recorder::new()),
            inputs,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) fn with_files(mut self, files: &Path) -> World {
        self.inputs.workspace = Arc::new(Files(files.to_owned()));
        self
    }

    /// Serves repositories of actions, and takes the actions of the run from there.
    pub(crate) async fn serve(&mut self, repositories: &Path) -> GitServer {
        let made = self.directory.path().join("repositories");
        make_repositories(repositories, &made);
        let server = GitServer::start(&made, Habits::default()).await;
        let store = ActionStore::new(self.directory.path().join("actions"));
        let source = Source::Url(server.url.clone());
        self.inputs.actions = Some(Arc::new(store.with_sources(vec![source])));
        server
    }

    pub(crate) async fn run_plan(&mut self, plan: Plan) -> Result<RunReport, EngineError> {
        std::fs::create_dir_all(self.inputs.layout.workspace_of("rocket")).unwrap();
        let config =
            SessionManagerConfig { completed_linger: Duration::ZERO, ..SessionManagerConfig::default() };
        let sessions = SessionManager::with_provider(Arc::clone(&self.provider) as _, config);
        let executor = Arc::new(self.executor.take().expect("a world runs once"));
        let result = run(
            plan,
            self.inputs.clone(),
            &sessions,
            executor,
            Arc::clone(&self.recorder) as _,
            self.cancel.clone(),
        )
        .await;
        sessions.shutdown().await.unwrap();
        // Whatever happened: what was given was taken back, once.
        let count = |list: &Mutex<Vec<String>>| {
            let mut counts = BTreeMap::new();
            list.lock().unwrap().iter().for_each(|id| *counts.entry(id.clone()).or_insert(0) += 1);
            counts
        };
        assert_eq!(count(&self.provider.given), count(&self.provider.taken));
        result
    }

    pub(crate) async fn run(&mut self, workflow: &str) -> Result<RunReport, EngineError> {
        let plan = plan_workflow(&parse(workflow))?;
        self.run_plan(plan).await
    }
}

pub(crate) fn parse(text: &str) -> Workflow {
    Workflow::parse(text, ".github/workflows/test.yml")
        .unwrap_or_else(|errors| panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>()))
}
