//! Composite actions: steps that run in the place of one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::action::Runs;
use terraphim_actions::expr::Object;
use tokio::time::Instant;

use super::inputs::Inputs;
use super::load::Loaded;
use super::run::Post;
use crate::engine::event::Conclusion;
use crate::engine::job::Job;
use crate::engine::level::{Composite, Level, MAX_DEPTH, boxed};
use crate::engine::parallel::plan_steps;
use crate::engine::plan::PlannedStep;
use crate::engine::step::{Frame, Task, WorkEnd};
use crate::error::Result;

/// What the steps of a composite action do after all steps of the job, and what they need for it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    composite: Composite,
    steps: Object,
    posts: Vec<Post>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<WorkEnd>> + Send + 'a>>;

impl Job {
    /// Runs the steps of a composite action. Boxed, because one of them may be a composite action too.
    pub(super) fn run_composite<'a>(
        &'a mut self,
        step: &'a PlannedStep,
        frame: &'a Frame,
        loaded: &'a Arc<Loaded>,
        inputs: &'a Inputs,
    ) -> Running<'a> {
        Box::pin(async move {
            let composite = match self.enter_composite(step, frame, loaded, inputs) {
                Ok(composite) => composite,
                Err(text) => return Ok(self.failed(frame, text).await),
            };
            let outer = std::mem::replace(&mut self.level, Level::of(composite));
            let mut all = WorkEnd::new(Conclusion::Success);
            for step in steps_of(loaded) {
                if is_over(frame) {
                    let limit = frame.holder.limit.unwrap_or_default();
                    let text = format!("The step ran longer than its limit of {limit:?} and was stopped.");
                    add(&mut all, self.failed(frame, text).await);
                    self.note(Conclusion::Failure);
                    break;
                }
                let attempt = boxed(|| self.attempt(&step, &Task::Main)).await?;
                let conclusion = attempt.conclusion();
                if let Some(id) = &step.id {
                    self.level.add(id, &attempt.end.outputs, attempt.end.outcome, conclusion);
                }
                self.note(conclusion);
                add(&mut all, attempt.end);
                if conclusion == Conclusion::Cancelled {
                    break;
                }
            }
            all.outputs = self.composite_outputs(frame, loaded, &mut all).await?;
            Ok(self.leave_composite(step, outer, all))
        })
    }

    /// What the steps of a composite action do before all steps of the job.
    pub(super) fn run_composite_pre<'a>(
        &'a mut self,
        step: &'a PlannedStep,
        frame: &'a Frame,
        loaded: &'a Arc<Loaded>,
        inputs: &'a Inputs,
    ) -> Running<'a> {
        Box::pin(async move {
            let composite = match self.enter_composite(step, frame, loaded, inputs) {
                Ok(composite) => Composite { looks_at_job: true, ..composite },
                Err(text) => return Ok(self.failed(frame, text).await),
            };
            let outer = std::mem::replace(&mut self.level, Level::of(composite));
            let mut all = WorkEnd::new(Conclusion::Success);
            for step in steps_of(loaded) {
                let Some(pre) = self.pre_of(&step) else { continue };
                let attempt = self.attempt(&step, &Task::Pre(pre)).await?;
                self.note(attempt.conclusion());
                add(&mut all, attempt.end);
            }
            Ok(self.leave_composite(step, outer, all))
        })
    }

    /// The level outside is the current one again; what the steps inside have still to do is noted for the end of the job.
    fn leave_composite(&mut self, step: &PlannedStep, outer: Level, mut all: WorkEnd) -> WorkEnd {
        let level = std::mem::replace(&mut self.level, outer);
        if let Some(composite) = level.composite {
            all.outcome = composite.status;
            if !level.posts.is_empty() {
                self.register_steps(step, Waiting { composite, steps: level.steps, posts: level.posts });
            }
        }
        all
    }

    /// What the steps of a composite action do after all steps of the job, last first.
    pub(super) fn run_composite_posts<'a>(
        &'a mut self,
        frame: &'a Frame,
        waiting: &'a Waiting,
    ) -> Running<'a> {
        Box::pin(async move {
            let composite = Composite {
                looks_at_job: true,
                status: Conclusion::Success,
                holder: Arc::clone(&frame.holder),
                ..waiting.composite.clone()
            };
            let level = Level { steps: waiting.steps.clone(), ..Level::of(composite) };
            let outer = std::mem::replace(&mut self.level, level);
            let mut all = WorkEnd::new(Conclusion::Success);
            for post in waiting.posts.iter().rev() {
                let attempt = self.attempt(&post.step, &Task::Post(Box::new(post.clone()))).await?;
                self.note(attempt.conclusion());
                add(&mut all, attempt.end);
            }
            let level = std::mem::replace(&mut self.level, outer);
            all.outcome = level.composite.map_or(Conclusion::Success, |composite| composite.status);
            Ok(all)
        })
    }

    fn enter_composite(
        &self,
        step: &PlannedStep,
        frame: &Frame,
        loaded: &Loaded,
        inputs: &Inputs,
    ) -> Result<Composite, String> {
        let depth = self.level.composite.as_ref().map_or(0, |outer| outer.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(format!("{}: composite actions are nested deeper than {MAX_DEPTH}", loaded.file));
        }
        Ok(Composite {
            file: Arc::clone(&loaded.file),
            path: self.path_of(step),
            depth,
            inputs: inputs.context(),
            env: self.env_of_users(frame),
            directory: loaded.directory.clone(),
            origin: loaded.origin.clone(),
            used: self.used_reference(step),
            status: Conclusion::Success,
            looks_at_job: false,
            holder: Arc::clone(&frame.holder),
        })
    }

    /// `env` of the steps that use an action: what the frame has beyond the job's own.
    fn env_of_users(&self, frame: &Frame) -> IndexMap<String, String> {
        let mut env = self.level.composite.as_ref().map(|outer| outer.env.clone()).unwrap_or_default();
        env.extend(frame.own_env.clone());
        env
    }

    /// Takes the conclusion of a step over into `github.action_status`.
    fn note(&mut self, conclusion: Conclusion) {
        let Some(composite) = &mut self.level.composite else { return };
        let is_bad = matches!(conclusion, Conclusion::Failure | Conclusion::Cancelled);
        if is_bad && composite.status == Conclusion::Success {
            composite.status = conclusion;
        }
    }

    /// Evaluates the outputs, also when a step failed.
    async fn composite_outputs(
        &mut self,
        frame: &Frame,
        loaded: &Loaded,
        all: &mut WorkEnd,
    ) -> Result<IndexMap<String, String>> {
        let mut outputs = IndexMap::new();
        let contexts = self.contexts(&frame.env, &frame.github);
        for (name, output) in &loaded.action.outputs {
            let Some(template) = &output.value else { continue };
            match self.evaluate(&contexts, |scope| template.text_value(scope)).await? {
                Ok(value) => drop(outputs.insert(name.clone(), value)),
                Err(error) => {
                    let failed = self.broken(frame, &error).await;
                    add(all, failed);
                    self.note(Conclusion::Failure);
                }
            }
        }
        Ok(outputs)
    }
}

/// The steps of a composite action.
fn steps_of(loaded: &Loaded) -> Vec<PlannedStep> {
    match &loaded.action.runs {
        Runs::Composite(steps) => plan_steps(steps, 0),
        _ => Vec::new(),
    }
}

/// Whether the time of the step of the job is over.
fn is_over(frame: &Frame) -> bool {
    frame.holder.deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Adds what a step of an action said to what the step of the job says.
fn add(all: &mut WorkEnd, one: WorkEnd) {
    all.annotations.extend(one.annotations);
    if let Some(text) = one.summary {
        all.summary.get_or_insert_default().push_str(&text);
    }
    if one.exit_code.is_some() {
        all.exit_code = one.exit_code;
    }
}
