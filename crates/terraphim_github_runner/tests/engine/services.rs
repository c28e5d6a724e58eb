//! What jobs may ask the world around them for. The services here are a double: the real ones are the program's.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use indexmap::IndexMap;
use terraphim_github_runner::action::ActionReference;
use terraphim_github_runner::engine::{
    JobAccess, JobIdentity, JobServices, RunConclusion, Secret, plan_workflow,
};
use terraphim_github_runner::{GitHubRunnerError, Result};

use crate::directories::load;
use crate::world::World;

/// Notes who asked and what was closed.
#[derive(Default)]
struct Noting {
    opened: Mutex<Vec<JobIdentity>>,
    closed: Arc<Mutex<Vec<String>>>,
    fails: bool,
}

struct Closing(Arc<Mutex<Vec<String>>>, String);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(std::mem::take(&mut self.1));
    }
}

#[async_trait]
impl JobServices for Noting {
    async fn open(&self, job: &JobIdentity) -> Result<JobAccess> {
        if self.fails {
            return Err(GitHubRunnerError::failed("open services", "there are none"));
        }
        self.opened.lock().unwrap().push(job.clone());
        let one = |name: &str, value: &str| IndexMap::from([(name.to_owned(), value.to_owned())]);
        Ok(JobAccess {
            actions: one("ACTIONS_RUNTIME_TOKEN", "a-runtime-token"),
            steps: one("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "an-identity-token"),
            secrets: vec![Secret::from("an-identity-token")],
            guard: Some(Box::new(Closing(Arc::clone(&self.closed), job.job.to_string()))),
        })
    }
}

const WORKFLOW: &str = "on: push
jobs:
  plain:
    runs-on: linux
    steps: [run: 'env | grep ^ACTIONS_ || echo none']
  proving:
    runs-on: linux
    permissions: {id-token: write}
    steps:
      - run: 'env | grep ^ACTIONS_'
      - run: 'test ${#ACTIONS_ID_TOKEN_REQUEST_TOKEN} = 17'
";

#[tokio::test(flavor = "multi_thread")]
async fn steps_see_what_their_permissions_allow_and_never_the_runtime_token() {
    let mut world = World::new();
    let services = Arc::new(Noting::default());
    world.inputs.services = Some(Arc::clone(&services) as _);
    world.inputs.token = Secret::from("a-github-token");
    let report = world.run(WORKFLOW).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    let output = world.recorder.output();
    assert!(output.contains("none") && output.contains("ACTIONS_ID_TOKEN_REQUEST_TOKEN=***"), "{output}");
    assert!(!world.recorder.everything().contains("RUNTIME_TOKEN"), "{output}");
    let opened = services.opened.lock().unwrap();
    let [job] = &opened[..] else { panic!("{opened:?}") };
    assert_eq!((job.job.to_string().as_str(), job.github("sha")), ("proving", &*world.inputs.sha));
    assert_eq!((job.github("job"), job.github("token")), ("proving", ""));
    assert!(job.may_request_id_token && !job.is_from_outside);
    assert_eq!(*services.closed.lock().unwrap(), ["proving"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_from_outside_proves_nothing() {
    let mut world = World::new();
    let services = Arc::new(Noting::default());
    world.inputs.services = Some(Arc::clone(&services) as _);
    world.inputs.event_name = "pull_request".to_owned();
    world.inputs.event =
        serde_json::json!({"pull_request": {"head": {"repo": {"full_name": "mallory/rocket"}}}});
    let workflow = "on: pull_request
permissions: write-all
jobs:
  a: {runs-on: linux, steps: [run: '! env | grep ^ACTIONS_']}
";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    assert!(services.opened.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_fail_are_a_fault_of_the_infrastructure() {
    let mut world = World::new();
    world.inputs.services = Some(Arc::new(Noting { fails: true, ..Noting::default() }));
    let error = world.run(WORKFLOW).await.unwrap_err();
    assert!(format!("{error:?}").contains("open services"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_get_the_runtime_token_and_the_steps_in_them_do_not() {
    let mut world = World::new();
    let services = Arc::new(Noting::default());
    world.inputs.services = Some(Arc::clone(&services) as _);
    let files = world.directory.path().join("files/both/node");
    std::fs::create_dir_all(&files).unwrap();
    let steps = "[{uses: ./both/node}, {shell: sh, run: 'env | grep RUNTIME || echo none in the step'}]";
    let composite = format!("runs: {{using: composite, steps: {steps}}}\n");
    std::fs::write(files.join("../action.yml"), composite).unwrap();
    std::fs::write(files.join("action.yml"), "runs: {using: node20, main: main.js}\n").unwrap();
    std::fs::write(files.join("main.js"), "console.log(process.env.ACTIONS_RUNTIME_TOKEN);\n").unwrap();
    let files = world.directory.path().join("files");
    let mut world = world.with_files(&files);
    let workflow = "on: push\njobs:\n  a: {runs-on: linux, steps: [uses: ./both]}\n";
    let report = world.run(workflow).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());
    let output = world.recorder.output();
    assert!(output.contains("a-runtime-token\n") && output.contains("none in the step\n"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_of_the_workflow_that_it_is_written_in_and_of_the_one_that_was_started() {
    const JOB: &str = "{runs-on: linux, steps: [run: 'true']}";
    let mut world = World::new();
    let services = Arc::new(Noting::default());
    world.inputs.services = Some(Arc::clone(&services) as _);
    let directory = world.directory.path().join("behaviour");
    let write = |path: &str, text: String| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let far = "repositories/acme/flows/v1/.github/workflows";
    write("called/near.yml", format!("on: workflow_call\njobs: {{one: {JOB}}}\n"));
    write(
        &format!("{far}/far.yml"),
        format!("on: workflow_call\njobs: {{one: {JOB}, deep: {{uses: ./.github/workflows/deep.yml}}}}\n"),
    );
    write(&format!("{far}/deep.yml"), format!("on: workflow_call\njobs: {{one: {JOB}}}\n"));
    let _server = world.serve(&directory.join("repositories")).await;
    let store = world.inputs.actions.clone().unwrap();
    let commit = store.fetch(&"acme/flows@v1".parse::<ActionReference>().unwrap()).await.unwrap().commit;
    let text = format!(
        "on: push\npermissions: {{id-token: write}}\njobs:\n  own: {JOB}\n  near: {{uses: ./.github/workflows/near.yml}}\n  \
         far: {{uses: acme/flows/.github/workflows/far.yml@v1}}\n"
    );
    let (workflow, called) = load(&directory, &text, Some(&store)).await.unwrap();
    world.inputs.called = called;
    let report = world.run_plan(plan_workflow(&workflow).unwrap()).await.unwrap();
    assert_eq!(report.conclusion, RunConclusion::Success, "{}", world.recorder.everything());

    let opened = services.opened.lock().unwrap();
    let own = "acme/rocket/workflow.yml@refs/heads/main";
    for (job, reference, commit) in [
        ("own", own, &world.inputs.sha),
        ("near.one", "acme/rocket/.github/workflows/near.yml@refs/heads/main", &world.inputs.sha),
        ("far.one", "acme/flows/.github/workflows/far.yml@refs/tags/v1", &commit),
        ("far.deep.one", "acme/flows/.github/workflows/deep.yml@refs/tags/v1", &commit),
    ] {
        let of_job = opened.iter().find(|opened| &*opened.job.0 == job);
        let of_job = of_job.unwrap_or_else(|| panic!("no {job} in {opened:?}"));
        assert_eq!(
            (of_job.workflow.reference.as_str(), &of_job.workflow.commit),
            (reference, commit),
            "{job}"
        );
        assert_eq!((of_job.github("workflow_ref"), of_job.github("workflow_sha")), (own, &*world.inputs.sha));
    }
}
