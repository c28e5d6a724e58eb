//! The typed model of a workflow file.

use super::permissions::Permissions;
use super::triggers::Triggers;
use crate::diagnostic::Diagnostic;
use crate::expr::{Expr, Scope};
use crate::span::{Span, Spanned};
use crate::template::{Template, TemplateError};
use indexmap::IndexMap;
use std::sync::Arc;

/// A workflow file. Keys that may hold expressions are [`Template`]s.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The files the workflow was read from: its own first, then called ones.
    pub files: Vec<Arc<str>>,
    /// `name`
    pub name: Option<Spanned<String>>,
    /// `description`
    pub description: Option<Spanned<String>>,
    /// `run-name`
    pub run_name: Option<Template>,
    /// `on`
    pub on: Triggers,
    /// `env`: a mapping of texts.
    pub env: Option<Template>,
    /// `defaults`
    pub defaults: Option<Template>,
    /// `permissions`
    pub permissions: Option<Permissions>,
    /// `concurrency`: a text or a mapping.
    pub concurrency: Option<Template>,
    /// `jobs` in the order of the file, by id.
    pub jobs: IndexMap<String, Job>,
    /// What is legal but surely wrong.
    pub warnings: Vec<Diagnostic>,
}

/// A job: its own steps ([`Job::steps`]) or a call of another workflow ([`Job::call`]).
#[derive(Clone, Debug)]
pub struct Job {
    /// The id: its key in `jobs`.
    pub id: Spanned<String>,
    /// The file it is in: an index into [`Workflow::files`].
    pub file: usize,
    /// `name`, or the id.
    pub name: Template,
    /// `needs`: ids of other jobs.
    pub needs: Vec<Spanned<String>>,
    /// `if`, with the implicit `success()`.
    pub condition: Condition,
    /// `strategy`; see [`crate::matrix::expand`].
    pub strategy: Option<Template>,
    /// `permissions`, the workflow's if the job has none.
    pub permissions: Option<Permissions>,
    /// `concurrency`
    pub concurrency: Option<Template>,
    /// `runs-on`; a job that calls a workflow has none.
    pub runs_on: Option<Template>,
    /// `env`
    pub env: Option<Template>,
    /// `defaults`
    pub defaults: Option<Template>,
    /// `outputs`: a mapping of texts.
    pub outputs: Option<Template>,
    /// `timeout-minutes`
    pub timeout_minutes: Option<Template>,
    /// `cancel-timeout-minutes`
    pub cancel_timeout_minutes: Option<Template>,
    /// `continue-on-error`
    pub continue_on_error: Option<Template>,
    /// `container`
    pub container: Option<Template>,
    /// `services`
    pub services: Option<Template>,
    /// `environment`
    pub environment: Option<Template>,
    /// `snapshot`
    pub snapshot: Option<Template>,
    /// `steps`
    pub steps: Vec<Step>,
    /// `uses`, `with` and `secrets` of a job that calls a workflow.
    pub call: Option<Call>,
}

/// A call of a reusable workflow.
#[derive(Clone, Debug)]
pub struct Call {
    /// `uses`
    pub uses: Spanned<String>,
    /// The file `uses` is in: an index into [`Workflow::files`].
    pub file: usize,
    /// `with`
    pub with: Option<Template>,
    /// `secrets`
    pub secrets: CallSecrets,
    /// The called workflow, once it was loaded; see [`super::Loader`].
    pub workflow: Option<Box<CalledWorkflow>>,
}

/// Which secrets a called workflow gets.
#[derive(Clone, Debug)]
pub enum CallSecrets {
    /// None.
    None,
    /// `secrets: inherit`
    Inherit,
    /// A mapping of texts.
    Map(Template),
}

/// A workflow as its caller sees it.
#[derive(Clone, Debug)]
pub struct CalledWorkflow {
    /// `on.workflow_call.inputs`
    pub inputs: Option<Template>,
    /// `on.workflow_call.secrets`
    pub secrets: Option<Template>,
    /// `on.workflow_call.outputs`
    pub outputs: Option<Template>,
    /// `env` of the called workflow.
    pub env: Option<Template>,
    /// `defaults` of the called workflow.
    pub defaults: Option<Template>,
    /// `concurrency` of the called workflow.
    pub concurrency: Option<Template>,
    /// `permissions` of the called workflow, else of the caller.
    pub permissions: Option<Permissions>,
    /// The jobs of the called workflow.
    pub jobs: IndexMap<String, Job>,
}

/// An `if`. Without a call of a status function it is `success() && (...)`.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The expression to evaluate.
    pub expr: Arc<Expr>,
    /// Where `if` is written; unknown if it is not.
    pub span: Span,
    /// The file: an index into [`Workflow::files`].
    pub file: usize,
    /// The condition as written, if there is one.
    pub written: Option<Arc<str>>,
}

impl Workflow {
    /// What the jobs call, as written in `uses`, each once. A caller that wants
    /// [`Workflow::load`] to read these files gives them to a [`super::Loader`].
    #[must_use]
    pub fn calls(&self) -> Vec<&str> {
        let mut calls: Vec<&str> = Vec::new();
        for call in self.jobs.values().filter_map(|job| job.call.as_ref()) {
            if !calls.contains(&call.uses.value.as_str()) {
                calls.push(&call.uses.value);
            }
        }
        calls
    }
}

impl Condition {
    /// Does the condition hold?
    ///
    /// # Errors
    /// If the expression cannot be evaluated.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, TemplateError> {
        let value = self.expr.evaluate(scope).map_err(|error| TemplateError {
            file: self.file,
            span: self.span,
            pending: error.pending,
            message: error.message,
        })?;
        Ok(value.is_truthy())
    }
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where the step starts.
    pub span: Span,
    /// The id, written or generated.
    pub id: String,
    /// Was the id generated? Then it is not in the `steps` context.
    pub id_is_generated: bool,
    /// `name`
    pub name: Option<Template>,
    /// `if`, with the implicit `success()`.
    pub condition: Condition,
    /// `env`
    pub env: Option<Template>,
    /// `continue-on-error`
    pub continue_on_error: Option<Template>,
    /// `timeout-minutes`
    pub timeout_minutes: Option<Template>,
    /// `background: true`: the next step starts at once.
    pub background: bool,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// Runs a script.
    Run {
        /// `run`
        run: Template,
        /// `shell`
        shell: Option<Template>,
        /// `working-directory`
        working_directory: Option<Template>,
    },
    /// Runs an action.
    Uses {
        /// `uses`
        uses: Spanned<String>,
        /// `with`
        with: Option<Template>,
    },
    /// Waits for background steps.
    Wait(Vec<Spanned<String>>),
    /// Waits for all background steps.
    WaitAll,
    /// Cancels a background step.
    Cancel(Spanned<String>),
    /// Runs steps side by side and waits for them.
    Parallel(Vec<Step>),
}
