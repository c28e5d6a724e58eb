//! From what the schema has let through to the model. What the schema cannot say is checked here:
//! ids, needs, conditions, the form of `uses`, containers, limits of names.

use super::condition::{self, Kind as IfKind};
use super::ids::Ids;
use super::model::{Call, CallSecrets, CalledWorkflow, Job, Workflow};
use super::needs::{self, NeedsError};
use super::options::Options;
use super::permissions::{self, Permissions};
use super::{checks, steps, triggers};
use crate::span::Spanned;
use crate::template::{Limits, Node, Template};
use indexmap::IndexMap;

/// A value of a kind that the model has no place for. It ends the conversion.
pub(super) struct Fail {
    file: usize,
    span: crate::span::Span,
    message: String,
}

impl Fail {
    pub(super) fn new(template: &Template, message: impl Into<String>) -> Self {
        Self { file: template.file, span: template.span, message: message.into() }
    }

    pub(super) fn unexpected(template: &Template, what: &str) -> Self {
        let kind = template.kind_name();
        Self::new(template, format!("Unexpected type '{kind}Token' encountered while reading '{what}'."))
    }

    /// Adds it to the errors.
    pub(super) fn report(self, limits: &mut Limits) {
        limits.error(self.file, self.span, self.message);
    }
}

/// The state of a conversion.
pub(super) struct Converter<'a> {
    pub(super) limits: &'a mut Limits,
    pub(super) options: &'a Options,
    /// Jobs so far, in all files.
    pub(super) job_count: usize,
}

impl Converter<'_> {
    /// The workflow of `root`.
    pub(super) fn workflow(&mut self, root: &Template) -> Result<Workflow, Fail> {
        let mut workflow = Workflow {
            files: Vec::new(),
            name: spanned(root.get("name")),
            description: spanned(root.get("description")),
            run_name: root.get("run-name").cloned(),
            on: triggers::Triggers::default(),
            env: None,
            defaults: None,
            permissions: None,
            concurrency: None,
            jobs: IndexMap::new(),
            warnings: Vec::new(),
        };
        for (key, value) in root.entries() {
            match key.as_str().unwrap_or_default() {
                "on" => {
                    workflow.on = triggers::convert(value)?;
                    triggers::check_inputs(self.limits, value);
                }
                "env" => workflow.env = Some(value.clone()),
                "defaults" => workflow.defaults = Some(value.clone()),
                "concurrency" => {
                    checks::concurrency(self.limits, value);
                    workflow.concurrency = Some(value.clone());
                }
                "permissions" => workflow.permissions = Some(permissions::convert(value)?),
                "jobs" => workflow.jobs = self.jobs(value)?,
                _ => {}
            }
        }
        if workflow.on.events.is_empty() && self.limits.errors.is_empty() {
            let place = root.get("on").unwrap_or(root);
            let hint = "Say which events start it, for example `on: push`".to_owned();
            self.limits.error_with(place.file, place.span, "No event triggers defined in `on`", Some(hint));
        }
        hand_down(&mut workflow.jobs, workflow.permissions.as_ref());
        Ok(workflow)
    }

    /// A workflow as the call `call` of the job `id` sees it. `granted` is what the caller may do.
    pub(super) fn called(
        &mut self,
        root: &Template,
        job: &Job,
        call: &Call,
        max: &Permissions,
    ) -> Result<CalledWorkflow, Fail> {
        let mut called = CalledWorkflow {
            inputs: None,
            secrets: None,
            outputs: None,
            env: None,
            defaults: None,
            concurrency: None,
            permissions: job.permissions.clone(),
            jobs: IndexMap::new(),
        };
        for (key, value) in root.entries() {
            match key.as_str().unwrap_or_default() {
                "on" => super::call::trigger(self, value, call, &mut called)?,
                "env" => called.env = Some(value.clone()),
                "defaults" => called.defaults = Some(value.clone()),
                "concurrency" => {
                    checks::concurrency(self.limits, value);
                    called.concurrency = Some(value.clone());
                }
                "permissions" => {
                    let asked = permissions::convert(value)?;
                    super::call::permissions(self, job, call, None, &asked, max);
                    called.permissions = Some(asked);
                }
                "jobs" => called.jobs = self.jobs(value)?,
                _ => {}
            }
        }
        for nested in called.jobs.values() {
            if let Some(asked) = &nested.permissions {
                super::call::permissions(self, job, call, Some(nested), asked, max);
            }
        }
        hand_down(&mut called.jobs, called.permissions.as_ref());
        Ok(called)
    }

    fn jobs(&mut self, template: &Template) -> Result<IndexMap<String, Job>, Fail> {
        let mut jobs = IndexMap::new();
        for (id, value) in template.entries() {
            self.count_job(id);
            let name = id.as_str().unwrap_or_default();
            if let Err(message) = Ids::default().add_written(name) {
                self.limits.error_at(id, message);
            }
            jobs.insert(name.to_owned(), self.job(id, value)?);
        }
        if !self.limits.errors.is_empty() {
            return Ok(jobs);
        }
        if jobs.is_empty() {
            self.limits.error_at(template, NeedsError::NoStart.to_string());
        }
        for error in needs::check(&jobs) {
            let span = match &error {
                NeedsError::NoStart => template.span,
                NeedsError::Unknown { need, .. } | NeedsError::Cycle { need, .. } => need.span,
            };
            self.limits.error(template.file, span, error.to_string());
        }
        if self.limits.errors.is_empty() {
            self.check_steps(&jobs);
        }
        Ok(jobs)
    }

    /// A job does something. The schema asks for `runs-on` or `uses` only.
    fn check_steps(&mut self, jobs: &IndexMap<String, Job>) {
        let idle: Vec<&Job> =
            jobs.values().filter(|job| job.steps.is_empty() && job.call.is_none()).collect();
        let Some(first) = idle.first() else { return };
        let ids: Vec<&str> = idle.iter().map(|job| job.id.as_str()).collect();
        let message = format!(
            "No steps defined in `steps` and no workflow called in `uses` for the following jobs: {}",
            ids.join(", ")
        );
        let hint = "Give each of them `steps` with a `run` or `uses`, or remove it".to_owned();
        self.limits.error_with(first.file, first.id.span, message, Some(hint));
    }

    fn count_job(&mut self, id: &Template) {
        let max = self.options.max_jobs;
        self.job_count += 1;
        if max > 0 && self.job_count == max + 1 {
            self.limits.error_at(id, format!("The workflow may not contain more than {max} jobs"));
        }
    }

    fn job(&mut self, id: &Template, template: &Template) -> Result<Job, Fail> {
        let mut job = empty_job(id);
        let mut uses = None;
        let mut with = None;
        let mut secrets = CallSecrets::None;
        for (key, value) in template.entries() {
            let slot = match key.as_str().unwrap_or_default() {
                "if" => {
                    job.condition = condition::convert(self.limits, Some(value), IfKind::Job);
                    continue;
                }
                "name" => {
                    if value.as_str() != Some("") {
                        job.name = value.clone();
                    }
                    continue;
                }
                "needs" => {
                    job.needs = texts(value)?;
                    continue;
                }
                "permissions" => {
                    job.permissions = Some(permissions::convert(value)?);
                    continue;
                }
                "steps" => {
                    job.steps = steps::convert(self, value)?;
                    continue;
                }
                "uses" => {
                    uses = spanned(Some(value));
                    continue;
                }
                "with" => {
                    with = Some(value.clone());
                    continue;
                }
                "secrets" => {
                    secrets = match &value.node {
                        Node::Str(_) => CallSecrets::Inherit,
                        _ => CallSecrets::Map(value.clone()),
                    };
                    continue;
                }
                "snapshot" => {
                    checks::snapshot(self.limits, value, self.options.allow_snapshot, key);
                    &mut job.snapshot
                }
                name => match plain_slot(&mut job, name) {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            *slot = Some(value.clone());
            checks::job_key(self, &job.id, key.as_str().unwrap_or_default(), value)?;
        }
        job.call = uses.map(|uses| Call { uses, file: template.file, with, secrets, workflow: None });
        Ok(job)
    }
}

/// The keys of a job that are kept as they are.
fn plain_slot<'a>(job: &'a mut Job, key: &str) -> Option<&'a mut Option<Template>> {
    Some(match key {
        "strategy" => &mut job.strategy,
        "concurrency" => &mut job.concurrency,
        "runs-on" => &mut job.runs_on,
        "env" => &mut job.env,
        "defaults" => &mut job.defaults,
        "outputs" => &mut job.outputs,
        "timeout-minutes" => &mut job.timeout_minutes,
        "cancel-timeout-minutes" => &mut job.cancel_timeout_minutes,
        "continue-on-error" => &mut job.continue_on_error,
        "container" => &mut job.container,
        "services" => &mut job.services,
        "environment" => &mut job.environment,
        _ => return None,
    })
}

fn empty_job(id: &Template) -> Job {
    Job {
        id: Spanned::new(id.as_str().unwrap_or_default().to_owned(), id.span),
        file: id.file,
        name: id.clone(),
        needs: Vec::new(),
        condition: condition::success(None),
        strategy: None,
        permissions: None,
        concurrency: None,
        runs_on: None,
        env: None,
        defaults: None,
        outputs: None,
        timeout_minutes: None,
        cancel_timeout_minutes: None,
        continue_on_error: None,
        container: None,
        services: None,
        environment: None,
        snapshot: None,
        steps: Vec::new(),
        call: None,
    }
}

/// Jobs without permissions of their own have those of the workflow.
fn hand_down(jobs: &mut IndexMap<String, Job>, permissions: Option<&Permissions>) {
    for job in jobs.values_mut().filter(|job| job.permissions.is_none()) {
        job.permissions = permissions.cloned();
    }
}

fn spanned(template: Option<&Template>) -> Option<Spanned<String>> {
    let template = template?;
    Some(Spanned::new(template.as_str()?.to_owned(), template.span))
}

/// One text or a sequence of texts.
pub(super) fn texts(template: &Template) -> Result<Vec<Spanned<String>>, Fail> {
    let one = |item: &Template| match item.as_str() {
        Some(text) => Ok(Spanned::new(text.to_owned(), item.span)),
        None => Err(Fail::unexpected(item, "a list of texts")),
    };
    match &template.node {
        Node::Seq(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(template)?]),
    }
}
