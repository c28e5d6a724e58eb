//! Docker actions: an image to pull or a Dockerfile to build, run by the container engine of the guest.

use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::action::{Action, DockerImage, DockerRuns, Runs};
use terraphim_actions::expr::Scope;
use terraphim_actions::template::Template;
use uuid::Uuid;

use super::inputs::Inputs;
use super::load::Loaded;
use crate::engine::container::{Call, let_in, no_engine};
use crate::engine::event::{Annotation, AnnotationLevel, Conclusion};
use crate::engine::job::Job;
use crate::engine::level::{Stage, boxed};
use crate::engine::output::StepOutput;
use crate::engine::script::Program;
use crate::engine::services::Consumer;
use crate::engine::shell::split;
use crate::engine::step::{Frame, WorkEnd};
use crate::error::Result;

/// Which stage of a docker action to run.
pub(super) struct DockerCall<'a> {
    pub(super) loaded: &'a Arc<Loaded>,
    pub(super) docker: &'a DockerRuns,
    /// What runs instead of what the image says.
    pub(super) entrypoint: Option<String>,
    pub(super) inputs: &'a Inputs,
    /// The path of the step that uses the action.
    pub(super) path: &'a str,
}

/// An action that is nothing but an image: `docker://image`, or a Dockerfile.
pub(super) fn action(image: String) -> Action {
    let runs = DockerRuns { image, entrypoint: None, args: Vec::new(), env: None, pre: None, post: None };
    Action {
        name: None,
        description: None,
        inputs: IndexMap::new(),
        outputs: IndexMap::new(),
        runs: Runs::Docker(runs),
    }
}

/// Why there is no image to run.
struct NoImage {
    outcome: Conclusion,
    annotations: Vec<Annotation>,
}

impl Job {
    /// Runs one stage of a docker action.
    pub(super) async fn run_docker(&mut self, frame: &Frame, call: DockerCall<'_>) -> Result<WorkEnd> {
        if self.place.daemon.is_none() {
            return Ok(self.failed(frame, no_engine(&call.loaded.file)).await);
        }
        let (arguments, extra) = match boxed(|| self.evaluate_call(frame, &call)).await? {
            Ok(evaluated) => evaluated,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        self.prepare_directories().await?;
        let image = match boxed(|| self.image_of(frame, &call)).await? {
            Ok(image) => image,
            Err(NoImage { outcome, annotations }) => {
                return Ok(WorkEnd { annotations, ..WorkEnd::new(outcome) });
            }
        };
        let let_in = self.ask(let_in(), &frame.holder).await?;
        if let_in.conclusion != Conclusion::Success {
            let text = format!("The VM cannot be reached from containers: {}", let_in.stderr);
            return Ok(self.failed(frame, text).await);
        }
        let mut env: IndexMap<String, String> = call.inputs.variables().collect();
        let state = self.states.get(call.path).into_iter().flatten();
        env.extend(state.map(|(name, value)| (format!("STATE_{name}"), value.clone())));
        // GitHub: what the step says is stronger than what the action says.
        env.extend(extra.into_iter().filter(|(name, _)| !frame.env.contains_key(name)));
        let container = self.own_container(image, call.entrypoint.clone());
        let arguments: Vec<String> = arguments.iter().map(|word| container.paths.inside(word)).collect();
        let entrypoint = call.entrypoint.as_deref().unwrap_or_default();
        let shown = [entrypoint, &arguments.join(" ")].join(" ");
        self.say_script(frame, format!("uses {} {}", call.loaded.file, shown.trim()).trim()).await;
        let program = Program {
            argv: arguments,
            directory: self.shared.workspace(),
            files: Vec::new(),
            env,
            consumer: Consumer::Action,
            container: Some(container),
        };
        let mut end = boxed(|| self.run_program(frame, program)).await?;
        self.states.entry(call.path.to_owned()).or_default().extend(std::mem::take(&mut end.state));
        Ok(end)
    }

    /// The arguments and the variables that the action adds. Expressions of an action see its inputs.
    async fn evaluate_call(
        &mut self,
        frame: &Frame,
        call: &DockerCall<'_>,
    ) -> Result<Result<(Vec<String>, IndexMap<String, String>), String>> {
        let mut contexts = frame.contexts.clone();
        contexts.insert("inputs", call.inputs.context());
        let docker = call.docker;
        let given = call.inputs.of_docker("args");
        let read = |scope: &Scope<'_>| {
            let env = docker.env.as_ref().map(|env: &Template| env.text_map(scope)).transpose()?;
            let arguments = match given {
                Some(_) => Vec::new(),
                None => docker.args.iter().map(|word| word.text_value(scope)).collect::<Result<_, _>>()?,
            };
            Ok((arguments, env.unwrap_or_default()))
        };
        let (arguments, env) = match self.evaluate(&contexts, read).await? {
            Ok(evaluated) => evaluated,
            Err(error) => return Ok(Err(format!("{} {error}", call.loaded.file))),
        };
        Ok(match call.inputs.of_docker("args") {
            None => Ok((arguments, env)),
            // GitHub cuts them as a command line.
            Some(text) => match split(&text) {
                Some(arguments) => Ok((arguments, env)),
                None => Err(format!("`args`: a quote is not closed in {text:?}")),
            },
        })
    }

    /// The image of an action in the VM: pulled unless it is there, or built.
    async fn image_of(
        &mut self,
        frame: &Frame,
        call: &DockerCall<'_>,
    ) -> Result<std::result::Result<String, NoImage>> {
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let mut output = StepOutput::new(place, &*shared.observer, self.masks.clone(), None);
        let (image, ended, what) = match call.docker.docker_image() {
            DockerImage::Pull(image) => {
                if self.has_image(&image).await? {
                    return Ok(Ok(image));
                }
                let (ended, _) = self.pull(&mut output, &image, None, &frame.holder).await?;
                let what = format!("the image {image} cannot be pulled");
                (image, ended, what)
            }
            DockerImage::Build(dockerfile) => {
                let file = format!("{}/{}", call.loaded.directory, dockerfile.trim_start_matches("./"));
                // What is in the workspace may change from step to step; what is of a repository does not.
                let (key, is_known) = match call.loaded.origin.is_some() {
                    true => (file.clone(), true),
                    false => (format!("{} {}", self.ready.key, call.path), frame.stage == Stage::Post),
                };
                let place = Arc::clone(&self.place);
                let known = place.built.lock().await.get(&key).cloned();
                if let Some(image) = known.filter(|_| is_known) {
                    return Ok(Ok(image));
                }
                let image = format!("tci-action:{}", Uuid::new_v4().simple());
                let context = file.rsplit_once('/').map_or("/", |(directory, _)| directory);
                let build = Call::new(&["docker", "build", "--tag", &image, "--file", &file, context]);
                let (ended, code) = self.call_aloud(build, &mut output, &frame.holder).await?;
                if ended == Conclusion::Success {
                    place.built.lock().await.insert(key, image.clone());
                }
                (image, ended, format!("Docker build failed with exit code {code}"))
            }
        };
        if ended == Conclusion::Success {
            return Ok(Ok(image));
        }
        if ended == Conclusion::Failure {
            let why = if frame.holder.is_over() { frame.holder.too_long() } else { what };
            output.annotate(Annotation::new(AnnotationLevel::Error, why)).await;
        }
        let annotations = output.finish().await.annotations;
        Ok(Err(NoImage { outcome: ended, annotations }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_by_itself_is_an_action() {
        let action = action("docker://alpine:3".to_owned());
        let Runs::Docker(docker) = &action.runs else { panic!("{:?}", action.runs) };
        assert_eq!(docker.docker_image(), DockerImage::Pull("alpine:3".to_owned()));
    }
}
