//! Runs a plan: setup, jobs, cleanup, report.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::prepare;
use super::around::run_commands;
use super::commons::Commons;
use super::error::EngineError;
use super::event::{Conclusion, Phase, RunConclusion, RunEvent, RunObserver};
use super::group::{Entry, Membership, enter};
use super::inputs::RunInputs;
use super::plan::Plan;
use super::preflight::{possible_jobs, preflight, run_title};
use super::report::RunReport;
use super::scope::Scope;
use super::shared::Shared;
use crate::error::{Result, chain};
use crate::session::SessionManager;
use crate::workflow::CommandExecutor;

/// Runs a plan to its end and reports.
///
/// Cancelling `cancel` ends the run properly: running steps are stopped unless their condition still holds, steps
/// and jobs that want to run after a cancellation run, cleanup runs, the VM is released.
///
/// # Errors
/// The workflow is invalid, or the infrastructure failed. A workflow that fails is a report.
///
/// # Cancel safety
/// Dropping the future stops what runs at once and gives the VMs back; no event is sent any more.
pub async fn run(
    plan: Plan,
    inputs: RunInputs,
    sessions: &SessionManager,
    executor: Arc<dyn CommandExecutor>,
    observer: Arc<dyn RunObserver>,
    cancel: CancellationToken,
) -> Result<RunReport, EngineError> {
    let plan = if inputs.jobs.is_empty() { plan } else { plan.only(&inputs.jobs)? };
    let shared = Shared::new(plan, inputs, executor, observer)?;
    let vm_type = preflight(&shared)?;
    let mut shared = shared;
    let notices = prepare(&shared, possible_jobs(&shared)).await?;
    Arc::make_mut(&mut shared.plan).notices.extend(notices);
    Run::new(Arc::new(shared), sessions, cancel, vm_type).execute().await
}

struct Run<'a> {
    shared: Arc<Shared>,
    commons: Arc<Commons<'a>>,
    scope: Scope<'a>,
    cancel: CancellationToken,
    /// A command of the setup failed.
    setup_failed: bool,
    title: String,
    started_at: DateTime<Utc>,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(
        shared: Arc<Shared>,
        sessions: &'a SessionManager,
        cancel: CancellationToken,
        vm_type: String,
    ) -> Run<'a> {
        // A newer run of its concurrency group may cancel it too.
        let cancel = cancel.child_token();
        let commons = Arc::new(Commons::new(&shared, sessions, vm_type, cancel.clone()));
        Run {
            title: run_title(&shared),
            scope: Scope::new(Arc::clone(&shared), Arc::clone(&commons), cancel.clone()),
            shared,
            commons,
            cancel,
            setup_failed: false,
            started_at: Utc::now(),
            started: Instant::now(),
        }
    }

    async fn execute(mut self) -> Result<RunReport, EngineError> {
        let shared = Arc::clone(&self.shared);
        let started = RunEvent::RunStarted {
            run_id: shared.inputs.run_id,
            workflow: shared.plan.name.clone(),
            title: self.title.clone(),
            at: self.started_at,
        };
        shared.observe(&started).await;
        for message in &shared.plan.notices {
            shared.observe(&RunEvent::Notice { message: message.clone(), at: Utc::now() }).await;
        }
        self.tell_what_has_no_effect().await;
        let (mut message, mut membership) = (None, None);
        let result = match self.enter().await {
            Ok(Entry::In(entered)) => {
                membership = entered;
                self.everything(membership.as_ref()).await
            }
            Ok(Entry::Cancelled) => {
                self.cancel.cancel();
                Ok(())
            }
            Ok(Entry::Impossible(text)) => {
                self.setup_failed = true;
                message = Some(shared.masker.mask(&text));
                Ok(())
            }
            Err(error) => Err(error),
        };
        // What still runs after a fault is stopped by dropping it.
        self.scope.stop();
        let conclusion = match &result {
            Ok(()) => self.conclusion(),
            Err(_) => RunConclusion::InfrastructureFault,
        };
        let message = result.as_ref().err().map(|error| shared.masker.mask(&chain(error))).or(message);
        self.close(conclusion == RunConclusion::Success).await;
        // Others of the group may begin once the VM is gone.
        drop(membership);
        let report = self.report(conclusion, message.clone());
        let duration = report.duration;
        shared.observe(&RunEvent::RunFinished { conclusion, message, duration, at: Utc::now() }).await;
        match result {
            Ok(()) => Ok(report),
            Err(source) => Err(EngineError::Infrastructure { source, report: Box::new(report) }),
        }
    }

    /// Waits for the turn of the run in its concurrency group.
    async fn enter(&mut self) -> Result<Entry> {
        let (shared, contexts) = (&self.shared, &self.shared.contexts.open);
        enter(shared, shared.plan.concurrency.as_ref(), contexts, None, &[], &self.cancel).await
    }

    /// Says which keys of the workflow change nothing in this run.
    async fn tell_what_has_no_effect(&mut self) {
        let plan = &self.shared.plan;
        let has_groups = plan.concurrency.is_some() || plan.all_jobs().any(|job| job.concurrency.is_some());
        let inputs = &self.shared.inputs;
        let mut messages = Vec::new();
        if has_groups && inputs.groups.is_none() {
            messages.push("`concurrency` has no effect: this run was given no place for its groups");
        }
        if !inputs.token.expose().is_empty() && plan.all_jobs().any(|job| job.permissions.is_some()) {
            messages.push(
                "`permissions` does not narrow the token: the jobs get the one that the run was given, but none if \
                 they have no permission at all",
            );
        }
        let takes_turns = self.commons.takes_turns && inputs.parallelism > 1;
        if takes_turns && plan.all_jobs().filter(|job| job.call.is_none()).count() > 1 {
            messages.push("jobs take turns in a VM with a container engine; give each a VM of its own to run them side by side");
        }
        for message in messages {
            self.shared.observe(&RunEvent::Notice { message: message.to_owned(), at: Utc::now() }).await;
        }
    }

    /// Setup, jobs, cleanup.
    async fn everything(&mut self, membership: Option<&Membership>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.scope.hold(membership.map(|it| it.group.clone()).into_iter().collect());
        if !shared.plan.setup.is_empty()
            && let Some(place) = self.commons.place(&shared).await?
        {
            let all_passed = run_commands(&shared, &place, Phase::Setup, &self.cancel).await?;
            self.setup_failed = !all_passed && !self.cancel.is_cancelled();
        }
        if !self.setup_failed {
            self.scope.run().await?;
        }
        if !shared.plan.cleanup.is_empty()
            && let Some(place) = self.commons.known_place().await
        {
            run_commands(&shared, &place, Phase::Cleanup, &CancellationToken::new()).await?;
        }
        Ok(())
    }

    fn conclusion(&self) -> RunConclusion {
        let bad = |result| matches!(result, Conclusion::Failure | Conclusion::Cancelled);
        if self.cancel.is_cancelled() {
            RunConclusion::Cancelled
        } else if self.setup_failed || self.scope.results().any(|(_, result, _)| bad(result)) {
            // A job that is cancelled in a run that is not ran out of time.
            RunConclusion::Failure
        } else {
            RunConclusion::Success
        }
    }

    /// Gives the VM back.
    async fn close(&mut self, success: bool) {
        let Some(place) = self.commons.take_place().await else { return };
        match Arc::try_unwrap(place) {
            Ok(place) => place.close(success).await,
            Err(_) => tracing::error!("a job outlived its run; its VM is given back when it ends"),
        }
    }

    fn report(&mut self, conclusion: RunConclusion, message: Option<String>) -> RunReport {
        let jobs = self.scope.reports();
        let mut vm_ids = self.commons.vm_ids();
        for vm_id in jobs.iter().filter_map(|job| job.vm_id.clone()) {
            if !vm_ids.contains(&vm_id) {
                vm_ids.push(vm_id);
            }
        }
        RunReport {
            run_id: self.shared.inputs.run_id,
            workflow: self.shared.plan.name.clone(),
            title: self.title.clone(),
            conclusion,
            message,
            started_at: self.started_at,
            duration: self.started.elapsed(),
            vm_ids,
            jobs,
        }
    }
}
