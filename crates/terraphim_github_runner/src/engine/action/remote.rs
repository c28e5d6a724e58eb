//! Actions of other repositories: found and read on the host before the VM starts, put into the guest when a job needs
//! them.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use terraphim_actions::action::Runs;
use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::workflow::Uses;

use super::checkout::{is_answered, problems};
use super::load::{DOCKERFILE, Loaded, parse};
use crate::action::{ActionError, ActionReference, ActionStore, Fetched, Manifest, uses_of};
use crate::engine::container::{lacking, refusal};
use crate::engine::error::{EngineError, InvalidWorkflow};
use crate::engine::level::{MAX_DEPTH, Origin};
use crate::engine::place::Place;
use crate::engine::plan::{PlannedAction, PlannedJob, Work};
use crate::engine::shared::Shared;
use crate::error::{GitHubRunnerError, Result, chain};

/// An action of a repository, with its commit in the cache.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) loaded: Arc<Loaded>,
    reference: ActionReference,
    fetched: Fetched,
    /// Where its repository is put.
    root: String,
}

/// The actions of repositories that a run knows so far, by [`ActionReference::key`].
#[derive(Debug, Default)]
pub(in crate::engine) struct Remotes(Mutex<HashMap<String, Arc<Remote>>>);

impl Remotes {
    pub(super) fn get(&self, reference: &ActionReference) -> Option<Arc<Remote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&reference.key()).cloned()
    }

    fn add(&self, remote: Arc<Remote>) {
        let key = remote.reference.key();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, remote);
    }
}

/// Why an action cannot be used.
pub(super) struct Unusable {
    pub(super) message: String,
    hint: Option<&'static str>,
}

impl From<ActionError> for Unusable {
    fn from(error: ActionError) -> Self {
        Unusable { message: chain(&error), hint: error.hint() }
    }
}

impl Unusable {
    fn new(message: String) -> Unusable {
        Unusable { message, hint: None }
    }

    fn used_by(self, user: &ActionReference) -> Unusable {
        Unusable { message: format!("{user} uses what cannot be used: {}", self.message), hint: self.hint }
    }
}

/// Finds and reads the actions of other repositories that the jobs of a run use, and those that these use. Says which
/// commits they are.
pub(in crate::engine) async fn prepare<'a>(
    shared: &Shared,
    jobs: impl Iterator<Item = &'a PlannedJob>,
) -> Result<Vec<String>, EngineError> {
    let mut diagnostics = Vec::new();
    let mut seen = HashSet::new();
    let mut notices = Vec::new();
    let mut actions = Vec::new();
    for job in jobs {
        actions.extend(job.steps.iter().filter_map(|step| match &step.work {
            Work::Action(action) => Some((job, action)),
            _ => None,
        }));
    }
    for (job, action) in actions {
        let wrong = problems(shared, action);
        diagnostics.extend(wrong.into_iter().map(|(span, text)| {
            let file = shared.plan.files.get(action.file).cloned().unwrap_or_else(|| Arc::from(""));
            Diagnostic::error(&file, span, text)
        }));
        let Some(reference) = wanted(shared, &action.uses) else { continue };
        match find(shared, &reference, 1).await {
            Ok(remote) => {
                if needs_engine(shared, &remote, 1)
                    && let Some(vm_type) = lacking(shared, job)
                {
                    let key = format!("uses: {}", action.text);
                    diagnostics.push(refusal(shared, (action.file, action.span), &key, &vm_type));
                }
                if seen.insert(reference.key()) {
                    notices.push(format!("{reference} is commit {}", remote.fetched.commit));
                }
            }
            Err(unusable) => diagnostics.push(diagnostic(shared, action, unusable)),
        }
    }
    if diagnostics.is_empty() { Ok(notices) } else { Err(InvalidWorkflow { diagnostics }.into()) }
}

fn diagnostic(shared: &Shared, action: &PlannedAction, unusable: Unusable) -> Diagnostic {
    let file = shared.plan.files.get(action.file).cloned().unwrap_or_else(|| Arc::from(""));
    let error = Diagnostic::error(&file, action.span, format!("`uses`: {}", unusable.message));
    match unusable.hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The action of a repository that has to be fetched for `uses`.
pub(super) fn wanted(shared: &Shared, uses: &Uses) -> Option<ActionReference> {
    ActionReference::of(uses).filter(|_| !is_answered(shared, uses))
}

type Finding<'a> = Pin<Box<dyn Future<Output = Result<Arc<Remote>, Unusable>> + Send + 'a>>;

/// Finds an action and those that it uses. Boxed, because they may use others too.
pub(super) fn find<'a>(shared: &'a Shared, reference: &'a ActionReference, depth: usize) -> Finding<'a> {
    Box::pin(async move {
        if let Some(known) = shared.remotes.get(reference) {
            return Ok(known);
        }
        let Some(store) = &shared.inputs.actions else {
            return Err(Unusable::new(format!(
                "{reference} cannot be fetched: this run has no source of actions"
            )));
        };
        let remote = Arc::new(read(shared, store, reference).await?);
        // Before those that it uses: one that uses itself is no reason to go on for ever.
        shared.remotes.add(Arc::clone(&remote));
        for used in used_by(shared, &remote) {
            if depth > MAX_DEPTH {
                return Err(Unusable::new(format!(
                    "composite actions are nested deeper than {MAX_DEPTH} at {reference}"
                )));
            }
            find(shared, &used, depth + 1).await.map_err(|error| error.used_by(reference))?;
        }
        Ok(remote)
    })
}

async fn read(shared: &Shared, store: &ActionStore, reference: &ActionReference) -> Result<Remote, Unusable> {
    tracing::info!("fetching {reference}");
    let fetched = store.fetch(reference).await?;
    let action = match store.manifest(reference, &fetched).await? {
        Manifest::File { name, text } => {
            let file: Arc<str> = Arc::from(format!("{reference}/{name}"));
            (parse(&text, &file).map_err(Unusable::new)?, file)
        }
        Manifest::Dockerfile => {
            (super::docker::action(DOCKERFILE.to_owned()), Arc::from(format!("{reference}/{DOCKERFILE}")))
        }
    };
    let (action, file) = action;
    let root = shared.inputs.layout.action_root(&reference.full_name(), &reference.reference);
    let directory =
        if reference.path.is_empty() { root.clone() } else { format!("{root}/{}", reference.path) };
    let origin = Origin {
        repository: reference.full_name(),
        reference: reference.reference.clone(),
        root: root.clone(),
    };
    let loaded = Loaded { action, file, directory, origin: Some(origin) };
    Ok(Remote { loaded: Arc::new(loaded), reference: reference.clone(), fetched, root })
}

/// What a composite action uses of other repositories, or of its own.
fn used_by(shared: &Shared, remote: &Remote) -> Vec<ActionReference> {
    uses_of(&remote.loaded.action)
        .filter_map(|uses| match uses {
            Uses::SameRepository(path) => Some(ActionReference { path, ..remote.reference.clone() }),
            uses => wanted(shared, &uses),
        })
        .collect()
}

/// Whether an action is a docker action, or uses one.
fn needs_engine(shared: &Shared, remote: &Remote, depth: usize) -> bool {
    let uses_docker = || uses_of(&remote.loaded.action).any(|uses| matches!(uses, Uses::Docker(_)));
    let is_used = |used: ActionReference| {
        shared.remotes.get(&used).is_some_and(|used| needs_engine(shared, &used, depth + 1))
    };
    matches!(remote.loaded.action.runs, Runs::Docker(_))
        || uses_docker()
        || (depth <= MAX_DEPTH && used_by(shared, remote).into_iter().any(is_used))
}

/// Puts an action and those that it uses into the guest, each repository once for each VM.
pub(super) async fn put(shared: &Shared, place: &Place, remote: &Arc<Remote>) -> Result<()> {
    let Some(store) = &shared.inputs.actions else { return Ok(()) };
    // Held over the upload: whoever comes second waits until it is there.
    let mut there = place.actions.lock().await;
    let mut open = vec![Arc::clone(remote)];
    let mut seen = HashSet::new();
    while let Some(remote) = open.pop() {
        if !seen.insert(remote.reference.key()) {
            continue;
        }
        if !there.contains(&remote.root) {
            let failed = |error: ActionError| {
                GitHubRunnerError::failed(format!("read {} from the cache", remote.reference), error)
            };
            let tar = store.archive(&remote.fetched).await.map_err(failed)?;
            shared.executor.upload_read_only(place.session(), &remote.root, Box::new(tar)).await?;
            there.insert(remote.root.clone());
        }
        let used = used_by(shared, &remote).into_iter();
        open.extend(used.filter_map(|used| shared.remotes.get(&used)));
    }
    Ok(())
}
