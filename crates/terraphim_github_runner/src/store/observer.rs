//! The observer that records a run.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::{
    AnnotationRecord, JobEnd, JobStart, LogWriter, RunEnd, RunFiles, RunId, RunStore, StepEnd, StepState,
    StoreError, StoredConclusion,
};
use crate::engine::{
    Annotation, AnnotationLevel, Conclusion, JobKey, Phase, RunEvent, RunObserver, split_lines,
};

/// Records one run as it happens.
///
/// An observer cannot refuse an event, so the first error is kept: the one who executes the run waits for
/// [`failed`](StoreObserver::failed), stops the run, and reports [`error`](StoreObserver::error). After an error
/// nothing more is recorded but the end.
#[derive(Debug)]
pub struct StoreObserver {
    store: RunStore,
    run: RunId,
    files: RunFiles,
    /// Never held across an `.await`: it only guards the map, each job has a lock of its own.
    jobs: Mutex<Jobs>,
    error: OnceLock<StoreError>,
    failed: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    by_key: HashMap<JobKey, Arc<tokio::sync::Mutex<Job>>>,
    count: i64,
    /// Setup and cleanup commands are recorded as a job each.
    commands: Option<JobKey>,
    /// The VM of all jobs, for skipped ones that name none.
    vm_id: Option<String>,
}

#[derive(Debug)]
struct Job {
    number: i64,
    log: LogWriter,
    annotations: i64,
    /// The steps that run, by their numbers.
    open_steps: BTreeMap<i64, OpenStep>,
    /// Whether a step of it failed; what setup and cleanup conclude with.
    has_failure: bool,
}

#[derive(Debug)]
struct OpenStep {
    state: StepState,
    in_background: bool,
}

/// What some events say of steps and is still to be recorded, by the numbers of job and step.
type Steps = BTreeMap<(i64, i64), StepState>;

impl StoreObserver {
    /// Records events of `run`, which was created before.
    #[must_use]
    pub fn new(store: RunStore, run: RunId) -> StoreObserver {
        let files = store.files(run);
        StoreObserver {
            store,
            run,
            files,
            jobs: Mutex::default(),
            error: OnceLock::new(),
            failed: Notify::new(),
        }
    }

    /// Returns when something could not be recorded; never when all is well.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn failed(&self) {
        while self.error.get().is_none() {
            self.failed.notified().await;
        }
    }

    /// The first thing that could not be recorded.
    pub fn error(&self) -> Option<&StoreError> {
        self.error.get()
    }

    /// What the event says of steps is left in `steps`.
    async fn record(&self, event: &RunEvent, steps: &mut Steps) -> Result<(), StoreError> {
        match event {
            RunEvent::RunStarted { .. } | RunEvent::Notice { .. } | RunEvent::ScriptStarted { .. } => Ok(()),
            RunEvent::VmAllocated { vm_id, .. } => {
                self.lock_jobs().vm_id = Some(vm_id.clone());
                Ok(())
            }
            RunEvent::CommandStarted { phase, command, number, at, .. } => {
                let key = self.commands(*phase, *at).await?;
                self.start_step(&key, *number, command, false, *at, steps).await
            }
            RunEvent::CommandFinished { phase, number, outcome, exit_code, at, .. } => {
                let key = phase_key(*phase);
                let end = step_end((*outcome, *outcome), Some(*exit_code), *at);
                self.end_step(&key, *number, None, end, steps).await
            }
            RunEvent::JobStarted { job, name, vm_id, environment, permissions, at } => {
                let start = JobStart {
                    vm_id: Some(vm_id.clone()),
                    environment: environment.clone(),
                    permissions: permissions.as_ref().map(|it| serde_json::json!(it)),
                    ..job_start(job, name, *at)
                };
                self.start_job(job, start).await
            }
            RunEvent::JobSkipped { job, name, conclusion, at } => {
                self.start_job(job, job_start(job, name, *at)).await?;
                self.end_job(job, job_end((*conclusion, *conclusion), *at)).await
            }
            RunEvent::JobKept { job, name, environment, permissions, outcome, conclusion, outputs, at } => {
                let start = JobStart {
                    environment: environment.as_ref().map(|it| it.name.clone()),
                    permissions: permissions.as_ref().map(|it| serde_json::json!(it)),
                    ..job_start(job, name, *at)
                };
                self.start_job(job, start).await?;
                let end = JobEnd {
                    outputs: serde_json::json!(outputs),
                    environment_url: environment.as_ref().and_then(|it| it.url.clone()),
                    ..job_end((*outcome, *conclusion), *at)
                };
                self.end_job(job, end).await
            }
            RunEvent::StepStarted { job, name, number, background, at, .. } => {
                self.start_step(job, *number, name, *background, *at, steps).await
            }
            RunEvent::Output { job, step, text, at } => {
                self.output(job.as_ref(), Some(*step), text, *at).await
            }
            RunEvent::GroupStart { job, name, at, .. } => {
                self.output(Some(job), None, format!("##[group]{name}\n").as_bytes(), *at).await
            }
            RunEvent::GroupEnd { job, at, .. } => self.output(Some(job), None, b"##[endgroup]\n", *at).await,
            RunEvent::Annotation { job, step, annotation, .. } => self.annotate(job, *step, annotation).await,
            RunEvent::Summary { job, step, text, .. } => self.summary(job, *step, text).await,
            RunEvent::StepFinished { job, name, number, outcome, conclusion, exit_code, at, .. } => {
                let end = step_end((*outcome, *conclusion), *exit_code, *at);
                self.end_step(job, *number, Some(name), end, steps).await
            }
            RunEvent::JobFinished { job, outcome, conclusion, outputs, environment_url, at, .. } => {
                let end = JobEnd {
                    outputs: serde_json::json!(outputs),
                    environment_url: environment_url.clone(),
                    ..job_end((*outcome, *conclusion), *at)
                };
                self.end_job(job, end).await
            }
            RunEvent::RunFinished { conclusion, message, at, .. } => {
                self.end_commands(*at).await?;
                self.finish((*conclusion).into(), message.clone(), *at).await
            }
        }
    }

    /// Records the end of the run if it has none yet: for a run that ended without saying so.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn finish(
        &self,
        conclusion: StoredConclusion,
        error: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.store.end_run(self.run, &RunEnd { conclusion, error, at_ms: at.timestamp_millis() }).await
    }

    /// The number of `start` is given here.
    async fn start_job(&self, key: &JobKey, start: JobStart) -> Result<(), StoreError> {
        let number = {
            let mut jobs = self.lock_jobs();
            jobs.count += 1;
            jobs.count
        };
        let log = LogWriter::open(&self.files.log(number))?;
        self.store.start_job(self.run, &JobStart { number, ..start }).await?;
        let job = Job { number, log, annotations: 0, open_steps: BTreeMap::new(), has_failure: false };
        self.lock_jobs().by_key.insert(key.clone(), Arc::new(tokio::sync::Mutex::new(job)));
        Ok(())
    }

    /// The number of `end` is that of the job.
    async fn end_job(&self, key: &JobKey, end: JobEnd) -> Result<(), StoreError> {
        let Some(job) = self.lock_jobs().by_key.remove(key) else { return Ok(()) };
        let mut job = job.lock().await;
        job.log.sync().await?;
        self.store.end_job(self.run, &JobEnd { number: job.number, ..end }).await
    }

    async fn start_step(
        &self,
        key: &JobKey,
        number: usize,
        name: &str,
        in_background: bool,
        at: DateTime<Utc>,
        steps: &mut Steps,
    ) -> Result<(), StoreError> {
        let Some(job) = self.job(key) else { return Ok(()) };
        let mut job = job.lock().await;
        let state = job.step(number, name, at.timestamp_millis());
        steps.insert((state.job, state.number), state.clone());
        job.open_steps.insert(state.number, OpenStep { state, in_background });
        Ok(())
    }

    /// `name` is given when the step may never have begun. Where the log of `end` ends is known here.
    async fn end_step(
        &self,
        key: &JobKey,
        number: usize,
        name: Option<&str>,
        end: StepEnd,
        steps: &mut Steps,
    ) -> Result<(), StoreError> {
        let Some(job) = self.job(key) else { return Ok(()) };
        let mut job = job.lock().await;
        let open = job.open_steps.remove(&i64::try_from(number).unwrap_or(i64::MAX)).map(|open| open.state);
        let Some(state) = open.or_else(|| Some(job.step(number, name?, end.at_ms))) else { return Ok(()) };
        job.has_failure |= end.conclusion == StoredConclusion::Failure;
        job.log.sync().await?;
        let end = Some(StepEnd { log_end: job.log.offset(), ..end });
        steps.insert((state.job, state.number), StepState { end, ..state });
        Ok(())
    }

    /// Records `steps` and leaves none, unless something could not be recorded before.
    async fn write(&self, steps: &mut Steps) {
        let steps: Vec<StepState> = std::mem::take(steps).into_values().collect();
        if self.error.get().is_none() {
            self.keep(self.store.record_steps(self.run, &steps).await);
        }
    }

    /// Keeps the first error.
    fn keep(&self, result: Result<(), StoreError>) {
        if let Err(error) = result
            && self.error.set(error).is_ok()
        {
            // A permit is kept for a waiter that comes later.
            self.failed.notify_one();
        }
    }

    /// Lines of a step in the background name it, because they come between those of other steps.
    async fn output(
        &self,
        key: Option<&JobKey>,
        step: Option<usize>,
        text: &[u8],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let key = key.cloned().or_else(|| self.lock_jobs().commands.clone());
        let Some(job) = key.and_then(|key| self.job(&key)) else { return Ok(()) };
        let mut job = job.lock().await;
        let at_ms = at.timestamp_millis();
        let place = step.and_then(|step| i64::try_from(step).ok());
        let background = place.filter(|step| job.open_steps.get(step).is_some_and(|open| open.in_background));
        for line in split_lines(text) {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match background {
                Some(step) => job.log.line(at_ms, &[format!("[{step}] ").as_bytes(), line].concat())?,
                None => job.log.line(at_ms, line)?,
            }
        }
        job.log.flush()
    }

    async fn annotate(
        &self,
        key: &JobKey,
        step: Option<usize>,
        annotation: &Annotation,
    ) -> Result<(), StoreError> {
        let Some(job) = self.job(key) else { return Ok(()) };
        let mut job = job.lock().await;
        job.annotations += 1;
        let record = AnnotationRecord {
            step: step.and_then(|step| i64::try_from(step).ok()),
            level: level_name(annotation.level).to_owned(),
            title: annotation.title.clone(),
            message: annotation.message.clone(),
            file: annotation.file.clone(),
            line: annotation.line.map(i64::from),
            end_line: annotation.end_line.map(i64::from),
            col: annotation.col.map(i64::from),
            end_column: annotation.end_col.map(i64::from),
        };
        self.store.annotate(self.run, job.number, job.annotations, &record).await
    }

    async fn summary(&self, key: &JobKey, step: usize, text: &str) -> Result<(), StoreError> {
        let Some(job) = self.job(key) else { return Ok(()) };
        let job = job.lock().await;
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.store.set_summary(self.run, job.number, step, text).await
    }

    /// The job that stands for the commands of `phase`; starts it when it is new.
    async fn commands(&self, phase: Phase, at: DateTime<Utc>) -> Result<JobKey, StoreError> {
        let key = phase_key(phase);
        let open = self.lock_jobs().commands.clone();
        if open.as_ref() != Some(&key) {
            self.end_commands(at).await?;
            let vm_id = self.lock_jobs().vm_id.clone();
            let start = JobStart { vm_id, ..job_start(&key, &key.to_string(), at) };
            self.start_job(&key, start).await?;
            self.lock_jobs().commands = Some(key.clone());
        }
        Ok(key)
    }

    async fn end_commands(&self, at: DateTime<Utc>) -> Result<(), StoreError> {
        let Some(key) = self.lock_jobs().commands.take() else { return Ok(()) };
        let Some(job) = self.job(&key) else { return Ok(()) };
        let conclusion = if job.lock().await.has_failure { Conclusion::Failure } else { Conclusion::Success };
        self.end_job(&key, job_end((conclusion, conclusion), at)).await
    }

    fn job(&self, key: &JobKey) -> Option<Arc<tokio::sync::Mutex<Job>>> {
        self.lock_jobs().by_key.get(key).cloned()
    }

    fn lock_jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        // A panic cannot leave the map half changed: every change is one call.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RunObserver for StoreObserver {
    async fn observe(&self, event: &RunEvent) {
        self.observe_all(std::slice::from_ref(event)).await;
    }

    async fn observe_all(&self, events: &[RunEvent]) {
        let mut steps = Steps::new();
        for event in events {
            if !is_of_steps(event) {
                self.write(&mut steps).await;
            }
            if self.error.get().is_none() || matches!(event, RunEvent::RunFinished { .. }) {
                self.keep(self.record(event, &mut steps).await);
            }
        }
        self.write(&mut steps).await;
    }
}

impl Job {
    /// A step that starts here and now.
    fn step(&self, number: usize, name: &str, at_ms: i64) -> StepState {
        StepState {
            job: self.number,
            number: i64::try_from(number).unwrap_or(i64::MAX),
            name: name.to_owned(),
            log_start: self.log.offset(),
            started_at_ms: at_ms,
            end: None,
        }
    }
}

/// Whether it changes no rows but those of steps.
fn is_of_steps(event: &RunEvent) -> bool {
    use RunEvent::{GroupEnd, GroupStart, Notice, Output, ScriptStarted, StepFinished, StepStarted};
    matches!(
        event,
        StepStarted { .. }
            | StepFinished { .. }
            | Output { .. }
            | GroupStart { .. }
            | GroupEnd { .. }
            | ScriptStarted { .. }
            | Notice { .. }
    )
}

/// A step that ended.
fn step_end(
    (outcome, conclusion): (Conclusion, Conclusion),
    exit_code: Option<i32>,
    at: DateTime<Utc>,
) -> StepEnd {
    StepEnd {
        outcome: outcome.into(),
        conclusion: conclusion.into(),
        exit_code: exit_code.map(i64::from),
        log_end: 0,
        at_ms: at.timestamp_millis(),
    }
}

/// A job that starts, without what only jobs of a workflow have.
fn job_start(key: &JobKey, name: &str, at: DateTime<Utc>) -> JobStart {
    JobStart {
        number: 0,
        key: key.to_string(),
        name: name.to_owned(),
        vm_id: None,
        environment: None,
        permissions: None,
        at_ms: at.timestamp_millis(),
    }
}

/// A job that ended and gave nothing.
fn job_end((outcome, conclusion): (Conclusion, Conclusion), at: DateTime<Utc>) -> JobEnd {
    JobEnd {
        number: 0,
        outcome: outcome.into(),
        conclusion: conclusion.into(),
        outputs: serde_json::json!({}),
        environment_url: None,
        at_ms: at.timestamp_millis(),
    }
}

/// GitHub's job ids have no parentheses, so these are nobody's.
fn phase_key(phase: Phase) -> JobKey {
    match phase {
        Phase::Setup => JobKey::new("(setup)", None),
        Phase::Cleanup => JobKey::new("(cleanup)", None),
    }
}

/// The word in the database, which is also GitHub's command.
fn level_name(level: AnnotationLevel) -> &'static str {
    match level {
        AnnotationLevel::Notice => "notice",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Error => "error",
    }
}
