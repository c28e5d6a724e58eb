//! Workflows to plans.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use terraphim_actions::expr::{self, Allowed, Expr};
use terraphim_actions::span::Span;
use terraphim_actions::template::{Node, Template};
use terraphim_actions::workflow::{
    Call, CalledWorkflow, Condition, Job, Level, Step, StepKind, Uses, Workflow,
};

use super::error::InvalidWorkflow;
use super::parallel::plan_steps;
use super::plan::{Command, Plan, PlannedAction, PlannedCall, PlannedJob, PlannedStep, StepLimit, Work};
use super::supported::{unsupported, without_effect};
use crate::workflow::{ParsedWorkflow, WorkflowProblem};

/// How long a command of a [`ParsedWorkflow`] may take that says nothing else.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// Plans a workflow file. `workflow` was read with the workflows it calls.
///
/// # Errors
/// The file has keys that are not executed; each is named.
pub fn plan_workflow(workflow: &Workflow) -> Result<Plan, InvalidWorkflow> {
    let diagnostics = unsupported(workflow);
    if !diagnostics.is_empty() {
        return Err(InvalidWorkflow { diagnostics });
    }
    let file = workflow.files.first().map(|file| file.to_string());
    // GitHub names a workflow without a name after its file.
    let name = workflow.name.as_ref().map(|name| name.value.clone());
    let name = name.filter(|name| !name.is_empty()).or_else(|| file.clone());
    let mut plan = Plan {
        name: name.unwrap_or_else(|| "workflow".to_owned()),
        title: workflow.run_name.clone(),
        file,
        files: workflow.files.clone(),
        setup: Vec::new(),
        env: workflow.env.clone(),
        concurrency: workflow.concurrency.clone(),
        jobs: Vec::new(),
        cleanup: Vec::new(),
        notices: without_effect(workflow),
    };
    plan.jobs = plan_jobs(&plan, &workflow.jobs, workflow.defaults.as_ref());
    Ok(plan)
}

fn plan_jobs(top: &Plan, jobs: &IndexMap<String, Job>, defaults: Option<&Template>) -> Vec<PlannedJob> {
    jobs.values().map(|job| plan_job(top, jobs, defaults, job)).collect()
}

/// The plan of a called workflow. What is said of the run (its name, its file) is that of the workflow at the top.
fn plan_call(top: &Plan, call: &Call, called: &CalledWorkflow) -> PlannedCall {
    let plan = Plan {
        env: called.env.clone(),
        concurrency: None,
        jobs: plan_jobs(top, &called.jobs, called.defaults.as_ref()),
        notices: Vec::new(),
        ..top.clone()
    };
    PlannedCall {
        uses: call.uses.value.clone(),
        with: call.with.clone(),
        secrets: call.secrets.clone(),
        inputs: called.inputs.clone(),
        outputs: called.outputs.clone(),
        concurrency: called.concurrency.clone(),
        plan: Arc::new(plan),
    }
}

fn plan_job(top: &Plan, jobs: &IndexMap<String, Job>, defaults: Option<&Template>, job: &Job) -> PlannedJob {
    let called = |call: &Call| Some(plan_call(top, call, call.workflow.as_deref()?));
    let place = |need: &str| jobs.keys().position(|id| id.eq_ignore_ascii_case(need));
    PlannedJob {
        id: Arc::from(&**job.id),
        file: job.file,
        name: job.name.clone(),
        // A need without a job is an error of the parser.
        needs: job.needs.iter().filter_map(|need| place(need)).collect(),
        condition: job.condition.clone(),
        runs_on: job.runs_on.clone(),
        strategy: job.strategy.clone(),
        env: job.env.clone(),
        environment: job.environment.clone(),
        concurrency: job.concurrency.clone(),
        container: job.container.clone(),
        services: job.services.clone(),
        permissions: job.permissions.clone(),
        may_request_id_token: job
            .permissions
            .as_ref()
            .is_some_and(|permissions| permissions.granted().get("id-token") == Level::Write),
        defaults: [job.defaults.as_ref(), defaults].into_iter().flatten().cloned().collect(),
        steps: steps_of(top, job),
        outputs: job.outputs.clone(),
        timeout: job.timeout_minutes.clone(),
        cancel_timeout: job.cancel_timeout_minutes.clone(),
        continue_on_error: job.continue_on_error.clone(),
        call: job.call.as_ref().and_then(called),
    }
}

/// The steps of a job. In a workflow of another repository, `$/path` is in that repository, at the same ref.
fn steps_of(top: &Plan, job: &Job) -> Vec<PlannedStep> {
    let mut steps = plan_steps(&job.steps, job.file);
    // The first file is the workflow that was started, whatever its name looks like.
    let file = top.files.get(job.file).filter(|_| job.file > 0);
    if let Some(Uses::Remote { owner, repository, reference, .. }) = file.and_then(|name| Uses::parse(name)) {
        for step in &mut steps {
            if let Work::Action(PlannedAction { uses, .. }) = &mut step.work
                && let Uses::SameRepository(path) = uses
            {
                *uses = Uses::Remote {
                    owner: owner.clone(),
                    repository: repository.clone(),
                    path: std::mem::take(path),
                    reference: reference.clone(),
                };
            }
        }
    }
    steps
}

/// The plan of a step that does something by itself.
pub(super) fn plan_step(step: &Step, work: Work) -> PlannedStep {
    PlannedStep {
        id: (!step.id_is_generated).then(|| step.id.clone()),
        key: step.id.clone(),
        name: step.name.clone(),
        condition: step.condition.clone(),
        env: step.env.clone(),
        limit: step.timeout_minutes.clone().map_or(StepLimit::None, StepLimit::Minutes),
        continue_on_error: step.continue_on_error.clone(),
        background: step.background,
        group_condition: None,
        work,
    }
}

/// What a step of a file does by itself; `None` for one that handles others.
pub(super) fn plan_work(step: &Step, file: usize) -> Option<Work> {
    Some(match &step.kind {
        StepKind::Run { run, shell, working_directory } => Work::Script {
            run: run.clone(),
            shell: shell.clone(),
            working_directory: working_directory.clone(),
        },
        StepKind::Uses { uses, with } => Work::Action(PlannedAction {
            text: uses.value.clone(),
            // The parser refuses what has none of the forms.
            uses: Uses::parse(uses)?,
            span: uses.span,
            file,
            with: with.clone(),
        }),
        StepKind::Wait(_) | StepKind::WaitAll | StepKind::Cancel(_) | StepKind::Parallel(_) => return None,
    })
}

/// Plans a list of commands: its steps become one job.
///
/// # Errors
/// See [`ParsedWorkflow::check`].
pub fn plan_commands(workflow: &ParsedWorkflow) -> Result<Plan, WorkflowProblem> {
    workflow.check()?;
    let command = |text: &String| Command { text: text.clone(), working_dir: None, timeout: COMMAND_LIMIT };
    let steps = workflow.steps.iter().enumerate().map(|(index, step)| PlannedStep {
        id: None,
        key: format!("__run_{}", index + 1),
        name: Some(Template::text(&step.name)),
        condition: succeeded(),
        env: None,
        limit: StepLimit::Fixed(match step.timeout_seconds {
            0 => COMMAND_LIMIT,
            seconds => Duration::from_secs(seconds),
        }),
        continue_on_error: Some(Template::new(Node::Bool(step.continue_on_error), Span::default())),
        background: false,
        group_condition: None,
        work: Work::Command { text: step.command.clone(), working_dir: step.working_dir.clone() },
    });
    let job = PlannedJob {
        id: Arc::from("workflow"),
        file: 0,
        name: Template::text(&workflow.name),
        needs: Vec::new(),
        condition: succeeded(),
        runs_on: None,
        strategy: None,
        env: None,
        environment: None,
        concurrency: None,
        container: None,
        services: None,
        permissions: None,
        may_request_id_token: false,
        defaults: Vec::new(),
        steps: steps.collect(),
        outputs: None,
        timeout: None,
        cancel_timeout: None,
        continue_on_error: None,
        call: None,
    };
    // A map of std has no order; one that stays the same from run to run is easier to follow.
    let mut env: IndexMap<_, _> = workflow.environment.iter().collect();
    env.sort_unstable_keys();
    let env = env.into_iter().map(|(name, value)| (Template::text(name), Template::text(value)));
    Ok(Plan {
        name: workflow.name.clone(),
        title: None,
        file: None,
        files: Vec::new(),
        setup: workflow.setup_commands.iter().map(command).collect(),
        env: Some(Template::new(Node::Map(env.collect()), Span::default())),
        concurrency: None,
        jobs: vec![job],
        cleanup: workflow.cleanup_commands.iter().map(command).collect(),
        notices: Vec::new(),
    })
}

/// The condition that is meant when nothing is written.
fn succeeded() -> Condition {
    Condition { expr: parsed("success()"), span: Span::default(), file: 0, written: None }
}

/// The condition that always holds.
pub(crate) fn always() -> Condition {
    Condition { expr: parsed("always()"), span: Span::default(), file: 0, written: None }
}

/// The condition that never holds.
pub(super) fn never() -> Condition {
    Condition { expr: parsed("false"), span: Span::default(), file: 0, written: None }
}

fn parsed(text: &str) -> Arc<Expr> {
    let expr = expr::parse(text, &Allowed::any()).expect("a call of a known function parses");
    Arc::new(expr.expect("it is not empty"))
}
