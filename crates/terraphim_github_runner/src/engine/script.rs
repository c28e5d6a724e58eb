//! Runs the process of a step and takes over what it asked for.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use indexmap::IndexMap;
use terraphim_actions::env_file;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::Interruption;
use super::commands::Interpreter;
use super::container::{Call, OwnContainer, Site};
use super::contexts::variables;
use super::event::{Annotation, AnnotationLevel, Conclusion, RunEvent};
use super::exchange::{Exchange, Written};
use super::job::Job;
use super::level::{Holder, boxed};
use super::output::{Requests, StepOutput};
use super::services::Consumer;
use super::shell::Shell;
use super::step::{Frame, WorkEnd};
use super::tool::Nowhere;
use crate::error::Result;
use crate::workflow::{Exit, FileToWrite, OutputSink, ProcessOutcome, ProcessSpec, ReturnedFile, StopReason};

/// A script with everything evaluated.
pub(super) struct ScriptRun {
    pub(super) run: String,
    pub(super) shell: Option<String>,
    /// Relative to the workspace, or absolute.
    pub(super) directory: Option<String>,
}

/// The process of a step that speaks with the engine through files and workflow commands.
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    pub(super) directory: String,
    /// Files to write before it starts, beside those of the exchange.
    pub(super) files: Vec<FileToWrite>,
    /// Variables above those of the step: the inputs and the state of an action.
    pub(super) env: IndexMap<String, String>,
    /// Whose process it is.
    pub(super) consumer: Consumer,
    /// The container of its own that it runs in; `argv` are the arguments then.
    pub(super) container: Option<OwnContainer>,
}

impl Job {
    /// Runs a script of the workflow.
    pub(super) async fn run_script(&mut self, frame: &Frame, script: &ScriptRun) -> Result<WorkEnd> {
        self.say_script(frame, &script.run).await;
        let temp = self.shared.inputs.layout.temp();
        // GitHub: in a container it is sh.
        let has_bash = script.shell.is_some() || (self.job_container().is_none() && self.has_bash().await?);
        let shell = match Shell::resolve(script.shell.as_deref(), has_bash) {
            Ok(shell) => shell,
            Err(error) => return Ok(self.failed(frame, error.to_string()).await),
        };
        let path = format!("{temp}/{}{}", Uuid::new_v4().simple(), shell.extension);
        let content = shell.script(&script.run);
        let program = Program {
            argv: shell.argv(&self.seen(&path)),
            directory: join(&self.seen(&self.shared.workspace()), script.directory.as_deref()),
            files: vec![FileToWrite { path, content, mode: 0o755 }],
            env: IndexMap::new(),
            consumer: Consumer::Script,
            container: None,
        };
        boxed(|| self.run_program(frame, program)).await
    }

    /// Runs a program of a step.
    pub(super) async fn run_program(&mut self, frame: &Frame, program: Program) -> Result<WorkEnd> {
        let shared = Arc::clone(&self.shared);
        let site = match program.container {
            Some(own) => Site::Own(Arc::new(own)),
            None => match self.site() {
                Ok(site) => site,
                Err(text) => return Ok(self.failed(frame, text).await),
            },
        };
        let exchange = self.exchange(&site, frame.exchange);
        let mut files = program.files;
        files.extend(exchange.files());
        if !self.has_event_file {
            let content = shared.inputs.event.to_string();
            files.push(FileToWrite { path: shared.event_path(), content, mode: 0o644 });
        }
        let mut github = frame.github.clone();
        exchange.add_to(&mut github, str::to_owned);
        let mut env = frame.env.clone();
        env.extend(program.env);
        let mut env = variables(&env, &github, &self.runner);
        // GitHub's runner has it in its own environment, so what the workflow says is stronger.
        env.entry("RUNNER_TRACKING_ID".to_owned()).or_insert_with(|| format!("github_{}", self.tracking_id));
        env.extend(self.service_variables(program.consumer).await?);
        if let Some(name) = unusable(&env) {
            return Ok(self.failed(frame, format!("{name:?} cannot be an environment variable")).await);
        }
        let placed = self.place_at(&site, program.argv, &env, program.directory, frame.limit());
        let (mut spec, after_stop) = match placed {
            Ok(placed) => placed,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        spec.write_files.extend(files);
        spec.return_files = exchange.returned();
        let interpreter = Interpreter::new(allows_unsecure(&env));
        let end = boxed(|| {
            self.run_step(frame, Some(interpreter), &spec, after_stop, |files| exchange.read(files))
        });
        end.await
    }

    /// The files through which a step and the engine speak.
    pub(super) fn exchange(&self, site: &Site, id: Uuid) -> Exchange {
        let has_views = self.shared.executor.capabilities().views;
        Exchange::new(&site.file_commands(&self.shared.inputs.layout, has_views), id)
    }

    /// Runs a bare command.
    pub(super) async fn run_command(
        &mut self,
        frame: &Frame,
        text: &str,
        directory: &str,
    ) -> Result<WorkEnd> {
        self.say_script(frame, text).await;
        let argv = vec!["bash".to_owned(), "-c".to_owned(), text.to_owned()];
        let directory = join(&self.shared.workspace(), Some(directory));
        let mut spec = self.spec(argv, &frame.env, directory, frame.limit());
        spec.env = frame.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        self.run_step(frame, None, &spec, Vec::new(), |_| Written::default()).await
    }

    /// Tells what is about to run.
    pub(super) async fn say_script(&self, frame: &Frame, script: &str) {
        // In whole seconds: what is left of a limit differs by milliseconds each time.
        let limit = frame.limit().map(|limit| (limit + Duration::from_millis(500)).as_secs() * 1000);
        let event = RunEvent::ScriptStarted {
            job: self.ready.key.clone(),
            step: frame.number,
            script: self.masks.mask(script),
            limit_ms: limit,
            at: Utc::now(),
        };
        self.shared.observe(&event).await;
    }

    pub(super) fn spec(
        &self,
        argv: Vec<String>,
        env: &IndexMap<String, String>,
        cwd: String,
        limit: Option<Duration>,
    ) -> ProcessSpec {
        let layout = &self.shared.inputs.layout;
        let mut env = env.clone();
        let path = env.get("PATH").map_or(layout.path.as_str(), String::as_str);
        let path = self.paths.iter().rev().map(String::as_str).chain([path]).collect::<Vec<_>>().join(":");
        env.insert("PATH".to_owned(), path);
        env.entry("HOME".to_owned()).or_insert_with(|| layout.home.clone());
        ProcessSpec {
            argv,
            env: env.into_iter().collect(),
            cwd,
            user: layout.user.clone(),
            view: self.view.clone(),
            write_files: Vec::new(),
            return_files: Vec::new(),
            keep_left: Some(self.own_name()),
            // The job's own clock ends the step before, so that it is known why.
            timeout: limit.unwrap_or_else(|| self.clock.rest() + self.shared.inputs.timing.minute),
            stop: self.shared.inputs.timing.stop,
        }
    }

    /// Runs the process of a step, tells what it says, and takes over what it asked for.
    async fn run_step(
        &mut self,
        frame: &Frame,
        interpreter: Option<Interpreter>,
        spec: &ProcessSpec,
        after_stop: Vec<String>,
        read: impl FnOnce(&[ReturnedFile]) -> Written,
    ) -> Result<WorkEnd> {
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let masks = self.masks.clone();
        let has_commands = interpreter.is_some();
        let mut output =
            StepOutput::new(place, &*shared.observer, masks, interpreter).with_debug(shared.shows_debug());
        if has_commands {
            output = output.with_matchers(self.step_matchers());
        }
        self.is_workspace_touched = true;
        let (result, why) = self.watch(spec, &mut output, &frame.holder).await;
        let end = match result {
            Ok(outcome) => {
                if outcome.stopped.is_some() && !after_stop.is_empty() {
                    self.ask_at_the_end(Call::of(after_stop)).await?;
                }
                self.has_event_file = true;
                let written = read(&outcome.files);
                output.drain().await;
                Ok(tell(frame, &outcome, written, output).await)
            }
            Err(error) => {
                output.finish().await;
                Err(error)
            }
        };
        if let Some(why) = why {
            self.interrupt(why).await;
        }
        let (outcome, exit_code, requests, written) = end?;
        Ok(self.take_over(frame, outcome, exit_code, requests, written).await)
    }

    /// Runs a process; stops it when the job is to end, unless the step it belongs to goes on even then.
    pub(super) async fn watch(
        &mut self,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        holder: &Holder,
    ) -> (Result<ProcessOutcome>, Option<Interruption>) {
        let stop = CancellationToken::new();
        let goes_on = self.goes_on(holder);
        let Job { shared, place, clock, .. } = self;
        let run = shared.executor.run_process(place.session(), spec, output, &stop);
        tokio::pin!(run);
        let mut seen = None;
        loop {
            tokio::select! {
                biased;
                result = &mut run => return (result, seen),
                why = clock.interrupted() => {
                    if why != Interruption::Over {
                        seen = Some(why);
                        if goes_on {
                            continue;
                        }
                    }
                    stop.cancel();
                    return (run.await, seen);
                }
            }
        }
    }

    /// Takes what a step asked for over into the job.
    async fn take_over(
        &mut self,
        frame: &Frame,
        outcome: Conclusion,
        exit_code: Option<i32>,
        requests: Requests,
        written: Written,
    ) -> WorkEnd {
        self.env.extend(requests.env);
        self.env.extend(written.env);
        env_file::add_paths(&mut self.paths, &requests.paths.join("\n"));
        env_file::add_paths(&mut self.paths, &written.paths);
        let mut outputs = requests.outputs;
        outputs.extend(written.outputs);
        let mut state = requests.state;
        state.extend(written.state);
        let summary = written.summary.map(|text| self.masks.mask(&text));
        if let Some(text) = summary.clone() {
            let (job, step) = (self.ready.key.clone(), frame.number);
            self.shared.observe(&RunEvent::Summary { job, step, text, at: Utc::now() }).await;
        }
        WorkEnd { outcome, exit_code, outputs, state, annotations: requests.annotations, summary }
    }

    /// Whether the guest has bash.
    async fn has_bash(&mut self) -> Result<bool> {
        if let Some(known) = self.place.has_bash.get() {
            return Ok(*known);
        }
        let argv = ["sh", "-c", "command -v bash"].map(str::to_owned).to_vec();
        let spec = self.spec(argv, &IndexMap::new(), "/".to_owned(), None);
        let (ended, _) = self.run_tool(&spec, &mut Nowhere, &Holder::nobody()).await?;
        let has_bash = ended == Conclusion::Success;
        if ended != Conclusion::Cancelled {
            // Another job may have asked at the same time; the answer is the same.
            let _ = self.place.has_bash.set(has_bash);
        }
        Ok(has_bash)
    }
}

/// Says how a process ended and what is wrong with what it left.
async fn tell(
    frame: &Frame,
    outcome: &ProcessOutcome,
    written: Written,
    mut output: StepOutput<'_>,
) -> (Conclusion, Option<i32>, Requests, Written) {
    let error = |text: String| Annotation::new(AnnotationLevel::Error, text);
    let (mut conclusion, code) = match (outcome.stopped, outcome.exit) {
        (Some(StopReason::Cancelled), exit) => (Conclusion::Cancelled, exit.shell_code()),
        (Some(StopReason::Timeout), exit) => {
            output.annotate(error(frame.holder.too_long())).await;
            (Conclusion::Failure, exit.shell_code())
        }
        (None, Exit::Code(0)) => (Conclusion::Success, 0),
        (None, exit) => {
            let code = exit.shell_code();
            output.annotate(error(format!("Process completed with exit code {code}."))).await;
            (Conclusion::Failure, code)
        }
    };
    for problem in written.errors.iter().chain(&written.problems) {
        output.annotate(error(problem.clone())).await;
    }
    let requests = output.finish().await;
    if (requests.has_failed || !written.problems.is_empty()) && conclusion == Conclusion::Success {
        conclusion = Conclusion::Failure;
    }
    (conclusion, Some(code), requests, written)
}

/// GitHub: a `working-directory` is below the workspace unless it is absolute.
pub(super) fn join(workspace: &str, directory: Option<&str>) -> String {
    match directory {
        None | Some("." | "") => workspace.to_owned(),
        Some(directory) if directory.starts_with('/') => directory.to_owned(),
        Some(directory) => format!("{workspace}/{directory}"),
    }
}

/// The first variable that no process can have.
fn unusable(env: &IndexMap<String, String>) -> Option<&str> {
    let is_bad =
        |name: &str, value: &str| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
    env.iter().find(|(name, value)| is_bad(name, value)).map(|(name, _)| name.as_str())
}

fn allows_unsecure(env: &IndexMap<String, String>) -> bool {
    env.get("ACTIONS_ALLOW_UNSECURE_COMMANDS").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
