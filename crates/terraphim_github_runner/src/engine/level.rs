//! A list of steps that runs: the steps of the job, or those of a composite action that a step of the list above uses.
//!
//! ```text
//! job        pre steps of actions -> steps -> post steps of actions, last first
//!              `- composite action: its steps; its post steps wait with those of the job
//!                   `- composite action: ...
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use terraphim_actions::expr::Object;
use terraphim_actions::workflow::Condition;
use tokio::time::Instant;

use super::action::Post;
use super::event::Conclusion;
use super::planner::never;
use crate::action::ActionReference;

/// GitHub: a composite action at this depth may not use another one.
pub(super) const MAX_DEPTH: usize = 9;

/// Which part of a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// What an action does before all steps of the job.
    Pre,
    /// The step itself.
    Main,
    /// What an action does after all steps of the job.
    Post,
}

/// A list of steps that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// The context `steps`.
    pub(super) steps: Object,
    /// What is to run after the job, in the order of registration.
    pub(super) posts: Vec<Post>,
    /// The action whose steps these are; absent for those of the job.
    pub(super) composite: Option<Composite>,
}

impl Level {
    /// The steps of a composite action, before the first of them.
    pub(super) fn of(composite: Composite) -> Level {
        Level { composite: Some(composite), ..Level::default() }
    }

    /// Puts a step that ended into the context `steps`.
    pub(super) fn add(
        &mut self,
        id: &str,
        outputs: &IndexMap<String, String>,
        outcome: Conclusion,
        conclusion: Conclusion,
    ) {
        let outputs: Object = outputs.iter().map(|(name, value)| (name, value.as_str())).collect();
        let mut step = Object::new();
        step.insert("outputs", outputs);
        step.insert("outcome", outcome.name());
        step.insert("conclusion", conclusion.name());
        self.steps.insert(id, step);
    }
}

/// A composite action that runs.
#[derive(Clone, Debug)]
pub(super) struct Composite {
    /// How messages name its file.
    pub(super) file: Arc<str>,
    /// The keys of the steps that lead to it: what tells its steps from those of its other uses.
    pub(super) path: String,
    /// How many composite actions this one is in, itself too.
    pub(super) depth: usize,
    /// The context `inputs`: texts only.
    pub(super) inputs: Object,
    /// `env` of the steps that use it. It is stronger than `GITHUB_ENV`.
    pub(super) env: IndexMap<String, String>,
    /// Where it is, in the guest.
    pub(super) directory: String,
    /// The repository and the place in it, if it is from one: what `$/` refers to.
    pub(super) origin: Option<Origin>,
    /// How the step that uses it names it, if it is from another repository.
    pub(super) used: Option<ActionReference>,
    /// `github.action_status`: how its steps go so far.
    pub(super) status: Conclusion,
    /// `success()` and `failure()` look at the job, as in the steps that run before and after it.
    pub(super) looks_at_job: bool,
    /// The step of the job that it belongs to.
    pub(super) holder: Arc<Holder>,
}

/// Where an action is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Owner and name.
    pub(super) repository: String,
    /// Branch, tag or commit as `uses` says it.
    pub(super) reference: String,
    /// The top directory of the repository in the guest.
    pub(super) root: String,
}

impl Origin {
    /// Another action of the same repository.
    pub(super) fn reference(&self, path: &str) -> Option<ActionReference> {
        let (owner, repository) = self.repository.split_once('/')?;
        Some(ActionReference {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path: path.trim_matches('/').to_owned(),
            reference: self.reference.clone(),
        })
    }
}

/// A future on the heap, made in a frame of its own. Steps of actions in actions are polled one inside the other: what
/// each level needs on the stack has to stay small.
#[inline(never)]
pub(super) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// The step of the job that everything in its actions belongs to.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// It decides whether everything goes on when the job is cancelled.
    pub(super) condition: Condition,
    /// What the condition is evaluated with.
    pub(super) contexts: Object,
    /// Its time limit, and when it is over.
    pub(super) limit: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

impl Holder {
    /// For what belongs to no step: it ends when the job is cancelled.
    pub(super) fn nobody() -> Holder {
        Holder::new(never(), Object::new(), None)
    }

    /// A step that starts now.
    pub(super) fn new(condition: Condition, contexts: Object, limit: Option<Duration>) -> Holder {
        Holder { condition, contexts, limit, deadline: limit.map(|limit| Instant::now() + limit) }
    }

    /// How long it may go on.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.rest() == Some(Duration::ZERO)
    }

    /// What is said when its time is over.
    pub(super) fn too_long(&self) -> String {
        let limit = self.limit.map_or_else(|| "its time".to_owned(), |limit| format!("{limit:?}"));
        format!("The step ran longer than its limit of {limit} and was stopped.")
    }
}
