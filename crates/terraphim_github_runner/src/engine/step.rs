//! Runs one step.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Value};
use terraphim_actions::template::{Template, TemplateError};
use tokio::time::Instant;

use super::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use super::job::Job;
use super::output::{Place, StepOutput};
use super::plan::{PlannedJob, PlannedStep, StepLimit, Work};
use super::report::StepReport;
use super::script::ScriptRun;
use crate::error::Result;

/// What a step is evaluated with.
pub(super) struct Frame {
    pub(super) number: usize,
    pub(super) env: IndexMap<String, String>,
    pub(super) github: Object,
    pub(super) contexts: Object,
    name: String,
    started_at: DateTime<Utc>,
    started: Instant,
}

/// How the work of a step ended.
#[derive(Debug)]
pub(super) struct WorkEnd {
    pub(super) outcome: Conclusion,
    pub(super) exit_code: Option<i32>,
    pub(super) outputs: IndexMap<String, String>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) summary: Option<String>,
}

impl WorkEnd {
    pub(super) fn new(outcome: Conclusion) -> WorkEnd {
        WorkEnd { outcome, exit_code: None, outputs: IndexMap::new(), annotations: Vec::new(), summary: None }
    }
}

impl Job {
    /// Runs the step with this index, or finds that it is not to be run.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn step(&mut self, index: usize) -> Result<StepReport> {
        self.hashes.clear();
        let must_stop = self.must_stop().await;
        let planned: Arc<PlannedJob> = Arc::clone(&self.planned);
        let step = &planned.steps[index];
        let mut frame = self.frame(step, index + 1);
        if must_stop {
            return Ok(self.report(step, frame, None, WorkEnd::new(Conclusion::Cancelled)));
        }
        let holds = match self.enter(step, &mut frame).await? {
            Ok(()) => self.evaluate(&frame.contexts, |scope| holds(step, scope)).await?,
            Err(error) => Err(error),
        };
        frame.name = self.step_name(step, &frame).await?;
        if matches!(holds, Ok(false)) {
            return Ok(self.report(step, frame, None, WorkEnd::new(Conclusion::Skipped)));
        }
        let event = RunEvent::StepStarted {
            job: self.ready.key.clone(),
            name: frame.name.clone(),
            number: frame.number,
            of: planned.steps.len(),
            background: step.background,
            at: frame.started_at,
        };
        tracing::info!("step {}/{}: {}", frame.number, planned.steps.len(), frame.name);
        self.shared.observe(&event).await;
        let end = match holds {
            Ok(_) => self.work(step, &frame).await?,
            Err(error) => self.broken(&frame, &error).await,
        };
        let tolerated = end.outcome == Conclusion::Failure && self.is_tolerated(step, &frame).await?;
        Ok(self.report(step, frame, Some(tolerated), end))
    }

    fn frame(&self, step: &PlannedStep, number: usize) -> Frame {
        let mut github = self.github.clone();
        github.insert("action", step.key.as_str());
        Frame {
            number,
            env: self.env.clone(),
            contexts: self.contexts(&self.env, &github),
            github,
            name: default_name(step),
            started_at: Utc::now(),
            started: Instant::now(),
        }
    }

    /// Adds `env` of the step to its frame.
    async fn enter(&mut self, step: &PlannedStep, frame: &mut Frame) -> Result<Result<(), TemplateError>> {
        let Some(template) = &step.env else { return Ok(Ok(())) };
        match self.evaluate(&frame.contexts, |scope| template.text_map(scope)).await? {
            Ok(env) => frame.env.extend(env),
            Err(error) => return Ok(Err(error)),
        }
        frame.contexts = self.contexts(&frame.env, &frame.github);
        Ok(Ok(()))
    }

    /// The name for people. An expression that cannot be evaluated is shown as it is written.
    async fn step_name(&mut self, step: &PlannedStep, frame: &Frame) -> Result<String> {
        let template = match (&step.name, &step.work) {
            (Some(name), _) => Some(name),
            (None, Work::Script { run, .. }) => Some(run),
            (None, _) => None,
        };
        let text = match template {
            Some(template) => self.evaluate(&frame.contexts, |scope| template.text_value(scope)).await?.ok(),
            None => None,
        };
        let name = match text {
            Some(text) if step.name.is_some() => first_line(&text).to_owned(),
            Some(text) => format!("Run {}", first_line(&text)),
            None => frame.name.clone(),
        };
        Ok(self.masks.mask(&name))
    }

    async fn work(&mut self, step: &PlannedStep, frame: &Frame) -> Result<WorkEnd> {
        let limit = match &step.limit {
            StepLimit::None => None,
            StepLimit::Fixed(limit) => Some(*limit),
            StepLimit::Minutes(template) => {
                match self.evaluate(&frame.contexts, |scope| template.number_value(scope)).await? {
                    Ok(minutes) => self.shared.inputs.timing.minutes(minutes),
                    Err(error) => return Ok(self.broken(frame, &error).await),
                }
            }
        };
        match &step.work {
            Work::Script { run, shell, working_directory } => {
                let script = self.script(frame, run, shell.as_ref(), working_directory.as_ref()).await?;
                match script {
                    Ok(script) => self.run_script(step, frame, &script, limit).await,
                    Err(error) => Ok(self.broken(frame, &error).await),
                }
            }
            Work::Command { text, working_dir } => {
                self.run_command(step, frame, text, working_dir, limit).await
            }
            Work::Checkout { uses } => Ok(self.checkout(frame, uses).await),
            work @ (Work::Wait { .. } | Work::WaitAll | Work::Cancel { .. }) => {
                self.control(work, frame).await
            }
        }
    }

    /// Evaluates what a script needs. What the step does not say comes from `defaults`.
    async fn script(
        &mut self,
        frame: &Frame,
        run: &Template,
        shell: Option<&Template>,
        directory: Option<&Template>,
    ) -> Result<Result<ScriptRun, TemplateError>> {
        let planned = Arc::clone(&self.planned);
        let script = |scope: &terraphim_actions::expr::Scope<'_>| {
            let own = |template: Option<&Template>, key: &str| match template {
                Some(template) => template.text_value(scope).map(Some),
                None => default(&planned.defaults, key, scope),
            };
            Ok(ScriptRun {
                run: run.text_value(scope)?,
                shell: own(shell, "shell")?.filter(|shell| !shell.trim().is_empty()),
                directory: own(directory, "working-directory")?.filter(|directory| !directory.is_empty()),
            })
        };
        self.evaluate(&frame.contexts, script).await
    }

    /// A step that cannot run because of an expression.
    async fn broken(&mut self, frame: &Frame, error: &TemplateError) -> WorkEnd {
        let text = self.shared.plan.describe(error);
        self.failed(frame, text).await
    }

    /// A step that fails with a message.
    pub(super) async fn failed(&mut self, frame: &Frame, text: String) -> WorkEnd {
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let mut output = StepOutput::new(place, &*shared.observer, self.masks.clone(), None);
        output.annotate(Annotation::new(AnnotationLevel::Error, text)).await;
        let annotations = output.finish().await.annotations;
        WorkEnd { annotations, ..WorkEnd::new(Conclusion::Failure) }
    }

    /// The working tree is in the workspace already; this says so.
    async fn checkout(&mut self, frame: &Frame, uses: &str) -> WorkEnd {
        let text =
            format!("{uses} is answered by the copy of the working tree that is in the workspace already.\n");
        self.say(frame, text).await;
        let shared = Arc::clone(&self.shared);
        let mut end = WorkEnd::new(Conclusion::Success);
        end.outputs.insert("ref".to_owned(), shared.inputs.git_ref.clone());
        end.outputs.insert("commit".to_owned(), shared.inputs.sha.clone());
        end
    }

    pub(super) fn output_place(&self, step: usize) -> Place {
        Place { job: Some(self.ready.key.clone()), step, workspace: self.shared.workspace() }
    }

    async fn is_tolerated(&mut self, step: &PlannedStep, frame: &Frame) -> Result<bool> {
        let Some(template) = &step.continue_on_error else { return Ok(false) };
        let value = self.evaluate(&frame.contexts, |scope| template.bool_value(scope)).await?;
        // What cannot be evaluated does not excuse a failure.
        Ok(value.unwrap_or(false))
    }

    /// `tolerated` is absent for a step that did not begin.
    fn report(&self, step: &PlannedStep, frame: Frame, tolerated: Option<bool>, end: WorkEnd) -> StepReport {
        let conclusion = if tolerated == Some(true) { Conclusion::Success } else { end.outcome };
        StepReport {
            number: frame.number,
            id: step.id.clone(),
            name: frame.name,
            outcome: end.outcome,
            conclusion,
            exit_code: end.exit_code,
            outputs: end.outputs,
            annotations: end.annotations,
            summary: end.summary,
            started_at: tolerated.map(|_| frame.started_at),
            duration: tolerated.map_or(Duration::ZERO, |_| frame.started.elapsed()),
        }
    }
}

/// Whether a step runs: its own condition and that of its group hold.
fn holds(step: &PlannedStep, scope: &terraphim_actions::expr::Scope<'_>) -> Result<bool, TemplateError> {
    let group = step.group_condition.as_ref();
    Ok(group.map_or(Ok(true), |group| group.holds(scope))? && step.condition.holds(scope)?)
}

/// The first `defaults.run` that has the key.
fn default(
    defaults: &[Template],
    key: &str,
    scope: &terraphim_actions::expr::Scope<'_>,
) -> Result<Option<String>, TemplateError> {
    for template in defaults {
        let value = template.evaluate(scope)?;
        if let Some(found) = value.get("run").and_then(|run| run.get(key)) {
            return Ok(Some(Value::to_text(found).into_owned()));
        }
    }
    Ok(None)
}

/// A name that needs no evaluation.
fn default_name(step: &PlannedStep) -> String {
    let written = |template: &Template| template.literal_text().map(|text| first_line(&text).to_owned());
    if let Some(name) = step.name.as_ref().and_then(written) {
        return name;
    }
    match &step.work {
        Work::Script { run, .. } => format!("Run {}", written(run).unwrap_or_else(|| step.key.clone())),
        Work::Command { text, .. } => first_line(text).to_owned(),
        Work::Checkout { uses } => format!("Run {uses}"),
        Work::Wait { .. } => "Wait".to_owned(),
        Work::WaitAll => "Wait for all".to_owned(),
        Work::Cancel { .. } => "Cancel".to_owned(),
    }
}

fn first_line(text: &str) -> &str {
    text.trim_start().lines().next().unwrap_or("").trim_end()
}
