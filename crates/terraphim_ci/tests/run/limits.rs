//! `timeout-minutes` in a real VM. A minute is the shortest limit that a workflow can have, so these runs are started by
//! the engine itself, with a shorter minute: it is the one thing about them that `tci run` does not have.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::{
    LocalCommandExecutor, LocalVmProvider, RepositoryInfo, SessionManager, SessionManagerConfig,
    engine::{
        Conclusion, EmptyWorkspace, JobReport, Layout, RunConclusion, RunEvent, RunInputs, RunObserver,
        Timing, plan_workflow, run,
    },
};
use terraphim_vm::{Host, Network, Paths, VmSpec};
use tokio_util::sync::CancellationToken;

use crate::host::World;

const LIMITS: &str = r#"
on: push
jobs:
  step:
    runs-on: ubuntu-latest
    steps:
      - timeout-minutes: 1
        run: sleep 600
      - if: failure()
        run: echo "after the step"
  job:
    runs-on: ubuntu-latest
    timeout-minutes: 1
    steps:
      - run: sleep 600
      - run: echo "never printed"
      - if: always()
        run: echo "after the job"
"#;

/// Long enough for a step to begin in an emulated guest on a busy machine, which takes a second or two.
const MINUTE: Duration = Duration::from_secs(8);

struct Nobody;

#[async_trait]
impl RunObserver for Nobody {
    async fn observe(&self, _event: &RunEvent) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_time_end_steps_and_jobs() {
    let world = World::new();
    let paths = Paths::from_parts(world.data(), world.path().join("run/tci/limits"));
    let host = Host::open(paths).unwrap().with_supervisor_program(env!("CARGO_BIN_EXE_tci").into());
    let spec =
        VmSpec { image: "busybox".to_owned(), memory_mib: 256, network: Network::None, ..VmSpec::default() };
    let provider = LocalVmProvider::new(host.clone(), BTreeMap::from([("default".to_owned(), spec)]));
    let config = SessionManagerConfig {
        default_vm_type: "default".to_owned(),
        completed_linger: Duration::ZERO,
        ..SessionManagerConfig::default()
    };
    let sessions = SessionManager::with_provider(Arc::new(provider), config);
    let plan = plan_workflow(&Workflow::parse(LIMITS, "limits.yml").unwrap()).unwrap();
    let repository =
        RepositoryInfo { full_name: "acme/rocket".to_owned(), clone_url: None, default_branch: None };
    let mut inputs = RunInputs::new("push", repository, Arc::new(EmptyWorkspace));
    inputs.layout = Layout { home: "/root".to_owned(), user: Some("root".to_owned()), ..Layout::default() };
    inputs.vm_types.default = "default".to_owned();
    // Both jobs at the same time.
    inputs.parallelism = 2;
    inputs.timing = Timing { minute: MINUTE, ..Timing::default() };
    let executor = Arc::new(LocalCommandExecutor::new(host).with_user(Some("root".to_owned())));
    let report = run(plan, inputs, &sessions, executor, Arc::new(Nobody), CancellationToken::new()).await;
    sessions.shutdown().await.unwrap();
    let report = report.unwrap();
    let of = |job: &JobReport| {
        let steps: Vec<Conclusion> = job.steps.iter().map(|step| step.conclusion).collect();
        (job.conclusion, steps)
    };
    use Conclusion::{Cancelled, Failure, Skipped, Success};
    assert_eq!(of(&report.jobs[0]), (Failure, vec![Failure, Success]), "{report:#?}");
    assert_eq!(of(&report.jobs[1]), (Cancelled, vec![Cancelled, Skipped, Success]), "{report:#?}");
    let told = |words: &str| format!("{report:?}").contains(words);
    assert!(told("timeout-minutes") && told("ran longer than its limit"), "{report:#?}");
    assert_eq!(report.conclusion, RunConclusion::Failure);
}
