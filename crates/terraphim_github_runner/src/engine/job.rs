//! Runs the steps of one job.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Scope, Value};
use terraphim_actions::template::TemplateError;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::action::States;
use super::background::Background;
use super::clock::{Clock, Interruption};
use super::container;
use super::contexts::env_context;
use super::environment;
use super::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use super::expand::ReadyJob;
use super::functions::{Hashes, StepFunctions};
use super::level::{Level, boxed};
use super::masks::{Masks, masked_json};
use super::matchers::KnownMatchers;
use super::place::Place;
use super::plan::PlannedJob;
use super::report::{EnvironmentReport, JobReport, StepReport};
use super::services::JobAccess;
use super::shared::Shared;
use super::step::Task;
use crate::error::Result;

/// A job that runs.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Arc<Place>,
    /// The view its processes run in.
    pub(super) view: Option<String>,
    pub(super) planned: Arc<PlannedJob>,
    pub(super) ready: ReadyJob,
    pub(super) clock: Clock,
    pub(super) masks: Masks,
    /// The variables of the workflow, the job and `GITHUB_ENV`.
    pub(super) env: IndexMap<String, String>,
    /// What steps put before the search path; the last is the first to be searched.
    pub(super) paths: Vec<String>,
    /// The part of `github` that this job adds to.
    pub(super) github: Object,
    /// The context `secrets`.
    pub(super) secrets: Value,
    pub(super) runner: Object,
    /// The list of steps that runs.
    pub(super) level: Level,
    /// What actions keep for their later stages.
    pub(super) states: States,
    /// The number of the step that runs; of the first one that the file has; and how many steps there are as far as is
    /// known.
    pub(super) number: usize,
    first: usize,
    pub(super) of: usize,
    /// `RUNNER_TRACKING_ID`: marks the processes of the job.
    pub(super) tracking_id: Uuid,
    /// How many steps of the engine itself come before all others, and as many after them.
    pub(super) own_steps: usize,
    /// How the job goes so far: success, failure or cancelled.
    pub(super) status: Conclusion,
    pub(super) hashes: Hashes,
    /// A process of this job has started, so its event file is there.
    pub(super) has_event_file: bool,
    /// Something of this job may have changed the workspace.
    pub(super) is_workspace_touched: bool,
    /// How its processes reach the services, once something needed them. An async lock: steps that run beside each
    /// other wait for the one that opens them.
    pub(super) access: Arc<Mutex<Option<JobAccess>>>,
    /// How it is with its containers.
    pub(super) containers: container::State,
    /// Its steps that run beside the others.
    pub(super) background: Background,
    /// The problem matchers that its steps added.
    pub(super) matchers: KnownMatchers,
    /// It is a step in the background of another.
    is_branch: bool,
    started_at: DateTime<Utc>,
    started: Instant,
    annotations: Vec<Annotation>,
    reports: Vec<StepReport>,
}

impl Job {
    /// A job that is about to run in a session.
    pub(super) fn new(
        shared: Arc<Shared>,
        place: Arc<Place>,
        planned: Arc<PlannedJob>,
        ready: ReadyJob,
        cancel: CancellationToken,
    ) -> Job {
        let clock = Clock::start(cancel, ready.limit, ready.grace);
        let masks = Masks::new(shared.masker.clone());
        let mut github = shared.job_github(&planned);
        let secrets = environment::secrets(&shared, &planned, ready.environment.as_ref());
        if environment::has_no_permission(&planned) {
            github.insert("token", "");
        }
        let runner = shared.runner(&ready);
        Job {
            shared,
            place,
            view: None,
            planned,
            ready,
            clock,
            masks,
            env: IndexMap::new(),
            paths: Vec::new(),
            github,
            secrets,
            runner,
            level: Level::default(),
            states: States::new(),
            number: 0,
            first: 1,
            of: 0,
            tracking_id: Uuid::new_v4(),
            own_steps: 0,
            status: Conclusion::Success,
            hashes: Hashes::new(),
            has_event_file: false,
            is_workspace_touched: false,
            access: Arc::default(),
            containers: container::State::None,
            background: Background::new(),
            matchers: KnownMatchers::default(),
            is_branch: false,
            started_at: Utc::now(),
            started: Instant::now(),
            annotations: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// The same job for a step that runs beside its others, until `kill` is cancelled.
    pub(super) fn branch(&self, kill: CancellationToken) -> Job {
        Job {
            shared: Arc::clone(&self.shared),
            place: Arc::clone(&self.place),
            view: self.view.clone(),
            planned: Arc::clone(&self.planned),
            ready: self.ready.clone(),
            clock: self.clock.branch(kill),
            masks: self.masks.clone(),
            env: self.env.clone(),
            paths: self.paths.clone(),
            github: self.github.clone(),
            secrets: self.secrets.clone(),
            runner: self.runner.clone(),
            level: Level { steps: self.level.steps.clone(), ..Level::default() },
            states: States::new(),
            number: self.number,
            first: self.first,
            of: self.of,
            tracking_id: self.tracking_id,
            own_steps: self.own_steps,
            status: self.status,
            hashes: Hashes::new(),
            has_event_file: self.has_event_file,
            is_workspace_touched: true,
            access: Arc::clone(&self.access),
            containers: self.containers.clone(),
            background: Background::new(),
            matchers: self.matchers.clone(),
            is_branch: true,
            started_at: self.started_at,
            started: self.started,
            annotations: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// The VM or its host failed: nothing is known about the job.
    pub(super) async fn run(mut self) -> Result<JobReport> {
        let event = RunEvent::JobStarted {
            job: self.ready.key.clone(),
            name: self.name(),
            vm_id: self.place.session().vm_id.clone(),
            environment: self.ready.environment.as_ref().map(|it| self.masks.mask(&it.name)),
            permissions: environment::permissions(&self.planned),
            at: self.started_at,
        };
        self.shared.observe(&event).await;
        self.hide_environment()?;
        self.make_view().await?;
        match self.job_env().await? {
            Ok(()) => self.with_containers().await?,
            Err(error) => self.fail(self.describe(&error)).await,
        }
        self.end_left().await?;
        self.leave_engine().await?;
        let outputs = self.outputs().await?;
        let environment = self.environment_report().await?;
        Ok(self.finish(outputs, environment).await)
    }

    /// The job fails with a message.
    pub(super) async fn fail(&mut self, text: String) {
        if self.status == Conclusion::Success {
            self.status = Conclusion::Failure;
        }
        self.annotate(AnnotationLevel::Error, text).await;
    }

    /// What actions do before all steps, the steps, and what actions do after them, last first.
    pub(super) async fn all_steps(&mut self) -> Result<()> {
        self.put_actions().await?;
        let planned = Arc::clone(&self.planned);
        let pres: Vec<_> = planned.steps.iter().filter_map(|step| Some((step, self.pre_of(step)?))).collect();
        self.first = self.own_steps + pres.len() + 1;
        self.of = self.own_steps + pres.len() + planned.steps.len() + self.own_steps;
        for (number, (step, pre)) in (self.own_steps + 1..).zip(pres) {
            let report = self.step(step, &Task::Pre(pre), number).await?;
            self.conclude(None, report).await;
        }
        for (index, step) in planned.steps.iter().enumerate() {
            if step.background {
                self.start_in_background(index);
                continue;
            }
            let report = self.main_step(index).await?;
            self.conclude(Some(index), report).await;
        }
        self.end_background().await?;
        let before = self.of - self.own_steps;
        self.of += self.level.posts.len();
        for number in before + 1.. {
            let Some(post) = self.level.posts.pop() else { break };
            let step = post.step.clone();
            let report = self.step(&step, &Task::Post(Box::new(post)), number).await?;
            self.conclude(None, report).await;
        }
        Ok(())
    }

    /// Runs the step with this index.
    pub(super) async fn main_step(&mut self, index: usize) -> Result<StepReport> {
        let planned = Arc::clone(&self.planned);
        self.step(&planned.steps[index], &Task::Main, self.first + index).await
    }

    /// The error with its file and place.
    pub(super) fn describe(&self, error: &TemplateError) -> String {
        match &self.level.composite {
            Some(composite) if error.span.line > 0 => format!("{} {error}", composite.file),
            _ => self.shared.plan.describe(error),
        }
    }

    fn name(&self) -> String {
        self.masks.mask(&self.ready.name)
    }

    async fn make_view(&mut self) -> Result<()> {
        if !self.shared.executor.capabilities().views || self.mount_for_engine().await? {
            return Ok(());
        }
        let inputs = &self.shared.inputs;
        let name = self.own_name();
        let mounts = inputs.layout.mounts(inputs.repository_name(), &self.ready.key);
        self.shared.executor.create_view(self.place.session(), &name, &mounts).await?;
        self.view = Some(name);
        Ok(())
    }

    /// What the job's things in the guest are called.
    pub(super) fn own_name(&self) -> String {
        format!("job-{}", self.ready.key)
    }

    /// Ends what the steps left running. GitHub's runner does so when the job completes ("Cleaning up orphan processes").
    async fn end_left(&self) -> Result<()> {
        let left = self.shared.executor.end_left(self.place.session(), &self.own_name()).await?;
        if left.is_empty() {
            return Ok(());
        }
        let named = left.iter().map(|process| format!("{} ({})", process.name, process.pid));
        let message = format!(
            "job {}: ended what its steps left running: {}",
            self.name(),
            self.masks.mask(&named.collect::<Vec<_>>().join(", "))
        );
        self.shared.observe(&RunEvent::Notice { message, at: Utc::now() }).await;
        Ok(())
    }

    /// Evaluates `env` of the workflow and of the job.
    async fn job_env(&mut self) -> Result<Result<(), TemplateError>> {
        self.env.clone_from(&self.shared.inputs.env);
        let (shared, planned) = (Arc::clone(&self.shared), Arc::clone(&self.planned));
        for template in [&shared.plan.env, &planned.env].into_iter().flatten() {
            let contexts = self.contexts(&IndexMap::new(), &self.github);
            match self.evaluate(&contexts, |scope| template.text_map(scope)).await? {
                Ok(env) => self.env.extend(env),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// The contexts of a step.
    pub(super) fn contexts(&self, env: &IndexMap<String, String>, github: &Object) -> Object {
        let mut contexts = self.ready.contexts.clone();
        contexts.insert("github", github.clone());
        contexts.insert("runner", self.runner.clone());
        contexts.insert("env", env_context(env));
        contexts.insert("steps", self.level.steps.clone());
        match &self.level.composite {
            None => contexts.insert("secrets", self.secrets.clone()),
            Some(composite) => {
                for name in ["vars", "needs"] {
                    contexts.remove(name);
                }
                contexts.insert("inputs", composite.inputs.clone());
            }
        }
        contexts.insert("job", self.job_context(self.status.name()));
        contexts
    }

    /// Evaluates something of a step; hashes of files are fetched from the guest when they are asked for.
    pub(super) async fn evaluate<T: Send>(
        &mut self,
        contexts: &Object,
        something: impl Fn(&Scope<'_>) -> Result<T, TemplateError> + Send,
    ) -> Result<Result<T, TemplateError>> {
        loop {
            let (result, wanted) = {
                let is_cancelled = self.status == Conclusion::Cancelled;
                let functions = StepFunctions::new(self.own_status(), is_cancelled, &self.hashes);
                let result = something(&Scope::new(contexts, &functions));
                (result, functions.wanted.into_inner())
            };
            match result {
                Err(error) if error.pending && !wanted.is_empty() => {
                    for patterns in wanted {
                        let hash = boxed(|| self.hash_files(&patterns)).await?;
                        self.hashes.insert(patterns, hash);
                    }
                }
                result => return Ok(result),
            }
        }
    }

    /// What `success()` and `failure()` look at: the composite action that runs, or the job.
    fn own_status(&self) -> Conclusion {
        match &self.level.composite {
            Some(composite) if !composite.looks_at_job => composite.status,
            _ => self.status,
        }
    }

    /// Notes that the job is cancelled or out of time, if it is by now; says whether it must stop at once.
    pub(super) async fn must_stop(&mut self) -> bool {
        match self.clock.check() {
            None => false,
            Some(Interruption::Over) => true,
            Some(why) => {
                self.interrupt(why).await;
                false
            }
        }
    }

    /// The job is to end: from now on only what runs after a cancellation runs.
    pub(super) async fn interrupt(&mut self, why: Interruption) {
        self.status = Conclusion::Cancelled;
        if why == Interruption::TimedOut && !self.is_branch {
            let limit = self.ready.limit.as_secs_f64() / self.shared.inputs.timing.minute.as_secs_f64();
            let text = format!(
                "The job ran longer than its limit of {limit} minutes (timeout-minutes) and was stopped."
            );
            self.annotate(AnnotationLevel::Error, text).await;
        }
    }

    /// A message about the job itself.
    pub(super) async fn annotate(&mut self, level: AnnotationLevel, text: String) {
        let annotation = Annotation::new(level, self.masks.mask(&text));
        self.annotations.push(annotation.clone());
        let job = self.ready.key.clone();
        let event = RunEvent::Annotation { job, step: None, annotation, at: Utc::now() };
        self.shared.observe(&event).await;
    }

    /// Takes the result of a step over into the job.
    pub(super) async fn conclude(&mut self, index: Option<usize>, report: StepReport) {
        if report.conclusion == Conclusion::Failure && self.status == Conclusion::Success {
            self.status = Conclusion::Failure;
        }
        self.tell_finished(&report).await;
        self.take(index, report);
    }

    /// Says that a step has ended.
    pub(super) async fn tell_finished(&self, report: &StepReport) {
        let event = RunEvent::StepFinished {
            job: self.ready.key.clone(),
            name: report.name.clone(),
            number: report.number,
            outcome: report.outcome,
            conclusion: report.conclusion,
            exit_code: report.exit_code,
            duration: report.duration,
            at: Utc::now(),
        };
        self.shared.observe(&event).await;
    }

    /// Keeps the report of a step, and shows it to the steps that follow if it is one of the file.
    pub(super) fn take(&mut self, index: Option<usize>, report: StepReport) {
        if let Some(id) = index.and_then(|index| self.planned.steps[index].id.as_deref()) {
            self.level.add(id, &report.outputs, report.outcome, report.conclusion);
        }
        let report = self.masked(report);
        self.reports.push(report);
    }

    /// The report as it may be stored.
    fn masked(&self, mut report: StepReport) -> StepReport {
        let masks = self.masks.read();
        let masked = |(name, value): (String, String)| (masks.mask(&name), masks.mask(&value));
        report.outputs = report.outputs.into_iter().map(masked).collect();
        report
    }

    /// Evaluates `outputs`. Empty ones are left out, and those that hold a secret; all of them if they are too long.
    async fn outputs(&mut self) -> Result<IndexMap<String, String>> {
        let planned = Arc::clone(&self.planned);
        let Some(template) = &planned.outputs else { return Ok(IndexMap::new()) };
        let contexts = self.contexts(&self.env, &self.github);
        let mut outputs = match self.evaluate(&contexts, |scope| template.text_map(scope)).await? {
            Ok(outputs) => outputs,
            Err(error) => {
                if self.status == Conclusion::Success {
                    self.status = Conclusion::Failure;
                }
                self.annotate(AnnotationLevel::Error, self.describe(&error)).await;
                IndexMap::new()
            }
        };
        outputs.retain(|_, value| !value.is_empty());
        let secret = |value: &String| self.masks.finds(value);
        let dropped: Vec<String> =
            outputs.iter().filter(|(_, value)| secret(value)).map(|(name, _)| name.clone()).collect();
        for name in dropped {
            outputs.shift_remove(&name);
            let text = format!("The output {name:?} may hold a secret and is left out.");
            self.annotate(AnnotationLevel::Warning, text).await;
        }
        if let Err(text) = self.shared.output_size.add(&outputs) {
            self.fail(text).await;
            outputs.clear();
        }
        Ok(outputs)
    }

    async fn finish(
        mut self,
        outputs: IndexMap<String, String>,
        environment: Option<EnvironmentReport>,
    ) -> JobReport {
        self.reports.sort_by_key(|report| report.number);
        let tolerated = self.ready.continue_on_error && self.status == Conclusion::Failure;
        let report = JobReport {
            key: self.ready.key.clone(),
            id: self.planned.id.to_string(),
            name: self.name(),
            vm_id: Some(self.place.session().vm_id.clone()),
            matrix: self.ready.matrix.as_ref().map(|matrix| masked_json(&self.masks.read(), matrix)),
            outcome: self.status,
            conclusion: if tolerated { Conclusion::Success } else { self.status },
            kept: false,
            outputs,
            environment,
            permissions: environment::permissions(&self.planned),
            annotations: self.annotations,
            started_at: Some(self.started_at),
            duration: self.started.elapsed(),
            steps: self.reports,
        };
        let event = RunEvent::JobFinished {
            job: report.key.clone(),
            name: report.name.clone(),
            outcome: report.outcome,
            conclusion: report.conclusion,
            outputs: report.outputs.clone(),
            environment_url: report.environment.as_ref().and_then(|it| it.url.clone()),
            duration: report.duration,
            at: Utc::now(),
        };
        self.shared.observe(&event).await;
        report
    }
}
