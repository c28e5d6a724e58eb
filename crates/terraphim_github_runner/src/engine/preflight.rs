//! What can be known to be wrong before a VM starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::expr::Scope;

use super::container::{problems as container_problems, refusals};
use super::error::{EngineError, InvalidWorkflow};
use super::expand::{self, ExpandError};
use super::functions::JobFunctions;
use super::inputs::Isolation;
use super::plan::{Plan, PlannedJob, Work};
use super::scope::rules;
use super::shared::Shared;

/// Checks what does not depend on the results of jobs; gives the type of the VM that the jobs share.
pub(super) fn preflight(shared: &Shared) -> Result<String, EngineError> {
    let script = |job: &PlannedJob| {
        job.steps.iter().any(|step| matches!(step.work, Work::Script { .. } | Work::Action(_)))
    };
    if !shared.executor.capabilities().files && shared.plan.all_jobs().any(script) {
        return Err(EngineError::NoFiles);
    }
    let mut types = BTreeSet::new();
    let mut diagnostics = Vec::new();
    for (job, is_top) in all_jobs(&shared.plan) {
        let contexts = expand::job_contexts(&shared.contexts, &[]);
        // A job that waits for others, or is called with inputs, is looked at as far as it does not depend on them.
        let is_certain = is_top && job.needs.is_empty();
        if is_certain && is_never(shared, job) {
            continue;
        }
        match expand::expand(job, &contexts, rules(shared)) {
            Ok(_) if job.call.is_some() => {}
            Ok(expanded) => types.extend(expanded.jobs.into_iter().map(|ready| ready.vm_type)),
            Err(error) if is_certain => diagnostics.push(diagnostic(&shared.plan, &error)),
            Err(_) => {}
        }
    }
    for job in possible_jobs(shared) {
        diagnostics.extend(refusals(shared, job));
        diagnostics.extend(container_problems(shared, job));
    }
    if !diagnostics.is_empty() {
        // What an expression gave is quoted.
        let mask = |text: &mut String| *text = shared.masker.mask(text);
        for diagnostic in &mut diagnostics {
            mask(&mut diagnostic.message);
            diagnostic.hint.iter_mut().for_each(mask);
        }
        return Err(InvalidWorkflow { diagnostics }.into());
    }
    if types.len() > 1 && shared.inputs.isolation == Isolation::Workflow {
        return Err(EngineError::SeveralVmTypes { types: types.into_iter().collect() });
    }
    Ok(types.pop_first().unwrap_or_else(|| shared.inputs.vm_types.default.clone()))
}

/// All jobs, and whether each is of the workflow itself rather than of one that it calls.
fn all_jobs(plan: &Plan) -> impl Iterator<Item = (&PlannedJob, bool)> {
    let is_top = |job: &PlannedJob| plan.jobs.iter().any(|top| std::ptr::eq(top, job));
    plan.all_jobs().map(move |job| (job, is_top(job)))
}

/// The jobs that may run, as far as that is known before the run.
pub(super) fn possible_jobs(shared: &Shared) -> impl Iterator<Item = &PlannedJob> {
    let jobs = all_jobs(&shared.plan);
    jobs.filter(|(job, is_top)| !(*is_top && job.needs.is_empty() && is_never(shared, job)))
        .map(|(job, _)| job)
}

/// Whether the condition of a job does not hold when nothing has run.
fn is_never(shared: &Shared, job: &PlannedJob) -> bool {
    let contexts = expand::job_contexts(&shared.contexts, &[]);
    let functions = JobFunctions { before: &[], cancelled: false };
    matches!(expand::condition(job, &contexts, &functions), Ok(false))
}

fn diagnostic(plan: &Plan, error: &ExpandError) -> Diagnostic {
    let file = |index: usize| plan.files.get(index).cloned().unwrap_or_else(|| Arc::from(""));
    match error {
        ExpandError::Template(error) => Diagnostic::error(&file(error.file), error.span, &*error.message),
        ExpandError::RunsOn { what, span, file: index } => {
            Diagnostic::error(&file(*index), *span, error.to_string()).with_hint(what.remedy())
        }
    }
}

/// The title of a run: `run-name`, else the name of the workflow.
pub(super) fn run_title(shared: &Shared) -> String {
    let scope = Scope::of(&shared.contexts.open);
    let title = shared.plan.title.as_ref().and_then(|title| title.text_value(&scope).ok());
    let title = title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
    shared.masker.mask(&title.unwrap_or_else(|| shared.plan.name.clone()))
}
