//! Runs one step.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Scope, Value};
use terraphim_actions::template::{Template, TemplateError};
use terraphim_actions::workflow::Condition;
use tokio::time::Instant;
use uuid::Uuid;

use super::action::{Loaded, Post};
use super::contexts::env_context;
use super::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use super::functions::StepFunctions;
use super::job::Job;
use super::level::{Holder, Stage, boxed};
use super::output::{Place, StepOutput};
use super::plan::{PlannedStep, StepLimit, Work};
use super::report::StepReport;
use super::script::ScriptRun;
use crate::action::ActionReference;
use crate::error::Result;

/// What is to be done of a step.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// What its action does before all steps.
    Pre(Arc<Loaded>),
    /// The step itself.
    Main,
    /// What its action does after all steps.
    Post(Box<Post>),
}

impl Task {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Task::Pre(_) => Stage::Pre,
            Task::Main => Stage::Main,
            Task::Post(_) => Stage::Post,
        }
    }

    fn condition(&self, step: &PlannedStep) -> Condition {
        match self {
            Task::Pre(action) => action.pre_condition(),
            Task::Main => step.condition.clone(),
            Task::Post(post) => post.condition.clone(),
        }
    }
}

/// What a step is evaluated with.
pub(super) struct Frame {
    pub(super) number: usize,
    pub(super) stage: Stage,
    pub(super) env: IndexMap<String, String>,
    /// The part of it that the step itself adds.
    pub(super) own_env: IndexMap<String, String>,
    pub(super) github: Object,
    pub(super) contexts: Object,
    /// Tells the files through which the step speaks from those of all others.
    pub(super) exchange: Uuid,
    /// The step of the job that this one belongs to; this one itself, mostly.
    pub(super) holder: Arc<Holder>,
    name: String,
    started_at: DateTime<Utc>,
    started: Instant,
}

impl Frame {
    /// How long its process may take.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.holder.rest()
    }
}

/// How the work of a step ended.
#[derive(Debug)]
pub(super) struct WorkEnd {
    pub(super) outcome: Conclusion,
    pub(super) exit_code: Option<i32>,
    pub(super) outputs: IndexMap<String, String>,
    /// What an action keeps for its later stages.
    pub(super) state: IndexMap<String, String>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) summary: Option<String>,
}

impl WorkEnd {
    pub(super) fn new(outcome: Conclusion) -> WorkEnd {
        WorkEnd {
            outcome,
            exit_code: None,
            outputs: IndexMap::new(),
            state: IndexMap::new(),
            annotations: Vec::new(),
            summary: None,
        }
    }
}

/// A step that was looked at.
pub(super) struct Attempt {
    frame: Frame,
    /// Whether a failure is excused; absent for a step that did not begin.
    tolerated: Option<bool>,
    pub(super) end: WorkEnd,
}

impl Attempt {
    fn not_begun(frame: Frame, outcome: Conclusion) -> Attempt {
        Attempt { frame, tolerated: None, end: WorkEnd::new(outcome) }
    }

    pub(super) fn conclusion(&self) -> Conclusion {
        if self.tolerated == Some(true) { Conclusion::Success } else { self.end.outcome }
    }
}

impl Job {
    /// Runs a step of the job, or finds that it is not to be run.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn step(
        &mut self,
        step: &PlannedStep,
        task: &Task,
        number: usize,
    ) -> Result<StepReport> {
        self.number = number;
        let attempt = self.attempt(step, task).await?;
        Ok(report(step, task.stage(), attempt))
    }

    /// The same for a step of any list.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn attempt(&mut self, step: &PlannedStep, task: &Task) -> Result<Attempt> {
        self.hashes.clear();
        let must_stop = self.must_stop().await;
        let condition = task.condition(step);
        let mut frame = self.frame(step, task.stage(), &condition);
        // What is in an action ends with the step of the job that uses it.
        let has_ended = self.status == Conclusion::Cancelled
            && self.level.composite.is_some()
            && !self.goes_on(&frame.holder);
        if must_stop || has_ended {
            return Ok(Attempt::not_begun(frame, Conclusion::Cancelled));
        }
        let group = step.group_condition.as_ref().filter(|_| matches!(task, Task::Main));
        let holds = match self.enter(step, &mut frame).await? {
            Ok(()) => self.evaluate(&frame.contexts, |scope| holds(group, &condition, scope)).await?,
            Err(error) => Err(error),
        };
        frame.name = self.step_name(step, &frame).await?;
        if matches!(holds, Ok(false)) {
            return Ok(Attempt::not_begun(frame, Conclusion::Skipped));
        }
        frame.contexts.insert("github", frame.github.clone());
        self.tell_begin(&frame, step.background).await;
        let end = match holds {
            Ok(_) => boxed(|| self.work(step, &mut frame, task, condition)).await?,
            Err(error) => self.broken(&frame, &error).await,
        };
        if self.level.composite.is_some() {
            let (job, step) = (self.ready.key.clone(), frame.number);
            self.shared.observe(&RunEvent::GroupEnd { job, step, at: Utc::now() }).await;
        }
        let tolerated = end.outcome == Conclusion::Failure && self.is_tolerated(step, &frame).await?;
        Ok(Attempt { frame, tolerated: Some(tolerated), end })
    }

    /// A step of the job begins; one of an action is a group in the output of its step.
    async fn tell_begin(&self, frame: &Frame, background: bool) {
        let (job, number, name) = (self.ready.key.clone(), frame.number, frame.name.clone());
        let event = if self.level.composite.is_some() {
            RunEvent::GroupStart { job, step: number, name, at: frame.started_at }
        } else {
            tracing::info!("step {}/{}: {}", number, self.of, name);
            RunEvent::StepStarted { job, name, number, of: self.of, background, at: frame.started_at }
        };
        self.shared.observe(&event).await;
    }

    fn frame(&self, step: &PlannedStep, stage: Stage, condition: &Condition) -> Frame {
        let mut github = self.github.clone();
        github.insert("action", step.key.as_str());
        // GitHub's runner names them before anything of the step is evaluated (`FileCommandManager.InitializeFiles`).
        let exchange = Uuid::new_v4();
        if let Ok(site) = self.site() {
            self.exchange(&site, exchange).add_to(&mut github, |path| self.seen(path));
        }
        let mut env = self.env.clone();
        let holder = match &self.level.composite {
            Some(composite) => {
                github.insert("action_path", self.seen(&composite.directory));
                github.insert("action_status", composite.status.name());
                env.extend(composite.env.clone());
                Arc::clone(&composite.holder)
            }
            None => Arc::new(Holder::new(condition.clone(), Object::new(), None)),
        };
        // What is evaluated before the step begins still sees the action that it is in, and what comes after sees its own or
        // none. Composite actions count on it: `env: {REF: "${{ github.action_ref }}"}` (actions/runner, issue 2473).
        let mut outside = github.clone();
        let composite = self.level.composite.as_ref();
        name_action(&mut outside, composite.and_then(|composite| composite.used.as_ref()));
        name_action(&mut github, self.used_reference(step).as_ref());
        Frame {
            number: self.number,
            stage,
            contexts: self.contexts(&env, &outside),
            exchange,
            env,
            own_env: IndexMap::new(),
            github,
            holder,
            name: self.masks.mask(&staged(stage, default_name(step))),
            started_at: Utc::now(),
            started: Instant::now(),
        }
    }

    /// The action of another repository that a step uses.
    pub(super) fn used_reference(&self, step: &PlannedStep) -> Option<ActionReference> {
        match &step.work {
            Work::Action(action) => ActionReference::of(&action.uses),
            _ => None,
        }
    }

    /// Adds `env` of the step to its frame.
    async fn enter(&mut self, step: &PlannedStep, frame: &mut Frame) -> Result<Result<(), TemplateError>> {
        let Some(template) = &step.env else { return Ok(Ok(())) };
        match self.evaluate(&frame.contexts, |scope| template.text_map(scope)).await? {
            Ok(env) => {
                frame.env.extend(env.clone());
                frame.own_env = env;
            }
            Err(error) => return Ok(Err(error)),
        }
        frame.contexts.insert("env", env_context(&frame.env));
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
            Some(text) if step.name.is_some() => staged(frame.stage, first_line(&text).to_owned()),
            Some(text) => format!("Run {}", first_line(&text)),
            None => frame.name.clone(),
        };
        Ok(self.masks.mask(&name))
    }

    /// Whether a step of the job, with everything in its action, goes on although the job is cancelled.
    pub(super) fn goes_on(&self, holder: &Holder) -> bool {
        // A condition that asks for a hash nobody asked for before does not keep a step alive.
        let functions = StepFunctions::new(Conclusion::Cancelled, true, &self.hashes);
        holder.condition.holds(&Scope::new(&holder.contexts, &functions)).unwrap_or(false)
    }

    async fn work(
        &mut self,
        step: &PlannedStep,
        frame: &mut Frame,
        task: &Task,
        condition: Condition,
    ) -> Result<WorkEnd> {
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
        if self.level.composite.is_none() {
            let contexts = self.contexts_when_cancelled(frame);
            frame.holder = Arc::new(Holder::new(condition, contexts, limit));
        }
        match (task, &step.work) {
            (Task::Main, Work::Script { run, shell, working_directory }) => {
                let script = self.script(frame, run, shell.as_ref(), working_directory.as_ref()).await?;
                match script {
                    Ok(script) => boxed(|| self.run_script(frame, &script)).await,
                    Err(error) => Ok(self.broken(frame, &error).await),
                }
            }
            (Task::Main, Work::Command { text, working_dir }) => {
                boxed(|| self.run_command(frame, text, working_dir)).await
            }
            (Task::Main, Work::Action(action)) => boxed(|| self.use_action(step, frame, action)).await,
            (Task::Main, work @ (Work::Wait { .. } | Work::WaitAll | Work::Cancel { .. })) => {
                boxed(|| self.control(work, frame)).await
            }
            (Task::Pre(action), _) => boxed(|| self.run_pre(step, frame, action)).await,
            (Task::Post(post), _) => boxed(|| self.run_post(frame, post)).await,
        }
    }

    fn contexts_when_cancelled(&self, frame: &Frame) -> Object {
        let mut contexts = frame.contexts.clone();
        contexts.insert("job", self.job_context(Conclusion::Cancelled.name()));
        contexts
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
        // The defaults of a job are none of the business of the actions that it uses.
        let defaults = if self.level.composite.is_none() { planned.defaults.as_slice() } else { &[] };
        let script = |scope: &Scope<'_>| {
            let own = |template: Option<&Template>, key: &str| -> Result<Option<String>, TemplateError> {
                let value = template.map(|template| template.text_value(scope)).transpose()?;
                // An empty one is none, as in the `ScriptHandler` of GitHub's runner.
                match value.filter(|value| !value.is_empty()) {
                    Some(value) => Ok(Some(value)),
                    None => default(defaults, key, scope),
                }
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
    pub(super) async fn broken(&mut self, frame: &Frame, error: &TemplateError) -> WorkEnd {
        let text = self.describe(error);
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

    pub(super) fn output_place(&self, step: usize) -> Place {
        Place { job: Some(self.ready.key.clone()), step, workspace: self.seen(&self.shared.workspace()) }
    }

    async fn is_tolerated(&mut self, step: &PlannedStep, frame: &Frame) -> Result<bool> {
        let Some(template) = &step.continue_on_error else { return Ok(false) };
        let value = self.evaluate(&frame.contexts, |scope| template.bool_value(scope)).await?;
        // What cannot be evaluated does not excuse a failure.
        Ok(value.unwrap_or(false))
    }
}

fn name_action(github: &mut Object, action: Option<&ActionReference>) {
    if let Some(action) = action {
        github.insert("action_repository", action.full_name());
        github.insert("action_ref", action.reference.as_str());
    }
}

fn report(step: &PlannedStep, stage: Stage, attempt: Attempt) -> StepReport {
    let conclusion = attempt.conclusion();
    let Attempt { frame, tolerated, end } = attempt;
    StepReport {
        number: frame.number,
        id: step.id.clone().filter(|_| stage == Stage::Main),
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

/// Whether a step runs: its own condition and that of its group hold.
fn holds(group: Option<&Condition>, own: &Condition, scope: &Scope<'_>) -> Result<bool, TemplateError> {
    Ok(group.map_or(Ok(true), |group| group.holds(scope))? && own.holds(scope)?)
}

/// The first `defaults.run` that has the key.
fn default(defaults: &[Template], key: &str, scope: &Scope<'_>) -> Result<Option<String>, TemplateError> {
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
    let written = |template: &Template| first_line(&template.written()).to_owned();
    if let Some(name) = &step.name {
        return written(name);
    }
    match &step.work {
        Work::Script { run, .. } => format!("Run {}", written(run)),
        Work::Command { text, .. } => first_line(text).to_owned(),
        Work::Action(action) => format!("Run {}", action.text),
        Work::Wait { .. } => "Wait".to_owned(),
        Work::WaitAll => "Wait for all".to_owned(),
        Work::Cancel { .. } => "Cancel".to_owned(),
    }
}

/// GitHub: `Pre Run owner/name@v1`.
fn staged(stage: Stage, name: String) -> String {
    match stage {
        Stage::Pre => format!("Pre {name}"),
        Stage::Main => name,
        Stage::Post => format!("Post {name}"),
    }
}

fn first_line(text: &str) -> &str {
    text.trim_start().lines().next().unwrap_or("").trim_end()
}
