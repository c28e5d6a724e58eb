//! Which jobs need a container engine, as far as that is known before the run, and what is said to those whose VM has none.

use std::sync::Arc;

use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::expr::{Object, Scope};
use terraphim_actions::resolve;
use terraphim_actions::span::Span;
use terraphim_actions::template::Template;
use terraphim_actions::workflow::Uses;

use super::wanted::Wanted;
use crate::engine::expand::{self, ReadyJob};
use crate::engine::plan::{PlannedJob, Work};
use crate::engine::scope::rules;
use crate::engine::shared::Shared;

/// What to do about it.
pub(in crate::engine) const REMEDY: &str =
    "use an image that has one: `--image debian-docker`, which `tci image build debian-docker` makes";

/// Why something cannot run in this VM.
pub(in crate::engine) fn no_engine(what: &str) -> String {
    format!("{what} needs a container engine, and the image of this VM has none; {REMEDY}")
}

/// What a job asks for that needs an engine which its VM has not.
pub(in crate::engine) fn refusals(shared: &Shared, job: &PlannedJob) -> Vec<Diagnostic> {
    let without = without_engine(shared, job);
    let Some(vm_type) = without.first().map(|job| &job.vm_type) else { return Vec::new() };
    let mut found = Vec::new();
    let mut add =
        |file: usize, span: Span, key: &str| found.push(refusal(shared, (file, span), key, vm_type));
    let asks = |template: &Template, is_asked: fn(&Template, &Object) -> bool| {
        without.iter().any(|job| is_asked(template, &job.contexts))
    };
    if let Some(template) = job.container.as_ref().filter(|it| asks(it, has_container)) {
        add(template.file, template.span, "container");
    }
    if let Some(template) = job.services.as_ref().filter(|it| asks(it, has_service)) {
        add(template.file, template.span, "services");
    }
    for step in &job.steps {
        let Work::Action(action) = &step.work else { continue };
        if matches!(action.uses, Uses::Docker(_)) {
            add(action.file, action.span, &format!("uses: {}", action.text));
        }
    }
    found
}

/// What is wrong with the containers of a job, as far as that is known before the run. A value that needs the results of
/// other jobs, or a secret, is looked at when the job starts.
pub(in crate::engine) fn problems(shared: &Shared, job: &PlannedJob) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let (container, services) = (job.container.as_ref(), job.services.as_ref());
    if job.call.is_some() || container.or(services).is_none() {
        return found;
    }
    for ready in ready_jobs(shared, job) {
        let scope = Scope::of(&ready.contexts);
        let container_of_job = container.map(|template| resolve::container(template, &scope)).transpose();
        let services_of_job = services.map(|template| resolve::services(template, &scope)).transpose();
        let (Ok(container_of_job), Ok(services_of_job)) = (container_of_job, services_of_job) else {
            continue;
        };
        let wanted = Wanted::read(container_of_job.flatten().as_ref(), &services_of_job.unwrap_or_default());
        let Err(problem) = wanted else { continue };
        let error = problem.at(container, services);
        let file = shared.plan.files.get(error.file).cloned().unwrap_or_else(|| Arc::from(""));
        let diagnostic = Diagnostic::error(&file, error.span, error.message);
        // The jobs of a matrix have it in common, mostly.
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    found
}

/// The refusal of one key.
pub(in crate::engine) fn refusal(
    shared: &Shared,
    (file, span): (usize, Span),
    key: &str,
    vm_type: &str,
) -> Diagnostic {
    let file = shared.plan.files.get(file).cloned().unwrap_or_else(|| Arc::from(""));
    let text = format!("`{key}` needs a container engine, and the image of the VM type `{vm_type}` has none");
    Diagnostic::error(&file, span, text).with_hint(REMEDY)
}

/// The type of a VM of this job that has no engine.
pub(in crate::engine) fn lacking(shared: &Shared, job: &PlannedJob) -> Option<String> {
    without_engine(shared, job).into_iter().next().map(|job| job.vm_type)
}

/// The jobs of a job's matrix whose VMs have no engine, as far as they are known.
fn without_engine(shared: &Shared, job: &PlannedJob) -> Vec<ReadyJob> {
    if job.call.is_some() {
        return Vec::new();
    }
    let has_none = |ready: &ReadyJob| !shared.inputs.vm_types.engines.contains(&ready.vm_type);
    ready_jobs(shared, job).into_iter().filter(has_none).collect()
}

/// The jobs of a job's matrix, as far as they are known.
fn ready_jobs(shared: &Shared, job: &PlannedJob) -> Vec<ReadyJob> {
    let contexts = expand::job_contexts(&shared.contexts, &[]);
    // What cannot be expanded yet, or at all, is looked at or refused elsewhere.
    expand::expand(job, &contexts, rules(shared)).map(|expanded| expanded.jobs).unwrap_or_default()
}

/// Whether an image is named. What an expression yields that needs the results of other jobs is looked at when the job
/// starts.
fn has_container(template: &Template, contexts: &Object) -> bool {
    let scope = Scope::of(contexts);
    match template.get("image").unwrap_or(template).text_value(&scope) {
        Ok(image) => !image.strip_prefix("docker://").unwrap_or(&image).is_empty(),
        // An expression that yields a whole container.
        Err(_) => matches!(resolve::container(template, &scope), Ok(Some(_))),
    }
}

fn has_service(template: &Template, contexts: &Object) -> bool {
    if template.entries().iter().any(|(_, service)| has_container(service, contexts)) {
        return true;
    }
    let services = resolve::services(template, &Scope::of(contexts));
    services.is_ok_and(|services| services.values().any(Option::is_some))
}
