//! A job that calls a workflow.
//!
//! The called workflow has the caller's `github` and `vars`, `inputs` of its own, the secrets that it is given, and
//! none of the caller's `env`. GitHub: docs "Reusing workflow configurations".

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::Utc;
use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Scope as Values, Value};
use terraphim_actions::resolve;
use terraphim_actions::template::TemplateError;
use terraphim_actions::workflow::CallSecrets;
use tokio_util::sync::CancellationToken;

use super::commons::Commons;
use super::contexts::RunContexts;
use super::event::{Conclusion, JobKey, RunEvent};
use super::expand::ReadyJob;
use super::graph::{End, combine};
use super::group::{Entry, enter};
use super::place::not_begun;
use super::plan::{PlannedCall, PlannedJob};
use super::report::JobReport;
use super::scope::{Ended, Scope};
use super::shared::Shared;
use crate::error::Result;

/// The job that called the workflow a job is in; nobody for those of the workflow that was started.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    of: Option<(JobKey, String)>,
}

impl Caller {
    /// The key of the job `id`, or of its matrix job number `index`. Ids begin with a letter and have no dots, so
    /// that every key means one job.
    pub(super) fn key(&self, id: &str, index: Option<usize>) -> JobKey {
        match &self.of {
            Some((caller, _)) => JobKey::new(&format!("{caller}.{id}"), index),
            None => JobKey::new(id, index),
        }
    }

    /// The name of a job, as GitHub shows it: `caller / called`.
    pub(super) fn name(&self, name: &str) -> String {
        match &self.of {
            Some((_, caller)) => format!("{caller} / {name}"),
            None => name.to_owned(),
        }
    }
}

/// Runs the workflow that a job calls. `keeps`: nothing that the job needs has run, so jobs of the workflow may be kept.
///
/// Not an `async fn`: the called workflow may call others, and the type of such a future would hold itself.
pub(super) fn run_call<'a>(
    shared: Arc<Shared>,
    commons: Arc<Commons<'a>>,
    call: PlannedCall,
    planned: Arc<PlannedJob>,
    ready: ReadyJob,
    (cancel, held, keeps): (CancellationToken, Arc<[String]>, bool),
) -> Pin<Box<dyn Future<Output = Result<Ended>> + Send + 'a>> {
    Box::pin(async move {
        let called = match called(&shared, &call, &ready) {
            Ok(called) => Arc::new(called),
            Err(text) => return Ok(broken(&shared, &planned, &ready, &text).await),
        };
        // The group of the job, then that of the called workflow.
        let mut held = held;
        let mut memberships = Vec::new();
        for (concurrency, contexts) in
            [(&planned.concurrency, &ready.contexts), (&call.concurrency, &called.contexts.open)]
        {
            let who = Some(&ready.key);
            match enter(&shared, concurrency.as_ref(), contexts, who, &held, &cancel).await? {
                Entry::In(membership) => {
                    held = held.iter().cloned().chain(membership.iter().map(|it| it.group.clone())).collect();
                    memberships.extend(membership);
                }
                Entry::Cancelled => return Ok(not_begun(&shared, &planned, &ready).await.into()),
                Entry::Impossible(text) => return Ok(broken(&shared, &planned, &ready, &text).await),
            }
        }
        let mut scope = Scope::new(Arc::clone(&called), commons, cancel);
        scope.hold(held);
        scope.keep(keeps);
        scope.run().await?;
        let ends: Vec<Conclusion> = scope.results().map(|(_, result, _)| result).collect();
        let conclusion = combine(&ends);
        let outputs = match outputs(&scope, &call) {
            Ok(outputs) => without_secrets(&called, &ready, outputs).await,
            Err(error) => {
                let text = shared.plan.describe(&error);
                let mut ended = broken(&shared, &planned, &ready, &text).await;
                ended.reports.splice(0..0, scope.reports());
                return Ok(ended);
            }
        };
        drop(memberships);
        let end = End { outcome: conclusion, conclusion };
        Ok(Ended { end, outputs, is_kept: scope.is_kept(), reports: scope.reports() })
    })
}

/// The world of the called workflow.
fn called(shared: &Shared, call: &PlannedCall, ready: &ReadyJob) -> Result<Shared, String> {
    let describe = |error: TemplateError| shared.plan.describe(&error);
    let mut contexts = ready.contexts.clone();
    let with = {
        let (callee, caller) = (Values::of(&shared.contexts.open), Values::of(&contexts));
        resolve::call_inputs(call.inputs.as_ref(), &callee, call.with.as_ref(), &caller).map_err(describe)?
    };
    contexts.insert("secrets", shared.contexts.secrets.clone());
    let mut masker = shared.masker.clone();
    let secrets = match &call.secrets {
        CallSecrets::Inherit => shared.contexts.secrets.clone(),
        CallSecrets::None => only_token(&shared.contexts.secrets, IndexMap::new()),
        CallSecrets::Map(map) => {
            let given = resolve::call_secrets(map, &Values::of(&contexts)).map_err(describe)?;
            // They may be made of secrets and be none themselves so far.
            let values = given.values().map(String::as_str).filter(|value| !value.trim().is_empty());
            masker.add_all(values.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
            only_token(&shared.contexts.secrets, given)
        }
    };
    let mut open = shared.contexts.open.clone();
    open.insert("inputs", with);
    let caller = Caller { of: Some((ready.key.clone(), ready.name.clone())) };
    Ok(Shared {
        plan: Arc::clone(&call.plan),
        inputs: Arc::clone(&shared.inputs),
        contexts: RunContexts { open, secrets },
        executor: Arc::clone(&shared.executor),
        observer: Arc::clone(&shared.observer),
        masker,
        caller,
        remotes: Arc::clone(&shared.remotes),
        output_size: Arc::clone(&shared.output_size),
    })
}

/// The secrets that were given by name, and the token of the run, which every workflow has.
fn only_token(all: &Value, given: IndexMap<String, String>) -> Value {
    let mut secrets = Object::new();
    if let Some(token) = all.get("GITHUB_TOKEN") {
        secrets.insert("GITHUB_TOKEN", token.clone());
    }
    for (name, value) in given {
        secrets.insert(&name, value);
    }
    secrets.into()
}

/// A call that cannot be made out of its expressions.
async fn broken(shared: &Shared, planned: &PlannedJob, ready: &ReadyJob, text: &str) -> Ended {
    let report = JobReport::not_run(ready.key.clone(), &planned.id, &ready.name, Conclusion::Failure);
    shared.tell_broken(report, text).await.into()
}

/// `on.workflow_call.outputs` of the called workflow.
fn outputs(scope: &Scope<'_>, call: &PlannedCall) -> Result<IndexMap<String, String>, TemplateError> {
    let mut jobs = Object::new();
    for (id, result, outputs) in scope.results() {
        let outputs: Object = outputs.iter().map(|(name, value)| (name, value.as_str())).collect();
        let mut job = Object::new();
        job.insert("result", result.name());
        job.insert("outputs", outputs);
        jobs.insert(id, job);
    }
    let mut contexts = scope.shared.contexts.open.clone();
    contexts.insert("jobs", jobs);
    let mut outputs = resolve::call_outputs(call.outputs.as_ref(), &Values::of(&contexts))?;
    outputs.retain(|_, value| !value.is_empty());
    Ok(outputs)
}

async fn without_secrets(
    shared: &Shared,
    ready: &ReadyJob,
    mut outputs: IndexMap<String, String>,
) -> IndexMap<String, String> {
    let holds = |value: &String| shared.masker.finds(value);
    let dropped: Vec<String> =
        outputs.iter().filter(|(_, value)| holds(value)).map(|(name, _)| name.clone()).collect();
    for name in dropped {
        outputs.shift_remove(&name);
        let message =
            format!("warning: the output {name:?} of {} may hold a secret and is left out", ready.key);
        shared.observe(&RunEvent::Notice { message, at: Utc::now() }).await;
    }
    outputs
}
