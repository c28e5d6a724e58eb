//! The jobs of one workflow: the thin half of [`graph`](super::graph), which decides.
//!
//! A called workflow is a scope of its own inside the job that calls it; see [`call`](super::call).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::Utc;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indexmap::IndexMap;
use terraphim_actions::expr::Object;
use tokio_util::sync::CancellationToken;

use super::call::run_call;
use super::commons::Commons;
use super::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use super::expand::{self, ExpandError, Needed, ReadyJob, Rules};
use super::functions::JobFunctions;
use super::graph::{Action, End, Event, Expansion, Graph, Instance};
use super::kept::Earlier;
use super::place::run_job;
use super::report::JobReport;
use super::shared::Shared;
use crate::error::Result;

type Running<'a> = Pin<Box<dyn Future<Output = (Instance, Result<Ended>)> + Send + 'a>>;

/// How a job ended: one with steps, or all jobs of a workflow that it called.
pub(super) struct Ended {
    pub(super) end: End,
    /// What jobs that need it see.
    pub(super) outputs: IndexMap<String, String>,
    /// Nothing of it has run in this run.
    pub(super) is_kept: bool,
    pub(super) reports: Vec<JobReport>,
}

impl From<JobReport> for Ended {
    fn from(report: JobReport) -> Ended {
        let end = End { outcome: report.outcome, conclusion: report.conclusion };
        Ended { end, outputs: report.outputs.clone(), is_kept: report.kept, reports: vec![report] }
    }
}

/// What is known of a job of the plan.
#[derive(Default)]
struct Known {
    contexts: Object,
    ready: Vec<ReadyJob>,
    /// By instance.
    reports: Vec<Vec<JobReport>>,
    /// Of all its instances; the last that has a value wins.
    outputs: IndexMap<String, String>,
    /// Nothing that it needs is fresh.
    keeps: bool,
    /// Something of it ran or was decided in this run, so that what needs it is not kept.
    is_fresh: bool,
}

/// The jobs of one workflow.
pub(super) struct Scope<'a> {
    pub(super) shared: Arc<Shared>,
    commons: Arc<Commons<'a>>,
    cancel: CancellationToken,
    is_cancelled: bool,
    graph: Graph,
    jobs: Vec<Known>,
    running: FuturesUnordered<Running<'a>>,
    tokens: HashMap<Instance, CancellationToken>,
    /// The concurrency groups of what the jobs are part of.
    held: Arc<[String]>,
    /// Jobs that ended well in the run that this one repeats may be kept.
    keeps: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        shared: Arc<Shared>,
        commons: Arc<Commons<'a>>,
        cancel: CancellationToken,
    ) -> Scope<'a> {
        let needs = shared.plan.jobs.iter().map(|job| job.needs.clone()).collect();
        Scope {
            graph: Graph::new(needs),
            jobs: shared.plan.jobs.iter().map(|_| Known::default()).collect(),
            shared,
            commons,
            cancel,
            is_cancelled: false,
            running: FuturesUnordered::new(),
            tokens: HashMap::new(),
            held: Arc::from([]),
            keeps: true,
        }
    }

    /// What the jobs are part of is in these concurrency groups.
    pub(super) fn hold(&mut self, held: Arc<[String]>) {
        self.held = held;
    }

    /// Whether jobs that ended well in the run that this one repeats may be kept.
    pub(super) fn keep(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// Nothing has run: all jobs are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.jobs.iter().all(|job| !job.is_fresh)
    }

    /// Runs all jobs.
    pub(super) async fn run(&mut self) -> Result<()> {
        let mut queue: VecDeque<Action> = self.graph.next(Event::Begin).into();
        loop {
            while let Some(action) = queue.pop_front() {
                if action == Action::Finish {
                    return Ok(());
                }
                if let Some(event) = self.act(action).await {
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

    /// Stops what still runs at once.
    pub(super) fn stop(&mut self) {
        self.running.clear();
    }

    /// The reports of all jobs, in the order of the file.
    pub(super) fn reports(&mut self) -> Vec<JobReport> {
        self.jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.reports)).flatten().collect()
    }

    /// How every job ended that has, with what it gave.
    pub(super) fn results(&self) -> impl Iterator<Item = (&str, Conclusion, &IndexMap<String, String>)> {
        let jobs = self.shared.plan.jobs.iter().zip(&self.jobs).enumerate();
        jobs.filter_map(|(job, (planned, known))| {
            Some((&*planned.id, self.graph.result(job)?, &known.outputs))
        })
    }

    /// Carries an action out; gives the event that it answers with, if it does at once.
    async fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Expand(job) => Some(self.expand(job).await),
            Action::Start(instance) => {
                self.start(instance);
                None
            }
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
        }
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
        self.jobs[job].keeps = self.keeps && planned.needs.iter().all(|need| !self.jobs[*need].is_fresh);
        let condition = match self.earlier(job) {
            Earlier::Skipped => {
                self.skip(job, Conclusion::Skipped).await;
                return Event::Skipped(job);
            }
            // It held then, whatever it asks for: the attempt, say.
            Earlier::Began if !self.is_cancelled => Ok(true),
            Earlier::Began | Earlier::Unknown => self.condition(job, self.is_cancelled),
        };
        let expanded = match condition {
            Ok(false) => {
                self.jobs[job].is_fresh = true;
                self.skip(job, Conclusion::Skipped).await;
                return Event::Skipped(job);
            }
            Ok(true) => expand::expand(planned, &self.jobs[job].contexts, rules(&shared)),
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
                self.jobs[job].reports = vec![Vec::new(); expansion.instances];
                self.jobs[job].ready = expanded.jobs;
                Event::Expanded(job, expansion)
            }
            Err(error) => {
                self.invalid(job, &error).await;
                Event::Invalid(job)
            }
        }
    }

    /// What became of a job in the run that this one repeats, as far as it counts.
    fn earlier(&self, job: usize) -> Earlier {
        if !self.jobs[job].keeps {
            return Earlier::Unknown;
        }
        let whole = self.shared.caller.key(&self.shared.plan.jobs[job].id, None);
        Earlier::of(&self.shared.inputs.kept, &whole)
    }

    fn needed<'s>(&'s self, shared: &'s Shared, need: usize) -> Needed<'s> {
        Needed {
            id: &shared.plan.jobs[need].id,
            result: self.graph.result(need).unwrap_or(Conclusion::Skipped),
            outputs: &self.jobs[need].outputs,
        }
    }

    fn start(&mut self, instance: Instance) {
        let token = CancellationToken::new();
        self.tokens.insert(instance, token.clone());
        let (shared, commons) = (Arc::clone(&self.shared), Arc::clone(&self.commons));
        let held = Arc::clone(&self.held);
        let keeps = self.jobs[instance.job].keeps;
        let ready = self.jobs[instance.job].ready[instance.index].clone();
        let planned = Arc::new(shared.plan.jobs[instance.job].clone());
        self.running.push(Box::pin(async move {
            let kept = if keeps && planned.call.is_none() { shared.kept(&ready) } else { None };
            let ended = match (kept, planned.call.clone()) {
                (Some(kept), _) => Ok(shared.keep(&planned, &ready, kept).await.into()),
                (None, Some(call)) => {
                    run_call(shared, commons, call, planned, ready, (token, held, keeps)).await
                }
                (None, None) => {
                    run_job(shared, &commons, planned, ready, (token, held)).await.map(Ended::from)
                }
            };
            (instance, ended)
        }));
    }

    /// Notes how an instance ended.
    fn note(&mut self, instance: Instance, ended: Ended) -> End {
        let known = &mut self.jobs[instance.job];
        known.is_fresh |= !ended.is_kept;
        known.outputs.extend(ended.outputs);
        known.reports[instance.index] = ended.reports;
        ended.end
    }

    /// An instance that never started.
    async fn drop_queued(&mut self, instance: Instance) {
        let ready = &self.jobs[instance.job].ready[instance.index];
        let id = &self.shared.plan.jobs[instance.job].id;
        let report = JobReport::not_run(ready.key.clone(), id, &ready.name, Conclusion::Cancelled);
        let report = self.shared.tell_not_run(report).await;
        self.note(instance, report.into());
    }

    async fn skip(&mut self, job: usize, conclusion: Conclusion) {
        let report = self.shared.tell_not_run(self.whole(job, conclusion)).await;
        self.jobs[job].reports = vec![vec![report]];
    }

    /// A job that cannot be made out of its expressions.
    async fn invalid(&mut self, job: usize, error: &ExpandError) {
        let text = match error {
            ExpandError::Template(error) => self.shared.plan.describe(error),
            ExpandError::RunsOn { .. } => error.to_string(),
        };
        self.jobs[job].is_fresh = true;
        let report = self.whole(job, Conclusion::Failure);
        let report = self.shared.tell_broken(report, &text).await;
        self.jobs[job].reports = vec![vec![report]];
    }

    /// A report for a job as a whole, without its matrix.
    fn whole(&self, job: usize, conclusion: Conclusion) -> JobReport {
        let planned = &self.shared.plan.jobs[job];
        // GitHub shows what is written: nothing is evaluated for a job that does not begin (actions/runner, issue 952).
        let name = planned.name.written();
        let name = self.shared.caller.name(if name.trim().is_empty() { &planned.id } else { &name });
        JobReport::not_run(self.shared.caller.key(&planned.id, None), &planned.id, &name, conclusion)
    }
}

impl Shared {
    /// Says that a job is not run.
    pub(super) async fn tell_not_run(&self, mut report: JobReport) -> JobReport {
        report.name = self.masker.mask(&report.name);
        let event = RunEvent::JobSkipped {
            job: report.key.clone(),
            name: report.name.clone(),
            conclusion: report.conclusion,
            at: Utc::now(),
        };
        self.observe(&event).await;
        report
    }

    /// Says that a job is not run, and why it cannot be.
    pub(super) async fn tell_broken(&self, mut report: JobReport, text: &str) -> JobReport {
        let annotation = Annotation::new(AnnotationLevel::Error, self.masker.mask(text));
        report.annotations.push(annotation.clone());
        let (job, at) = (report.key.clone(), Utc::now());
        self.observe(&RunEvent::Annotation { job, step: None, annotation, at }).await;
        self.tell_not_run(report).await
    }
}

/// What a run decides about its jobs.
pub(super) fn rules(shared: &Shared) -> Rules<'_> {
    let inputs = &shared.inputs;
    Rules {
        matrix: &inputs.matrix,
        vm_types: &inputs.vm_types,
        timing: &inputs.timing,
        caller: &shared.caller,
        environments: &inputs.environments,
    }
}
