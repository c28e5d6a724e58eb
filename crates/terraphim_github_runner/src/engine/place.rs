//! A VM with the files of the repository in it, and a job in such a VM.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::Nodes;
use super::commons::Commons;
use super::container::Daemon;
use super::event::{Conclusion, JobKey, RunEvent};
use super::expand::ReadyJob;
use super::group::{Entry, enter};
use super::inputs::Isolation;
use super::job::Job;
use super::plan::PlannedJob;
use super::report::JobReport;
use super::shared::Shared;
use crate::error::{GitHubRunnerError, Result, chain};
use crate::models::{GitHubEvent, GitHubEventType, SessionId, WorkflowContext};
use crate::session::{Session, SessionLease, SessionManager, SessionState};

/// A VM with the files of the repository in it. Dropping it gives the VM back.
pub(super) struct Place {
    pub(super) lease: SessionLease,
    /// Whether the guest has bash, once someone asked.
    pub(super) has_bash: OnceLock<bool>,
    /// The nodes that the guest has, once someone asked.
    pub(super) nodes: OnceLock<Arc<Nodes>>,
    /// The container engine, if its image has one.
    pub(super) daemon: Option<Daemon>,
    /// The images that were built of actions: by their Dockerfile, or the job and the step that use one of the workspace.
    pub(super) built: tokio::sync::Mutex<HashMap<String, String>>,
    /// The directories of the actions that are in it.
    pub(super) actions: tokio::sync::Mutex<HashSet<String>>,
}

impl Place {
    pub(super) fn session(&self) -> &Session {
        self.lease.session()
    }

    /// Gives the VM back. If that fails, the session manager tries again by itself.
    pub(super) async fn close(self, success: bool) {
        let vm_id = self.session().vm_id.clone();
        if let Err(error) = self.lease.finish(success).await {
            tracing::warn!(vm.id = %vm_id, "{}", chain(&error));
        }
    }
}

/// Gets a VM for the run, or for one job of it; `None` if `cancel` came first.
pub(super) async fn open(
    shared: &Shared,
    sessions: &SessionManager,
    vm_type: &str,
    job: Option<&JobKey>,
    cancel: &CancellationToken,
) -> Result<Option<Place>> {
    let started = Instant::now();
    let context = context(shared, job.is_some());
    let lease = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(None),
        lease = sessions.open_of(&context, vm_type) => lease?,
    };
    let event = RunEvent::VmAllocated {
        vm_id: lease.session().vm_id.clone(),
        vm_type: vm_type.to_owned(),
        job: job.cloned(),
        took: started.elapsed(),
        at: Utc::now(),
    };
    shared.observe(&event).await;
    let daemon = if shared.inputs.vm_types.engines.contains(vm_type) {
        Some(tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(None),
            daemon = Daemon::listen(&shared.executor, lease.session(), &shared.inputs.layout) => daemon?,
        })
    } else {
        None
    };
    let place = Place {
        lease,
        daemon,
        built: tokio::sync::Mutex::default(),
        has_bash: OnceLock::new(),
        nodes: OnceLock::new(),
        actions: tokio::sync::Mutex::default(),
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(None),
        uploaded = upload(shared, place.session()) => uploaded?,
    }
    Ok(Some(place))
}

/// Puts the files of the repository into the VM.
async fn upload(shared: &Shared, session: &Session) -> Result<()> {
    let capabilities = shared.executor.capabilities();
    if !capabilities.files {
        return Ok(());
    }
    let inputs = &shared.inputs;
    let tree = inputs.layout.tree(capabilities.views, inputs.repository_name());
    let failed = |error| GitHubRunnerError::failed("read the files of the repository", error);
    let tar = inputs.workspace.tar().await.map_err(failed)?;
    shared.executor.upload(session, &tree, tar).await
}

fn context(shared: &Shared, is_for_job: bool) -> WorkflowContext {
    let inputs = &shared.inputs;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut context = WorkflowContext::new(GitHubEvent {
        event_type: GitHubEventType::from(inputs.event_name.clone()),
        action: inputs.event.get("action").and_then(|action| action.as_str()).map(str::to_owned),
        repository: inputs.repository.clone(),
        pull_request: None,
        git_ref: text(&inputs.git_ref),
        sha: text(&inputs.sha),
        extra: std::collections::HashMap::new(),
    });
    // A run in one VM is its session; with a VM for each job there are several.
    if !is_for_job {
        context.session_id = SessionId(inputs.run_id);
    }
    context
}

/// Runs a job in the VM of the run, or in one of its own, once there is room for it.
pub(super) async fn run_job(
    shared: Arc<Shared>,
    commons: &Commons<'_>,
    planned: Arc<PlannedJob>,
    ready: ReadyJob,
    (cancel, held): (CancellationToken, Arc<[String]>),
) -> Result<JobReport> {
    // A job that waits for its group takes no room from others.
    let group =
        enter(&shared, planned.concurrency.as_ref(), &ready.contexts, Some(&ready.key), &held, &cancel);
    let _membership = match group.await? {
        Entry::In(membership) => membership,
        Entry::Cancelled => return Ok(not_begun(&shared, &planned, &ready).await),
        Entry::Impossible(text) => {
            let failure = Conclusion::Failure;
            let report = JobReport::not_run(ready.key, &planned.id, &ready.name, failure);
            return Ok(shared.tell_broken(report, &text).await);
        }
    };
    let Some(_slot) = commons.slot(&cancel).await else {
        return Ok(not_begun(&shared, &planned, &ready).await);
    };
    if shared.inputs.isolation == Isolation::Workflow {
        return match commons.place(&shared).await? {
            Some(place) => Job::new(shared, place, planned, ready, cancel).run().await,
            None => Ok(not_begun(&shared, &planned, &ready).await),
        };
    }
    let place = open(&shared, commons.sessions, &ready.vm_type, Some(&ready.key), &cancel).await?;
    let Some(place) = place else {
        return Ok(not_begun(&shared, &planned, &ready).await);
    };
    place.lease.enter(SessionState::Executing)?;
    let place = Arc::new(place);
    let report = Job::new(shared, Arc::clone(&place), planned, ready, cancel).run().await?;
    // The job is over, so nobody else holds its VM.
    if let Ok(place) = Arc::try_unwrap(place) {
        place.close(report.conclusion == Conclusion::Success).await;
    }
    Ok(report)
}

/// A job that was cancelled before it began.
pub(super) async fn not_begun(shared: &Shared, planned: &PlannedJob, ready: &ReadyJob) -> JobReport {
    let cancelled = Conclusion::Cancelled;
    let report = JobReport::not_run(ready.key.clone(), &planned.id, &ready.name, cancelled);
    shared.tell_not_run(report).await
}
