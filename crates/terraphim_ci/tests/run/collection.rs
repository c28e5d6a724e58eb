//! Directories of `testdata/workflows` that need no more than their workflow, in one real VM, one after another: to boot one for
//! each of them would take a good part of the time of all tests. That each run of `tci run` has a VM of its own is shown by the
//! other tests.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::{
    Capabilities, CommandExecutor, CommandResult, LeftProcess, LocalCommandExecutor, LocalVmProvider, Mount,
    OutputSink, ProcessOutcome, ProcessSpec, RepositoryInfo, Result, Session, SessionManager,
    SessionManagerConfig, VmProvider,
    engine::{EmptyWorkspace, Groups, Layout, RunEvent, RunInputs, RunObserver, plan_workflow, run},
};
use terraphim_vm::{Host, Network, Paths, VmSpec};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::{expected::compare, host::World};

/// A directory of `testdata/workflows`.
struct Behaviour {
    name: String,
    text: String,
    expected: Value,
}

/// Those that need no more than their workflow; the engine's own tests run the others.
fn behaviours() -> Vec<Behaviour> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/workflows");
    let mut all = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let path = entry.path();
        if ["run.json", "files", "repositories", "called"].iter().any(|name| path.join(name).exists()) {
            continue;
        }
        let text = fs::read_to_string(path.join("workflow.yml")).unwrap();
        let expected =
            serde_json::from_str(&fs::read_to_string(path.join("expected.json")).unwrap()).unwrap();
        all.push(Behaviour { name: entry.file_name().to_string_lossy().into_owned(), text, expected });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(all.len() > 10, "the behaviours are there");
    all
}

#[test]
fn every_refused_behaviour_is_refused_before_any_vm_starts() {
    let world = World::new();
    for behaviour in behaviours() {
        let Some(error) = behaviour.expected["error"].as_str() else { continue };
        let path = world.write(&format!("{}.yml", behaviour.name), &behaviour.text);
        world.tell(&["run", path.to_str().unwrap()]).ends(2, &[error]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_behaviour_is_the_same_in_a_vm() {
    let world = World::new();
    let paths = Paths::from_parts(world.data(), world.path().join("run/tci/collection"));
    let host = Host::open(paths).unwrap().with_supervisor_program(env!("CARGO_BIN_EXE_tci").into());
    let spec = VmSpec { network: Network::None, ..VmSpec::default() };
    let real = LocalVmProvider::new(host.clone(), BTreeMap::from([("default".to_owned(), spec)]));
    let (vm, _) = real.allocate("default").await.unwrap();
    let mut problems = Vec::new();
    for (number, behaviour) in behaviours().into_iter().enumerate() {
        if behaviour.expected["error"].is_null() {
            problems.extend(check(&host, &vm, number, &behaviour).await);
        }
    }
    real.release(&vm).await.unwrap();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Runs one in the VM; what is not as expected.
async fn check(host: &Host, vm: &str, number: usize, behaviour: &Behaviour) -> Vec<String> {
    let plan = plan_workflow(&Workflow::parse(&behaviour.text, "workflow.yml").unwrap()).unwrap();
    let repository =
        RepositoryInfo { full_name: "acme/rocket".to_owned(), clone_url: None, default_branch: None };
    let mut inputs = RunInputs::new("push", repository, Arc::new(EmptyWorkspace));
    let scratch = format!("{}/behaviour-{number}", Layout::default().scratch);
    inputs.layout = Layout { scratch, ..Layout::default() };
    inputs.vm_types.default = "default".to_owned();
    inputs.git_ref = "refs/heads/main".to_owned();
    inputs.parallelism = 2;
    inputs.groups = Some(Groups::new(host.paths().data().join("concurrency")));
    let config = SessionManagerConfig {
        default_vm_type: "default".to_owned(),
        completed_linger: Duration::ZERO,
        ..SessionManagerConfig::default()
    };
    let sessions = SessionManager::with_provider(Arc::new(Lent(vm.to_owned())), config);
    let executor = Arc::new(Apart { of: LocalCommandExecutor::new(host.clone()), number });
    let shown = Arc::new(Shown::default());
    let cancel = CancellationToken::new();
    let result = run(plan, inputs, &sessions, executor, Arc::clone(&shown) as _, cancel).await;
    sessions.shutdown().await.unwrap();
    let name = &behaviour.name;
    let report = match result {
        Ok(report) => serde_json::to_value(report).unwrap(),
        Err(error) => return vec![format!("{name}: {error:?}")],
    };
    let (mut problems, shown) = (Vec::new(), shown.0.lock().unwrap().clone());
    compare(name, &behaviour.expected["report"], &report, &mut problems);
    assert_eq!(report["vm_ids"].as_array().unwrap().len(), 1, "{name} has one VM");
    for text in behaviour.expected["lacks"].as_array().into_iter().flatten() {
        let text = text.as_str().unwrap();
        if shown.contains(text) || report.to_string().contains(text) {
            problems.push(format!("{name}: {text} is in the log or the report"));
        }
    }
    if !problems.is_empty() {
        problems.push(format!("the log of {name} was:\n{shown}"));
    }
    problems
}

/// Gives the one VM to every run.
struct Lent(String);

#[async_trait]
impl VmProvider for Lent {
    async fn allocate(&self, _vm_type: &str) -> Result<(String, Duration)> {
        Ok((self.0.clone(), Duration::ZERO))
    }

    async fn release(&self, _vm_id: &str) -> Result<()> {
        Ok(())
    }
}

/// Gives the views of a run names that no other run has: jobs of different files are called the same.
struct Apart {
    of: LocalCommandExecutor,
    number: usize,
}

impl Apart {
    fn view(&self, name: &str) -> String {
        format!("behaviour-{}-{name}", self.number)
    }
}

#[async_trait]
impl CommandExecutor for Apart {
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        timeout: Duration,
        directory: &str,
    ) -> Result<CommandResult> {
        self.of.execute(session, command, timeout, directory).await
    }

    async fn run_process(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        cancel: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        let own = |name: &Option<String>| name.as_deref().map(|name| self.view(name));
        let spec = ProcessSpec { view: own(&spec.view), keep_left: own(&spec.keep_left), ..spec.clone() };
        self.of.run_process(session, &spec, output, cancel).await
    }

    async fn upload(
        &self,
        session: &Session,
        directory: &str,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        self.of.upload(session, directory, tar).await
    }

    async fn create_view(&self, session: &Session, name: &str, mounts: &[Mount]) -> Result<()> {
        self.of.create_view(session, &self.view(name), mounts).await
    }

    async fn end_left(&self, session: &Session, name: &str) -> Result<Vec<LeftProcess>> {
        self.of.end_left(session, &self.view(name)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.of.capabilities()
    }
}

/// What people see of a run.
#[derive(Default)]
struct Shown(Mutex<String>);

#[async_trait]
impl RunObserver for Shown {
    async fn observe(&self, event: &RunEvent) {
        let text = match event {
            RunEvent::Output { text, .. } => String::from_utf8_lossy(text).into_owned(),
            RunEvent::Annotation { annotation, .. } => format!("{annotation:?}\n"),
            RunEvent::GroupStart { name, .. }
            | RunEvent::JobStarted { name, .. }
            | RunEvent::JobSkipped { name, .. }
            | RunEvent::StepStarted { name, .. }
            | RunEvent::StepFinished { name, .. } => format!("{name}\n"),
            RunEvent::Notice { message, .. } => format!("{message}\n"),
            _ => return,
        };
        self.0.lock().unwrap().push_str(&text);
    }
}
