//! What a job may ask the world around it for: artifacts, caches, tokens that prove which job it is.
//!
//! The engine does not know how these are served. It opens them for a job when something of the job needs them, and
//! closes them when the job ends.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use terraphim_actions::expr::Value;
use uuid::Uuid;

use super::event::JobKey;
use super::inputs::Secret;
use super::job::Job;
use crate::action::WorkflowPlace;
use crate::error::{GitHubRunnerError, Result};

/// The name of the VM's loopback interface under which a job's processes are to reach its services. Containers know it as
/// the VM that they are in.
pub const SERVICES_HOST: &str = "results.localhost";

/// Opens the services for one job.
#[async_trait]
pub trait JobServices: Send + Sync {
    /// Makes the services reachable for the processes of this job.
    ///
    /// Called at most once for a job, and only when a step needs them: before its first action, or before its first
    /// step of any kind if it may ask for an identity token.
    ///
    /// # Errors
    /// They cannot be served or reached from the job's VM. The run ends as an infrastructure fault.
    async fn open(&self, job: &JobIdentity) -> Result<JobAccess>;
}

/// Which job it is, as the services know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobIdentity {
    /// The run.
    pub run_id: Uuid,
    /// The job, with its place in the matrix.
    pub job: JobKey,
    /// The VM that its processes run in.
    pub vm_id: String,
    /// The texts of the context `github`, by name in lower case; without `token`.
    pub github: IndexMap<String, String>,
    /// The workflow file that the job is written in. That of the workflow which was started, by way of others or not, is
    /// in `github`.
    pub workflow: WorkflowPlace,
    /// The repository's default branch, if it is known.
    pub default_branch: Option<String>,
    /// The name of the environment that the job is for.
    pub environment: Option<String>,
    /// The run is for a pull request from another repository: its code is not the repository's own.
    pub is_from_outside: bool,
    /// `permissions` gives `id-token: write`, and the code is the repository's own.
    pub may_request_id_token: bool,
}

impl JobIdentity {
    /// A text of the context `github`; empty if there is none of that name.
    #[must_use]
    pub fn github(&self, name: &str) -> &str {
        self.github.get(name).map_or("", String::as_str)
    }
}

/// How the processes of a job reach the services.
#[derive(Default)]
pub struct JobAccess {
    /// Variables for the processes of actions, over everything else of that name. `run` steps never see them.
    pub actions: IndexMap<String, String>,
    /// Variables for every step, `run` steps too.
    pub steps: IndexMap<String, String>,
    /// What must not be seen in output: tokens.
    pub secrets: Vec<Secret>,
    /// Dropped when the job ends, which closes the services for it.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for JobAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |variables: &IndexMap<String, String>| variables.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("JobAccess")
            .field("actions", &names(&self.actions))
            .field("steps", &names(&self.steps))
            .finish_non_exhaustive()
    }
}

/// Whose process gets the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consumer {
    /// A `run` step.
    Script,
    /// An action. GitHub: only actions see the runtime token.
    Action,
}

impl Job {
    /// The variables with which a process of this job reaches the services; the services are opened on the first ask.
    ///
    /// # Errors
    /// See [`JobServices::open`].
    pub(super) async fn service_variables(&mut self, consumer: Consumer) -> Result<IndexMap<String, String>> {
        let Some(services) = self.shared.inputs.services.clone() else { return Ok(IndexMap::new()) };
        let shared_access = Arc::clone(&self.access);
        let mut access = shared_access.lock().await;
        if access.is_none() {
            let identity = self.identity();
            if consumer == Consumer::Script && !identity.may_request_id_token {
                return Ok(IndexMap::new());
            }
            let opened = services.open(&identity).await?;
            let secrets: Vec<&str> = opened.secrets.iter().map(Secret::expose).collect();
            if !secrets.is_empty() {
                let failed =
                    |error| GitHubRunnerError::failed("hide the tokens of the job's services", error);
                self.masks.add_all(secrets).map_err(failed)?;
            }
            *access = Some(opened);
        }
        let mut variables = IndexMap::new();
        if let Some(access) = &*access {
            variables.clone_from(&access.steps);
            if consumer == Consumer::Action {
                variables.extend(access.actions.clone());
            }
        }
        Ok(variables)
    }

    fn identity(&self) -> JobIdentity {
        let inputs = &self.shared.inputs;
        let text = |(name, value): (&str, &Value)| match value {
            Value::Str(_) if name != "token" => Some((name.to_lowercase(), value.to_text().into_owned())),
            _ => None,
        };
        let is_from_outside =
            is_from_outside(&inputs.event_name, &inputs.event, &inputs.repository.full_name);
        JobIdentity {
            run_id: inputs.run_id,
            job: self.ready.key.clone(),
            vm_id: self.place.session().vm_id.clone(),
            github: self.github.iter().filter_map(text).collect(),
            workflow: self.workflow_place(),
            default_branch: inputs.repository.default_branch.clone(),
            environment: self.ready.environment.as_ref().map(|environment| environment.name.clone()),
            is_from_outside,
            may_request_id_token: self.planned.may_request_id_token && !is_from_outside,
        }
    }
}

impl Job {
    /// The workflow file that the job is written in. GitHub: docs "OpenID Connect reference", `job_workflow_ref`.
    fn workflow_place(&self) -> WorkflowPlace {
        let inputs = &self.shared.inputs;
        let known = |name: &str| self.github.get(name).map(|value| value.to_text().into_owned());
        let commit = known("workflow_sha").unwrap_or_default();
        let name = self.shared.plan.files.get(self.planned.file).filter(|_| self.planned.file > 0);
        let reference = match name {
            None => known("workflow_ref").unwrap_or_default(),
            Some(name) => match (inputs.called.get(&**name), name.strip_prefix("./")) {
                (Some(place), _) => return place.clone(),
                (None, Some(path)) => format!("{}/{path}@{}", inputs.repository.full_name, inputs.git_ref),
                // Nobody said which commit it is of, and nothing is made up.
                (None, None) => {
                    return WorkflowPlace { reference: name.to_string(), commit: String::new() };
                }
            },
        };
        WorkflowPlace { reference, commit }
    }
}

/// Whether the run is for a pull request whose branch is in another repository, or in one that is gone.
///
/// `pull_request_target` runs the workflow of the base branch, which is the repository's own.
fn is_from_outside(event_name: &str, event: &serde_json::Value, repository: &str) -> bool {
    let is_of_a_pull_request =
        matches!(event_name, "pull_request" | "pull_request_review" | "pull_request_review_comment");
    let head = event.pointer("/pull_request/head/repo/full_name").and_then(serde_json::Value::as_str);
    is_of_a_pull_request && !head.is_some_and(|head| head.eq_ignore_ascii_case(repository))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_pull_request_of_the_repository_itself_is_from_inside() {
        let of = |repo: serde_json::Value| json!({"pull_request": {"head": {"repo": repo}}});
        let own = of(json!({"full_name": "Acme/Tool"}));
        let fork = of(json!({"full_name": "mallory/tool"}));
        let gone = of(json!(null));
        for (event_name, event, want) in [
            ("pull_request", &own, false),
            ("pull_request", &fork, true),
            ("pull_request", &gone, true),
            ("pull_request", &json!({}), true),
            ("pull_request_review", &fork, true),
            ("pull_request_target", &fork, false),
            ("push", &json!({}), false),
        ] {
            assert_eq!(is_from_outside(event_name, event, "acme/tool"), want, "{event_name} {event}");
        }
    }
}
