//! Runs a plan: the thin half of [`graph`](super::graph), which decides.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indexmap::IndexMap;
use terraphim_actions::expr::Object;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::around::run_commands;
use super::error::EngineError;
use super::event::{
    Annotation, AnnotationLevel, Conclusion, JobKey, Phase, RunConclusion, RunEvent, RunObserver,
};
use super::expand::{self, ExpandError, Needed, ReadyJob, Rules};
use super::functions::JobFunctions;
use super::graph::{Action, End, Event, Expansion, Graph, Instance};
use super::inputs::{Isolation, RunInputs};
use super::place::{Place, open};
use super::plan::Plan;
use super::preflight::{preflight, run_title};
use super::report::{JobReport, RunReport};
use super::shared::Shared;
use crate::error::{Result, chain};
use crate::session::{SessionManager, SessionState};
use crate::workflow::CommandExecutor;

type Running<'a> = Pin<Box<dyn Future<Output = (Instance, Result<JobReport>)> + Send + 'a>>;

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
    let run = Run::new(Arc::new(shared), sessions, cancel, vm_type);
    run.execute().await
}

/// What is known of a job of the plan.
#[derive(Default)]
struct Known {
    contexts: Object,
    ready: Vec<ReadyJob>,
    /// By instance.
    reports: Vec<Option<JobReport>>,
    /// Of all its instances; the last that has a value wins.
    outputs: IndexMap<String, String>,
}

struct Run<'a> {
    shared: Arc<Shared>,
    sessions: &'a SessionManager,
    cancel: CancellationToken,
    is_cancelled: bool,
    vm_type: String,
    graph: Graph,
    jobs: Vec<Known>,
    running: FuturesUnordered<Running<'a>>,
    tokens: HashMap<Instance, CancellationToken>,
    /// The VM that all jobs share, once something needs it.
    place: Option<Arc<Place>>,
    vm_ids: Vec<String>,
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
        let needs = shared.plan.jobs.iter().map(|job| job.needs.clone()).collect();
        // Without views of their own, jobs would work in each other's files.
        let shares = shared.inputs.isolation == Isolation::Workflow && !shared.executor.capabilities().views;
        let limit = if shares { 1 } else { shared.inputs.parallelism };
        Run {
            graph: Graph::new(needs, limit),
            jobs: shared.plan.jobs.iter().map(|_| Known::default()).collect(),
            title: run_title(&shared),
            shared,
            sessions,
            cancel,
            is_cancelled: false,
            vm_type,
            running: FuturesUnordered::new(),
            tokens: HashMap::new(),
            place: None,
            vm_ids: Vec::new(),
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
        let result = self.everything().await;
        // What still runs after a fault is stopped by dropping it.
        self.running.clear();
        let conclusion = match &result {
            Ok(()) => self.conclusion(),
            Err(_) => RunConclusion::InfrastructureFault,
        };
        let message = result.as_ref().err().map(|error| shared.masker.mask(&chain(error)));
        self.close(conclusion == RunConclusion::Success).await;
        let report = self.report(conclusion, message.clone());
        let duration = report.duration;
        shared.observe(&RunEvent::RunFinished { conclusion, message, duration, at: Utc::now() }).await;
        match result {
            Ok(()) => Ok(report),
            Err(source) => Err(EngineError::Infrastructure { source, report: Box::new(report) }),
        }
    }

    /// Setup, jobs, cleanup.
    async fn everything(&mut self) -> Result<()> {
        if !self.shared.plan.setup.is_empty()
            && let Some(place) = self.place().await?
        {
            let all_passed = run_commands(&self.shared, &place, Phase::Setup, &self.cancel).await?;
            self.setup_failed = !all_passed && !self.cancel.is_cancelled();
        }
        if !self.setup_failed {
            self.all_jobs().await?;
        }
        if let Some(place) = self.place.clone().filter(|_| !self.shared.plan.cleanup.is_empty()) {
            run_commands(&self.shared, &place, Phase::Cleanup, &CancellationToken::new()).await?;
        }
        Ok(())
    }

    async fn all_jobs(&mut self) -> Result<()> {
        let mut queue: VecDeque<Action> = self.graph.next(Event::Begin).into();
        loop {
            while let Some(action) = queue.pop_front() {
                if action == Action::Finish {
                    return Ok(());
                }
                if let Some(event) = self.act(action).await? {
                    queue.extend(self.graph.next(event));
                }
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled(), if !self.is_cancelled => {
                    self.is_cancelled = true;
                    queue.extend(self.graph.next(Event::Cancel));
                }
                Some((instance, result)) = self.running.next() => {
                    let end = self.note(instance, result?);
                    queue.extend(self.graph.next(Event::Ended(instance, end)));
                }
            }
        }
    }

    /// Carries an action out; gives the event that it answers with, if it does at once.
    async fn act(&mut self, action: Action) -> Result<Option<Event>> {
        Ok(match action {
            Action::Expand(job) => Some(self.expand(job).await),
            Action::Start(instance) => self.start(instance).await?,
            Action::Stop(instance) => {
                if let Some(token) = self.tokens.get(&instance) {
                    token.cancel();
                }
                None
            }
            Action::Drop(instance) => {
                self.drop_queued(instance).await;
                None
            }
            Action::Reconsider(job) => {
                let holds = self.condition(job, true).unwrap_or(false);
                (!holds).then_some(Event::CancelJob(job))
            }
            Action::Finish => None,
        })
    }

    fn condition(&self, job: usize, cancelled: bool) -> Result<bool, ExpandError> {
        let ancestors: Vec<(&str, Conclusion)> = self
            .graph
            .ancestors(job)
            .into_iter()
            .filter_map(|need| Some((&*self.shared.plan.jobs[need].id, self.graph.result(need)?)))
            .collect();
        let functions = JobFunctions { before: &ancestors, cancelled };
        Ok(expand::condition(&self.shared.plan.jobs[job], &self.jobs[job].contexts, &functions)?)
    }

    async fn expand(&mut self, job: usize) -> Event {
        let shared = Arc::clone(&self.shared);
        let planned = &shared.plan.jobs[job];
        let needs: Vec<Needed<'_>> = planned.needs.iter().map(|need| self.needed(&shared, *need)).collect();
        self.jobs[job].contexts = expand::job_contexts(&shared.contexts, &needs);
        let expanded = match self.condition(job, self.is_cancelled) {
            Ok(false) => {
                self.skip(job, Conclusion::Skipped).await;
                return Event::Skipped(job);
            }
            Ok(true) => expand::expand(planned, &self.jobs[job].contexts, rules(&shared.inputs)),
            Err(error) => Err(error),
        };
        match expanded {
            Ok(expanded) => {
                let strategy = expanded.strategy;
                let expansion = Expansion {
                    instances: expanded.jobs.len(),
                    fail_fast: strategy.fail_fast,
                    max_parallel: strategy.max_parallel.map(|most| most as usize),
                };
                self.jobs[job].reports = vec![None; expansion.instances];
                self.jobs[job].ready = expanded.jobs;
                Event::Expanded(job, expansion)
            }
            Err(error) => {
                self.invalid(job, &error).await;
                Event::Invalid(job)
            }
        }
    }

    fn needed<'s>(&'s self, shared: &'s Shared, need: usize) -> Needed<'s> {
        Needed {
            id: &shared.plan.jobs[need].id,
            result: self.graph.result(need).unwrap_or(Conclusion::Skipped),
            outputs: &self.jobs[need].outputs,
        }
    }

    /// Starts an instance; an event if it ended at once because the run was cancelled meanwhile.
    async fn start(&mut self, instance: Instance) -> Result<Option<Event>> {
        let shared = Arc::clone(&self.shared);
        let place = match shared.inputs.isolation {
            Isolation::Job => None,
            Isolation::Workflow => match self.place().await? {
                Some(place) => Some(place),
                None => {
                    self.drop_queued(instance).await;
                    let end = End { outcome: Conclusion::Cancelled, conclusion: Conclusion::Cancelled };
                    return Ok(Some(Event::Ended(instance, end)));
                }
            },
        };
        let token = CancellationToken::new();
        self.tokens.insert(instance, token.clone());
        let ready = self.jobs[instance.job].ready[instance.index].clone();
        let planned = Arc::new(shared.plan.jobs[instance.job].clone());
        let sessions = self.sessions;
        self.running.push(Box::pin(async move {
            (instance, super::place::run_job(shared, sessions, place, planned, ready, token).await)
        }));
        Ok(None)
    }

    /// The VM that the jobs share; `None` if the run was cancelled before there was one.
    async fn place(&mut self) -> Result<Option<Arc<Place>>> {
        if let Some(place) = &self.place {
            return Ok(Some(Arc::clone(place)));
        }
        let place = open(&self.shared, self.sessions, &self.vm_type, None, &self.cancel).await?;
        let place = place.map(Arc::new);
        if let Some(place) = &place {
            self.vm_ids.push(place.session().vm_id.clone());
            place.lease.enter(SessionState::Executing)?;
        }
        self.place.clone_from(&place);
        Ok(place)
    }

    /// Notes the report of an instance.
    fn note(&mut self, instance: Instance, report: JobReport) -> End {
        let end = End { outcome: report.outcome, conclusion: report.conclusion };
        let known = &mut self.jobs[instance.job];
        known.outputs.extend(report.outputs.iter().map(|(name, value)| (name.clone(), value.clone())));
        known.reports[instance.index] = Some(report);
        end
    }

    /// An instance that never started.
    async fn drop_queued(&mut self, instance: Instance) {
        let ready = &self.jobs[instance.job].ready[instance.index];
        let id = &self.shared.plan.jobs[instance.job].id;
        let report = JobReport::not_run(ready.key.clone(), id, &ready.name, Conclusion::Cancelled);
        self.tell_not_run(&report).await;
        self.note(instance, report);
    }

    async fn skip(&mut self, job: usize, conclusion: Conclusion) {
        let report = self.whole(job, conclusion);
        self.tell_not_run(&report).await;
        self.jobs[job].reports = vec![Some(report)];
    }

    /// A job that cannot be made out of its expressions.
    async fn invalid(&mut self, job: usize, error: &ExpandError) {
        let text = match error {
            ExpandError::Template(error) => self.shared.plan.describe(error),
            ExpandError::Label { .. } => error.to_string(),
        };
        let annotation = Annotation::new(AnnotationLevel::Error, self.shared.masker.mask(&text));
        let mut report = self.whole(job, Conclusion::Failure);
        report.annotations.push(annotation.clone());
        let (key, at) = (report.key.clone(), Utc::now());
        self.shared.observe(&RunEvent::Annotation { job: key, step: None, annotation, at }).await;
        self.tell_not_run(&report).await;
        self.jobs[job].reports = vec![Some(report)];
    }

    /// A report for a job as a whole, without its matrix.
    fn whole(&self, job: usize, conclusion: Conclusion) -> JobReport {
        let planned = &self.shared.plan.jobs[job];
        let name = planned.name.literal_text().filter(|name| !name.is_empty());
        let name = name.as_deref().unwrap_or(&planned.id);
        JobReport::not_run(JobKey::new(&planned.id, None), &planned.id, name, conclusion)
    }

    async fn tell_not_run(&mut self, report: &JobReport) {
        let event = RunEvent::JobSkipped {
            job: report.key.clone(),
            name: self.shared.masker.mask(&report.name),
            conclusion: report.conclusion,
            at: Utc::now(),
        };
        self.shared.observe(&event).await;
    }

    fn conclusion(&self) -> RunConclusion {
        let results = (0..self.jobs.len()).filter_map(|job| self.graph.result(job));
        let bad = |result| matches!(result, Conclusion::Failure | Conclusion::Cancelled);
        if self.cancel.is_cancelled() {
            RunConclusion::Cancelled
        } else if self.setup_failed || results.into_iter().any(bad) {
            // A job that is cancelled in a run that is not ran out of time.
            RunConclusion::Failure
        } else {
            RunConclusion::Success
        }
    }

    /// Gives the VM back.
    async fn close(&mut self, success: bool) {
        let Some(place) = self.place.take() else { return };
        match Arc::try_unwrap(place) {
            Ok(place) => place.close(success).await,
            Err(_) => tracing::error!("a job outlived its run; its VM is given back when it ends"),
        }
    }

    fn report(&mut self, conclusion: RunConclusion, message: Option<String>) -> RunReport {
        let jobs: Vec<JobReport> =
            self.jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.reports)).flatten().collect();
        let mut vm_ids = std::mem::take(&mut self.vm_ids);
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

/// What a run decides about its jobs.
pub(super) fn rules(inputs: &RunInputs) -> Rules<'_> {
    Rules { matrix: &inputs.matrix, vm_types: &inputs.vm_types, timing: &inputs.timing }
}
