//! Turns a job of the plan into jobs to run, when what it needs has ended. Pure.

use std::time::Duration;

use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Scope, Value};
use terraphim_actions::matrix::{self, Configuration, Strategy};
use terraphim_actions::resolve::{self, Environment};
use terraphim_actions::span::Span;
use terraphim_actions::template::{Template, TemplateError};
use thiserror::Error;

use super::call::Caller;
use super::clock::Timing;
use super::contexts::RunContexts;
use super::event::{Conclusion, JobKey};
use super::functions::JobFunctions;
use super::inputs::{EnvironmentSettings, Unanswered, VmTypes};
use super::plan::PlannedJob;

/// A job whose matrix values, name and limits are known.
#[derive(Clone, Debug)]
pub(super) struct ReadyJob {
    pub(super) key: JobKey,
    pub(super) name: String,
    /// The contexts `github`, `vars`, `inputs`, `needs`, `strategy` and `matrix`.
    pub(super) contexts: Object,
    pub(super) matrix: Option<serde_json::Value>,
    pub(super) vm_type: String,
    pub(super) limit: Duration,
    pub(super) grace: Duration,
    pub(super) continue_on_error: bool,
    /// `environment`; its variables are in the context `vars`.
    pub(super) environment: Option<Environment>,
}

/// What a job became.
#[derive(Clone, Debug)]
pub(super) struct Expanded {
    pub(super) strategy: Strategy,
    pub(super) jobs: Vec<ReadyJob>,
}

/// A job that cannot be made out of its expressions.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ExpandError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("no VM type answers to {what} of `runs-on`")]
    RunsOn { what: Unanswered, span: Span, file: usize },
}

/// How a need ended and what it gave.
#[derive(Clone, Debug)]
pub(super) struct Needed<'a> {
    pub(super) id: &'a str,
    pub(super) result: Conclusion,
    pub(super) outputs: &'a IndexMap<String, String>,
}

/// The contexts of the keys of a job: those of the run and `needs`.
pub(super) fn job_contexts(run: &RunContexts, needs: &[Needed<'_>]) -> Object {
    let mut all = Object::new();
    for need in needs {
        let outputs: Object = need.outputs.iter().map(|(name, value)| (name, value.as_str())).collect();
        let mut object = Object::new();
        object.insert("result", need.result.name());
        object.insert("outputs", outputs);
        all.insert(need.id, object);
    }
    let mut contexts = run.open.clone();
    contexts.insert("needs", all);
    contexts
}

/// Whether the condition of a job holds.
pub(super) fn condition(
    job: &PlannedJob,
    contexts: &Object,
    functions: &JobFunctions<'_>,
) -> Result<bool, TemplateError> {
    job.condition.holds(&Scope::new(contexts, functions))
}

/// What a run decides about all its jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The values of matrix keys that are wanted.
    pub(super) matrix: &'a IndexMap<String, Vec<String>>,
    pub(super) vm_types: &'a VmTypes,
    pub(super) timing: &'a Timing,
    pub(super) caller: &'a Caller,
    pub(super) environments: &'a IndexMap<String, EnvironmentSettings>,
}

/// The jobs that a job of the plan stands for.
pub(super) fn expand(job: &PlannedJob, contexts: &Object, rules: Rules<'_>) -> Result<Expanded, ExpandError> {
    let literal = job.name.literal_text().filter(|name| !name.is_empty());
    let name = literal.as_deref().unwrap_or(&job.id);
    let mut strategy = matrix::expand(job.strategy.as_ref(), &Scope::of(contexts), name)?;
    strategy.configurations.retain(|configuration| is_wanted(&configuration.matrix, rules.matrix));
    // Legs that are written are looked at before the run. Without these the job would be green and have done nothing.
    if strategy.configurations.is_empty()
        && let Some(template) = job.strategy.as_ref().filter(|template| template.has_expression())
    {
        return Err(no_leg(template, rules.matrix).into());
    }
    let jobs = strategy.configurations.iter().map(|configuration| ready(job, contexts, configuration, rules));
    let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    Ok(Expanded { strategy, jobs })
}

fn ready(
    job: &PlannedJob,
    contexts: &Object,
    configuration: &Configuration,
    rules: Rules<'_>,
) -> Result<ReadyJob, ExpandError> {
    let mut contexts = contexts.clone();
    contexts.insert("strategy", configuration.strategy.clone());
    contexts.insert("matrix", configuration.matrix.clone());
    let scope = Scope::of(&contexts);
    let name =
        if job.name.has_expression() { job.name.text_value(&scope)? } else { configuration.name.clone() };
    let has_matrix = !matches!(configuration.matrix, Value::Null);
    let index = configuration.strategy.get("job-index").map_or(0.0, Value::to_number);
    let limit = minutes(job.timeout.as_ref(), &scope, rules.timing)?;
    let grace = minutes(job.cancel_timeout.as_ref(), &scope, rules.timing)?;
    let environment = job.environment.as_ref().map(|template| resolve::environment(template, &scope));
    let environment = environment.transpose()?.flatten();
    let mut ready = ReadyJob {
        key: rules.caller.key(&job.id, has_matrix.then_some(index_of(index))),
        name: rules.caller.name(if name.trim().is_empty() { &job.id } else { &name }),
        matrix: has_matrix.then(|| serde_json::Value::from(&configuration.matrix)),
        vm_type: vm_type(job.runs_on.as_ref(), &scope, rules.vm_types)?,
        limit: limit.unwrap_or(rules.timing.minute * rules.timing.job_minutes),
        grace: grace.unwrap_or(rules.timing.minute * rules.timing.cancel_minutes),
        continue_on_error: match &job.continue_on_error {
            Some(template) => template.bool_value(&scope)?,
            None => false,
        },
        environment,
        contexts: Object::new(),
    };
    // Only now: what decides about a job does not see the variables of its environment, as GitHub has it.
    if let Some(vars) = ready.environment.as_ref().and_then(|it| variables_of(it, &contexts, rules)) {
        contexts.insert("vars", vars);
    }
    ready.contexts = contexts;
    Ok(ready)
}

/// The context `vars` of a job with an environment.
fn variables_of(environment: &Environment, contexts: &Object, rules: Rules<'_>) -> Option<Object> {
    let own = rules.environments.get(&environment.name.to_lowercase())?;
    let mut vars = match contexts.get("vars") {
        Some(Value::Obj(vars)) => Object::clone(vars),
        _ => Object::new(),
    };
    for (name, value) in &own.vars {
        vars.insert(name, value.as_str());
    }
    Some(vars)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index that was made from one"
)]
fn index_of(number: f64) -> usize {
    number as usize
}

fn minutes(
    template: Option<&Template>,
    scope: &Scope<'_>,
    timing: &Timing,
) -> Result<Option<Duration>, TemplateError> {
    let number = template.map(|template| template.number_value(scope)).transpose()?;
    Ok(number.and_then(|number| timing.minutes(number)))
}

/// `runs-on` is a label, a list of labels, or a mapping with `labels` and `group`.
fn vm_type(runs_on: Option<&Template>, scope: &Scope<'_>, types: &VmTypes) -> Result<String, ExpandError> {
    let Some(runs_on) = runs_on else { return Ok(types.default.clone()) };
    let value = runs_on.evaluate(scope)?;
    let (list, group) = match &value {
        Value::Obj(object) => (
            object.get("labels").cloned().unwrap_or_default(),
            object.get("group").map(|group| group.to_text().into_owned()).filter(|group| !group.is_empty()),
        ),
        other => (other.clone(), None),
    };
    let labels: Vec<String> = match &list {
        Value::Arr(items) => items.iter().map(|item| item.to_text().into_owned()).collect(),
        Value::Null => Vec::new(),
        other => vec![other.to_text().into_owned()],
    };
    types.resolve(&labels, group.as_deref(), std::env::consts::ARCH).map_err(|what| {
        let written = match &what {
            Unanswered::Group(_) => runs_on.get("group"),
            Unanswered::Label(_) => None,
        };
        let at = written.unwrap_or(runs_on);
        ExpandError::RunsOn { what, span: at.span, file: at.file }
    })
}

/// A matrix that has none of the wanted values.
fn no_leg(strategy: &Template, wanted: &IndexMap<String, Vec<String>>) -> TemplateError {
    let all =
        wanted.iter().flat_map(|(key, values)| values.iter().map(move |value| format!("{key}:{value}")));
    let all = all.collect::<Vec<_>>().join(", ");
    TemplateError {
        file: strategy.file,
        span: strategy.span,
        message: format!("no job of the matrix has the values that are asked for: {all}"),
        pending: false,
    }
}

/// Whether the values of a matrix job are among those that are wanted; a key that it has not is not asked about.
fn is_wanted(matrix: &Value, wanted: &IndexMap<String, Vec<String>>) -> bool {
    wanted.iter().all(|(key, values)| {
        matrix.get(key).is_none_or(|value| values.iter().any(|wanted| *wanted == value.to_text()))
    })
}
