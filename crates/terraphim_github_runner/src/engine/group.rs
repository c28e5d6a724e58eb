//! A run or a job in its concurrency group.

use std::sync::Arc;

use chrono::Utc;
use terraphim_actions::expr::{Object, Scope as Values};
use terraphim_actions::resolve::{self, Concurrency};
use terraphim_actions::template::Template;
use tokio_util::sync::CancellationToken;

use super::event::{JobKey, RunEvent};
use super::groups::{Ticket, Turn};
use super::shared::Shared;
use crate::error::{GitHubRunnerError, Result};

/// What became of someone who wants to be in a group.
pub(super) enum Entry {
    /// Its turn has come. When a newer one takes its place, it is cancelled.
    In(Option<Membership>),
    /// A newer one took its place, or it was cancelled, before its turn came.
    Cancelled,
    /// It can never have its turn.
    Impossible(String),
}

/// A place in a group; given up when it is dropped.
pub(super) struct Membership {
    /// In lower case.
    pub(super) group: String,
    _watching: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for a place in the group that `concurrency` names; `held` are the groups of those that this one is part of.
pub(super) async fn enter(
    shared: &Arc<Shared>,
    concurrency: Option<&Template>,
    contexts: &Object,
    job: Option<&JobKey>,
    held: &[String],
    cancel: &CancellationToken,
) -> Result<Entry> {
    let Some(template) = concurrency else { return Ok(Entry::In(None)) };
    let concurrency = match resolve::concurrency(template, &Values::of(contexts)) {
        Ok(concurrency) => concurrency,
        Err(error) => return Ok(Entry::Impossible(shared.plan.describe(&error))),
    };
    let Some(groups) = shared.inputs.groups.clone().filter(|_| !concurrency.group.is_empty()) else {
        return Ok(Entry::In(None));
    };
    let group = concurrency.group.to_lowercase();
    if held.contains(&group) {
        let whole = job.map_or_else(|| "the run".to_owned(), ToString::to_string);
        return Ok(Entry::Impossible(format!(
            "{whole} would wait for ever: what it is part of is in the concurrency group '{}' already",
            concurrency.group
        )));
    }
    let failed = |error| {
        GitHubRunnerError::failed(format!("enter the concurrency group '{}'", concurrency.group), error)
    };
    let who = who(shared, job);
    let repository = &shared.inputs.repository.full_name;
    let mut ticket = groups.join(repository, &concurrency, who).await.map_err(failed)?;
    let mut known = None;
    loop {
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Entry::Cancelled),
            turn = ticket.turn(known.as_ref()) => turn.map_err(failed)?,
        };
        match &turn {
            Turn::Running => break,
            Turn::Replaced => {
                replaced(shared, &concurrency, job).await;
                return Ok(Entry::Cancelled);
            }
            Turn::Waiting { behind } => {
                let whole = job.map_or_else(|| "the run".to_owned(), |job| format!("job {job}"));
                let message = format!(
                    "{whole} waits for the concurrency group '{}', where {behind} runs",
                    concurrency.group
                );
                tell(shared, message).await;
            }
        }
        known = Some(turn);
    }
    let watching = watch(Arc::clone(shared), ticket, concurrency, job.cloned(), cancel.clone());
    Ok(Entry::In(Some(Membership { group, _watching: AbortOnDrop(tokio::spawn(watching)) })))
}

/// Holds the place, and cancels who has it when a newer one takes it.
async fn watch(
    shared: Arc<Shared>,
    mut ticket: Ticket,
    concurrency: Concurrency,
    job: Option<JobKey>,
    cancel: CancellationToken,
) {
    // A group that cannot be watched any more is still held; nobody can ask us to go.
    if let Ok(Turn::Replaced) = ticket.turn(Some(&Turn::Running)).await {
        replaced(&shared, &concurrency, job.as_ref()).await;
        cancel.cancel();
    }
    // The place is kept until whoever has it is really over.
    std::future::pending::<()>().await;
}

async fn replaced(shared: &Shared, concurrency: &Concurrency, job: Option<&JobKey>) {
    let whole = job.map_or_else(|| "the run".to_owned(), |job| format!("job {job}"));
    let message = format!(
        "cancelling {whole}: a newer one wants its place in the concurrency group '{}'",
        concurrency.group
    );
    tell(shared, message).await;
}

async fn tell(shared: &Shared, message: String) {
    let message = shared.masker.mask(&message);
    shared.observe(&RunEvent::Notice { message, at: Utc::now() }).await;
}

/// How those who wait name this one.
fn who(shared: &Shared, job: Option<&JobKey>) -> String {
    let run = format!("run {} of {}", shared.inputs.run_number, shared.plan.name);
    let who = job.map_or_else(|| run.clone(), |job| format!("job {job} of {run}"));
    shared.masker.mask(&who)
}
