//! What is to be executed, whatever it was written in.

use std::sync::Arc;
use std::time::Duration;

use terraphim_actions::span::Span;
use terraphim_actions::template::{Template, TemplateError};
use terraphim_actions::workflow::{CallSecrets, Condition, Permissions, Uses};

use super::error::EngineError;

/// A workflow, ready to be executed: everything in it is something that the engine does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// `run-name`.
    pub title: Option<Template>,
    /// The path of its file in the repository, if it has one.
    pub file: Option<String>,
    /// The files that [`Template::file`] counts.
    pub files: Vec<Arc<str>>,
    /// Run before the jobs, in order; the first that fails fails the run.
    pub setup: Vec<Command>,
    /// `env` of the workflow.
    pub env: Option<Template>,
    /// `concurrency` of the workflow.
    pub concurrency: Option<Template>,
    /// The jobs in the order of the file.
    pub jobs: Vec<PlannedJob>,
    /// Run after the jobs, always and all of them.
    pub cleanup: Vec<Command>,
    /// What a reader should know about the file, for instance about a key that changes nothing here.
    pub notices: Vec<String>,
}

/// A command around the jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// A command of bash.
    pub text: String,
    /// Where it runs; absent means the workspace.
    pub working_dir: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A job before its matrix is known.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// Its id in the file.
    pub id: Arc<str>,
    /// The file that it is written in: an index into [`Plan::files`].
    pub file: usize,
    /// `name`, or the id.
    pub name: Template,
    /// The jobs it needs, as indices into [`Plan::jobs`].
    pub needs: Vec<usize>,
    /// `if`, with `success()` where it is implied.
    pub condition: Condition,
    /// `runs-on`.
    pub runs_on: Option<Template>,
    /// `strategy`.
    pub strategy: Option<Template>,
    /// `env`.
    pub env: Option<Template>,
    /// `environment`.
    pub environment: Option<Template>,
    /// `concurrency`.
    pub concurrency: Option<Template>,
    /// `container`.
    pub container: Option<Template>,
    /// `services`.
    pub services: Option<Template>,
    /// `permissions`, those of the workflow if the job has none.
    pub permissions: Option<Permissions>,
    /// `permissions` gives `id-token: write`.
    pub may_request_id_token: bool,
    /// `defaults` of the job and of the workflow, the stronger first.
    pub defaults: Vec<Template>,
    /// The steps in order.
    pub steps: Vec<PlannedStep>,
    /// `outputs`.
    pub outputs: Option<Template>,
    /// `timeout-minutes`.
    pub timeout: Option<Template>,
    /// `cancel-timeout-minutes`.
    pub cancel_timeout: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// The workflow that it calls instead of having steps.
    pub call: Option<PlannedCall>,
}

/// A call of a workflow.
#[derive(Clone, Debug)]
pub struct PlannedCall {
    /// `uses`.
    pub uses: String,
    /// `with`.
    pub with: Option<Template>,
    /// `secrets`.
    pub secrets: CallSecrets,
    /// `on.workflow_call.inputs` of the called workflow.
    pub inputs: Option<Template>,
    /// `on.workflow_call.outputs` of the called workflow.
    pub outputs: Option<Template>,
    /// `concurrency` of the called workflow.
    pub concurrency: Option<Template>,
    /// The called workflow.
    pub plan: Arc<Plan>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// Its `id`, if the file gives one.
    pub id: Option<String>,
    /// Its `id`, or the one that was made for it: `__run_2`.
    pub key: String,
    /// `name`.
    pub name: Option<Template>,
    /// `if`, with `success()` where it is implied.
    pub condition: Condition,
    /// `env`.
    pub env: Option<Template>,
    /// Its time limit.
    pub limit: StepLimit,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// The next step starts at once.
    pub background: bool,
    /// `if` of the `parallel` step that it is part of.
    pub group_condition: Option<Condition>,
    /// What it does.
    pub work: Work,
}

/// How long a step may take.
#[derive(Clone, Debug)]
pub enum StepLimit {
    /// As long as its job.
    None,
    /// `timeout-minutes`.
    Minutes(Template),
    /// Exactly this long.
    Fixed(Duration),
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Work {
    /// A script, run by a shell.
    Script {
        /// `run`.
        run: Template,
        /// `shell`.
        shell: Option<Template>,
        /// `working-directory`.
        working_directory: Option<Template>,
    },
    /// A command of bash as it is, without the files and the processing of workflow commands.
    Command {
        /// The command.
        text: String,
        /// Where it runs.
        working_dir: String,
    },
    /// An action.
    Action(PlannedAction),
    /// Waits for steps in the background.
    Wait {
        /// Their indices in the job.
        steps: Vec<usize>,
    },
    /// Waits for every step in the background.
    WaitAll,
    /// Stops a step in the background.
    Cancel {
        /// Its index in the job.
        step: usize,
    },
}

/// An action that a step uses. What it is is known when it was read: before the VM starts for one of a repository,
/// when the step runs for one of the workspace.
#[derive(Clone, Debug)]
pub struct PlannedAction {
    /// `uses` as it is written.
    pub text: String,
    /// The same, taken apart.
    pub uses: Uses,
    /// Where `uses` is written.
    pub span: Span,
    /// In which file.
    pub file: usize,
    /// `with`.
    pub with: Option<Template>,
}

impl Plan {
    /// The job with this id; job ids do not differ by case.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<usize> {
        self.jobs.iter().position(|job| job.id.eq_ignore_ascii_case(id))
    }

    /// The same plan with these jobs and those that they need only.
    ///
    /// # Errors
    /// The first id that no job has.
    pub fn only(&self, ids: &[String]) -> Result<Plan, EngineError> {
        let mut keep = vec![false; self.jobs.len()];
        let mut open = Vec::new();
        for id in ids {
            open.push(self.job(id).ok_or_else(|| EngineError::UnknownJob {
                id: id.clone(),
                known: self.jobs.iter().map(|job| job.id.to_string()).collect(),
            })?);
        }
        while let Some(job) = open.pop() {
            if !std::mem::replace(&mut keep[job], true) {
                open.extend(&self.jobs[job].needs);
            }
        }
        let kept: Vec<usize> = (0..keep.len()).filter(|job| keep[*job]).collect();
        let place =
            |old: usize| kept.iter().position(|job| *job == old).expect("what a kept job needs is kept");
        let jobs = kept.iter().map(|old| {
            let job = self.jobs[*old].clone();
            PlannedJob { needs: job.needs.iter().map(|need| place(*need)).collect(), ..job }
        });
        Ok(Plan { jobs: jobs.collect(), ..self.clone() })
    }

    /// All jobs, those of called workflows too.
    pub fn all_jobs(&self) -> impl Iterator<Item = &PlannedJob> {
        let mut open: Vec<&PlannedJob> = self.jobs.iter().rev().collect();
        std::iter::from_fn(move || {
            let job = open.pop()?;
            open.extend(job.call.iter().flat_map(|call| call.plan.jobs.iter().rev()));
            Some(job)
        })
    }

    /// The error with its file, as GitHub prints it.
    pub(super) fn describe(&self, error: &TemplateError) -> String {
        match self.files.get(error.file).filter(|_| error.span.line > 0) {
            Some(file) => format!("{file} {error}"),
            None => error.message.clone(),
        }
    }
}
