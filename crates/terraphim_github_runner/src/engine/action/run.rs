//! The stages of an action: what it does before all steps of the job, in its step, and after all steps.

use std::sync::Arc;

use terraphim_actions::action::{Hook, NodeRuns, Runs};
use terraphim_actions::workflow::{Condition, Uses};

use super::checkout::is_answered;
use super::composite::Waiting;
use super::docker::DockerCall;
use super::inputs::Inputs;
use super::load::Loaded;
use super::node::NodeCall;
use super::remote::{find, put, wanted};
use crate::action::uses_of;
use crate::engine::event::{Annotation, AnnotationLevel, Conclusion};
use crate::engine::job::Job;
use crate::engine::level::{MAX_DEPTH, Origin, boxed};
use crate::engine::output::StepOutput;
use crate::engine::plan::{PlannedAction, PlannedStep, Work};
use crate::engine::planner::always;
use crate::engine::step::{Frame, WorkEnd};
use crate::error::Result;

/// What an action does after all steps.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Post {
    /// The step that uses the action.
    pub(in crate::engine) step: PlannedStep,
    /// `post-if`
    pub(in crate::engine) condition: Condition,
    /// What tells the step from all others.
    path: String,
    work: PostWork,
}

#[derive(Clone, Debug)]
enum PostWork {
    /// A program for node or a container, with the inputs of the main stage.
    Program { loaded: Arc<Loaded>, inputs: Inputs, program: String },
    /// What the steps of a composite action do.
    Steps(Box<Waiting>),
}

impl Job {
    /// Puts the actions of other repositories that the steps use into the guest.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn put_actions(&mut self) -> Result<()> {
        let planned = Arc::clone(&self.planned);
        for step in &planned.steps {
            let Work::Action(action) = &step.work else { continue };
            let remote = wanted(&self.shared, &action.uses).and_then(|used| self.shared.remotes.get(&used));
            if let Some(remote) = remote {
                put(&self.shared, &self.place, &remote).await?;
            }
        }
        Ok(())
    }

    /// The action of a step, if it does something before all steps. That is known of actions of other repositories
    /// only: those of the workspace are read when their step runs, as GitHub has it.
    pub(in crate::engine) fn pre_of(&self, step: &PlannedStep) -> Option<Arc<Loaded>> {
        let Work::Action(action) = &step.work else { return None };
        let origin = self.level.composite.as_ref().and_then(|composite| composite.origin.as_ref());
        self.pre_of_uses(&action.uses, origin, 1)
    }

    fn pre_of_uses(&self, uses: &Uses, origin: Option<&Origin>, depth: usize) -> Option<Arc<Loaded>> {
        let reference = match (uses, origin) {
            (Uses::SameRepository(path), Some(origin)) => origin.reference(path)?,
            _ => wanted(&self.shared, uses)?,
        };
        let loaded = Arc::clone(&self.shared.remotes.get(&reference)?.loaded);
        let has_pre = match &loaded.action.runs {
            Runs::Node(node) => node.pre.is_some(),
            Runs::Docker(docker) => docker.pre.is_some(),
            Runs::Composite(_) => {
                let origin = loaded.origin.as_ref();
                let mut used = uses_of(&loaded.action);
                depth <= MAX_DEPTH && used.any(|uses| self.pre_of_uses(&uses, origin, depth + 1).is_some())
            }
        };
        has_pre.then_some(loaded)
    }

    /// The step itself.
    pub(in crate::engine) async fn use_action(
        &mut self,
        step: &PlannedStep,
        frame: &Frame,
        planned: &PlannedAction,
    ) -> Result<WorkEnd> {
        if is_answered(&self.shared, &planned.uses) {
            return boxed(|| self.check_out(frame, planned)).await;
        }
        let loaded = match boxed(|| self.load(planned)).await? {
            Ok(loaded) => loaded,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        let inputs = match boxed(|| self.action_inputs(frame, planned, &loaded)).await? {
            Ok(inputs) => inputs,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        // An action of the workspace is not known before its step.
        let is_too_late = match &planned.uses {
            Uses::Local(_) => match boxed(|| self.has_pre(&loaded)).await {
                Ok(has_pre) => has_pre,
                Err(text) => return Ok(self.failed(frame, text).await),
            },
            _ => false,
        };
        // GitHub's text.
        let too_late = is_too_late
            .then(|| format!("`pre` execution is not supported for local action from '{}'", planned.text));
        let warnings = too_late.into_iter().chain(inputs.warnings.iter().cloned());
        let said = self.tell(frame, AnnotationLevel::Warning, warnings).await;
        let mut end = match &loaded.action.runs {
            Runs::Node(node) => boxed(|| self.run_main(step, frame, &loaded, node, inputs)).await?,
            Runs::Composite(_) => self.run_composite(step, frame, &loaded, &inputs).await?,
            Runs::Docker(docker) => {
                let path = self.path_of(step);
                if let Some(hook) = &docker.post {
                    self.register_program(step, &loaded, hook, &inputs);
                }
                let entrypoint = inputs.of_docker("entrypoint").or(docker.entrypoint.clone());
                let call = DockerCall { loaded: &loaded, docker, entrypoint, inputs: &inputs, path: &path };
                boxed(|| self.run_docker(frame, call)).await?
            }
        };
        end.annotations.splice(0..0, said);
        Ok(end)
    }

    /// Whether an action of the workspace, or one of another repository that it uses, would do something before all steps.
    /// What it uses is found before its first step, as in `ActionRunner.RunAsync` of GitHub's runner; what cannot be found is
    /// the error.
    async fn has_pre(&self, loaded: &Loaded) -> Result<bool, String> {
        let depth = self.level.composite.as_ref().map_or(0, |composite| composite.depth);
        let mut has_pre = loaded.pre().is_some();
        let used: Vec<Uses> = uses_of(&loaded.action).collect();
        for uses in used {
            let Some(reference) = wanted(&self.shared, &uses) else { continue };
            // The action itself is one level below, what it uses another one.
            find(&self.shared, &reference, depth + 2).await.map_err(|unusable| unusable.message)?;
            has_pre |= self.pre_of_uses(&uses, None, 1).is_some();
        }
        Ok(has_pre)
    }

    async fn run_main(
        &mut self,
        step: &PlannedStep,
        frame: &Frame,
        loaded: &Arc<Loaded>,
        node: &NodeRuns,
        inputs: Inputs,
    ) -> Result<WorkEnd> {
        let path = self.path_of(step);
        if let Some(hook) = &node.post {
            self.register_program(step, loaded, hook, &inputs);
        }
        self.run_node(frame, NodeCall { loaded, node, program: &node.main, inputs: &inputs, path: &path })
            .await
    }

    /// Notes that a program is to run after all steps. What ran before all steps may have noted it already; the inputs
    /// of the step itself are those that count.
    fn register_program(&mut self, step: &PlannedStep, loaded: &Arc<Loaded>, hook: &Hook, inputs: &Inputs) {
        let work = PostWork::Program {
            loaded: Arc::clone(loaded),
            inputs: inputs.clone(),
            program: hook.program.clone(),
        };
        self.register(step, hook.condition.clone(), work);
    }

    /// Notes that steps of a composite action are to run after all steps.
    pub(super) fn register_steps(&mut self, step: &PlannedStep, waiting: Waiting) {
        self.register(step, always(), PostWork::Steps(Box::new(waiting)));
    }

    fn register(&mut self, step: &PlannedStep, condition: Condition, work: PostWork) {
        let path = self.path_of(step);
        let post = Post { step: step.clone(), condition, path, work };
        match self.level.posts.iter_mut().find(|known| known.path == post.path) {
            Some(known) => *known = post,
            None => self.level.posts.push(post),
        }
    }

    /// What an action does before all steps.
    pub(in crate::engine) async fn run_pre(
        &mut self,
        step: &PlannedStep,
        frame: &Frame,
        loaded: &Arc<Loaded>,
    ) -> Result<WorkEnd> {
        let Work::Action(planned) = &step.work else { return Ok(WorkEnd::new(Conclusion::Success)) };
        let inputs = match self.action_inputs(frame, planned, loaded).await? {
            Ok(inputs) => inputs,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        match &loaded.action.runs {
            Runs::Node(node) => {
                let Some(pre) = &node.pre else { return Ok(WorkEnd::new(Conclusion::Success)) };
                let path = self.path_of(step);
                if let Some(hook) = &node.post {
                    self.register_program(step, loaded, hook, &inputs);
                }
                let program = &pre.program;
                self.run_node(frame, NodeCall { loaded, node, program, inputs: &inputs, path: &path }).await
            }
            Runs::Composite(_) => self.run_composite_pre(step, frame, loaded, &inputs).await,
            Runs::Docker(docker) => {
                let Some(pre) = &docker.pre else { return Ok(WorkEnd::new(Conclusion::Success)) };
                let path = self.path_of(step);
                if let Some(hook) = &docker.post {
                    self.register_program(step, loaded, hook, &inputs);
                }
                let entrypoint = Some(pre.program.clone());
                self.run_docker(
                    frame,
                    DockerCall { loaded, docker, entrypoint, inputs: &inputs, path: &path },
                )
                .await
            }
        }
    }

    /// What an action does after all steps.
    pub(in crate::engine) async fn run_post(&mut self, frame: &Frame, post: &Post) -> Result<WorkEnd> {
        match &post.work {
            PostWork::Program { loaded, inputs, program } => match &loaded.action.runs {
                Runs::Node(node) => {
                    self.run_node(frame, NodeCall { loaded, node, program, inputs, path: &post.path }).await
                }
                Runs::Docker(docker) => {
                    let entrypoint = Some(program.clone());
                    let call = DockerCall { loaded, docker, entrypoint, inputs, path: &post.path };
                    self.run_docker(frame, call).await
                }
                Runs::Composite(_) => Ok(WorkEnd::new(Conclusion::Success)),
            },
            PostWork::Steps(waiting) => self.run_composite_posts(frame, waiting).await,
        }
    }

    /// What tells a step from all others of the job, those of actions too.
    pub(super) fn path_of(&self, step: &PlannedStep) -> String {
        match &self.level.composite {
            Some(composite) => format!("{}/{}", composite.path, step.key),
            None => step.key.clone(),
        }
    }

    /// Messages of the engine about a step.
    pub(super) async fn tell(
        &mut self,
        frame: &Frame,
        level: AnnotationLevel,
        texts: impl IntoIterator<Item = String> + Send,
    ) -> Vec<Annotation> {
        let texts: Vec<String> = texts.into_iter().collect();
        if texts.is_empty() {
            return Vec::new();
        }
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let mut output = StepOutput::new(place, &*shared.observer, self.masks.clone(), None);
        for text in texts {
            output.annotate(Annotation::new(level, text)).await;
        }
        output.finish().await.annotations
    }
}
