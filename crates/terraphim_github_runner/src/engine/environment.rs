//! What a job has of its environment and its permissions: secrets, an address, the token.

use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Value};
use terraphim_actions::resolve::Environment;
use terraphim_actions::workflow::Level;

use super::event::AnnotationLevel;
use super::inputs::{EnvironmentSettings, Secret};
use super::job::Job;
use super::plan::PlannedJob;
use super::report::EnvironmentReport;
use super::shared::Shared;
use crate::error::{GitHubRunnerError, Result};

/// The context `secrets` of a job: those of its environment are the strongest.
pub(super) fn secrets(shared: &Shared, job: &PlannedJob, environment: Option<&Environment>) -> Value {
    let mut secrets = match &shared.contexts.secrets {
        Value::Obj(secrets) => Object::clone(secrets),
        _ => Object::new(),
    };
    let own = environment.and_then(|environment| settings(shared, environment));
    for (name, secret) in own.map(|own| &own.secrets).into_iter().flatten() {
        secrets.insert(name, secret.expose());
    }
    if has_no_permission(job) {
        secrets.insert("GITHUB_TOKEN", "");
    }
    secrets.into()
}

fn settings<'a>(shared: &'a Shared, environment: &Environment) -> Option<&'a EnvironmentSettings> {
    shared.inputs.environments.get(&environment.name.to_lowercase())
}

/// Whether `permissions` gives nothing at all. The token of such a job can do nothing, and ours cannot be narrowed: the
/// job gets none.
pub(super) fn has_no_permission(job: &PlannedJob) -> bool {
    let is_nothing = |(_, level)| level == Level::None;
    job.permissions.as_ref().is_some_and(|permissions| permissions.granted().iter().all(is_nothing))
}

/// `permissions` as they are reported.
pub(super) fn permissions(job: &PlannedJob) -> Option<IndexMap<&'static str, &'static str>> {
    let granted = job.permissions.as_ref()?.granted();
    let something = granted.iter().filter(|(_, level)| *level != Level::None);
    Some(something.map(|(scope, level)| (scope, level.name())).collect())
}

impl Job {
    /// Hides the secrets of the job's environment.
    ///
    /// # Errors
    /// They cannot be hidden.
    pub(super) fn hide_environment(&self) -> Result<()> {
        let environment = self.ready.environment.as_ref();
        let Some(own) = environment.and_then(|it| settings(&self.shared, it)) else { return Ok(()) };
        let values = own.secrets.values().map(Secret::expose);
        let values: Vec<&str> = values.filter(|value| !value.trim().is_empty()).collect();
        if values.is_empty() {
            return Ok(());
        }
        let failed = |error| GitHubRunnerError::failed("hide the secrets of the environment", error);
        self.masks.add_all(values).map_err(failed)
    }

    /// The environment with its address, which sees what the steps gave. An address that may hold a secret is left out.
    pub(super) async fn environment_report(&mut self) -> Result<Option<EnvironmentReport>> {
        let Some(environment) = self.ready.environment.clone() else { return Ok(None) };
        let name = self.masks.mask(&environment.name);
        let Some(template) = &environment.url else { return Ok(Some(EnvironmentReport { name, url: None })) };
        let contexts = self.contexts(&self.env, &self.github);
        let url = match self.evaluate(&contexts, |scope| template.text_value(scope)).await? {
            Ok(url) if self.masks.finds(&url) => {
                let text = "The address of the environment may hold a secret and is left out.";
                self.annotate(AnnotationLevel::Warning, text.to_owned()).await;
                None
            }
            Ok(url) => Some(url).filter(|url| !url.is_empty()),
            Err(error) => {
                let text = self.shared.plan.describe(&error);
                self.annotate(AnnotationLevel::Warning, text).await;
                None
            }
        };
        Ok(Some(EnvironmentReport { name, url }))
    }
}
