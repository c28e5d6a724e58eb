//! What all jobs of one workflow share.

use std::sync::Arc;

use terraphim_actions::expr::{Object, Value};
use terraphim_actions::mask::{MaskError, Masker};

use super::action::Remotes;
use super::call::Caller;
use super::contexts::RunContexts;
use super::event::{RunEvent, RunObserver};
use super::expand::ReadyJob;
use super::inputs::RunInputs;
use super::outputs::OutputSize;
use super::plan::{Plan, PlannedJob};
use crate::workflow::CommandExecutor;

/// What all jobs of one workflow share.
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) inputs: Arc<RunInputs>,
    pub(super) contexts: RunContexts,
    pub(super) executor: Arc<dyn CommandExecutor>,
    pub(super) observer: Arc<dyn RunObserver>,
    /// Knows the secrets that the run was given. Each job starts with a copy.
    pub(super) masker: Masker,
    /// Who called the workflow that the jobs are in.
    pub(super) caller: Caller,
    /// The actions of other repositories.
    pub(super) remotes: Arc<Remotes>,
    /// How much the outputs of all jobs of the run are.
    pub(super) output_size: Arc<OutputSize>,
}

impl Shared {
    pub(super) fn new(
        plan: Plan,
        inputs: RunInputs,
        executor: Arc<dyn CommandExecutor>,
        observer: Arc<dyn RunObserver>,
    ) -> Result<Shared, MaskError> {
        let contexts = RunContexts::new(&plan, &inputs);
        let mut masker = Masker::new();
        let secrets = inputs.secrets.values().chain([&inputs.token]).map(|secret| secret.expose());
        let secrets: Vec<&str> = secrets.filter(|secret| !secret.trim().is_empty()).collect();
        if !secrets.is_empty() {
            masker.add_all(secrets)?;
        }
        Ok(Shared {
            plan: Arc::new(plan),
            inputs: Arc::new(inputs),
            contexts,
            executor,
            observer,
            masker,
            caller: Caller::default(),
            remotes: Arc::default(),
            output_size: Arc::default(),
        })
    }

    pub(super) async fn observe(&self, event: &RunEvent) {
        self.observer.observe(event).await;
    }

    /// The workspace, as a job sees it.
    pub(super) fn workspace(&self) -> String {
        self.inputs.layout.workspace_of(self.inputs.repository_name())
    }

    /// Where the payload of the event is, as a job sees it.
    pub(super) fn event_path(&self) -> String {
        format!("{}/_github_workflow/event.json", self.inputs.layout.temp())
    }

    /// Whether `::debug::` lines are shown.
    pub(super) fn shows_debug(&self) -> bool {
        let name = "ACTIONS_STEP_DEBUG";
        let secret = self.inputs.secrets.get(name).map(|secret| secret.expose());
        let value = secret.or(self.inputs.vars.get(name).map(String::as_str));
        // GitHub's runner reads it with .NET's `bool.TryParse`.
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// The context `github` of a job.
    pub(super) fn job_github(&self, job: &PlannedJob) -> Object {
        let mut github = match self.contexts.open.get("github") {
            Some(Value::Obj(github)) => Object::clone(github),
            _ => Object::new(),
        };
        github.insert("job", &*job.id);
        github.insert("workspace", self.workspace());
        github.insert("event_path", self.event_path());
        github
    }

    /// The context `runner`.
    pub(super) fn runner(&self, job: &ReadyJob) -> Object {
        let layout = &self.inputs.layout;
        let mut runner: Object = [
            ("os", "Linux".to_owned()),
            ("arch", "X64".to_owned()),
            ("name", format!("tci-{}", job.vm_type)),
            ("environment", "self-hosted".to_owned()),
            ("temp", layout.temp()),
            ("tool_cache", layout.tool_cache.clone()),
            ("workspace", layout.root.clone()),
        ]
        .into_iter()
        .collect();
        if self.shows_debug() {
            runner.insert("debug", "1");
        }
        runner
    }
}
