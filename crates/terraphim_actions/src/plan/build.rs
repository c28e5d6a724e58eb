//! Evaluating what is known.

use super::{Instance, Known, Plan, PlannedCall, PlannedJob};
use crate::expr::{Expr, ExprError, Function, Functions, Node, Object, Scope};
use crate::matrix::{self, Strategy};
use crate::resolve;
use crate::template::{Node as TemplateNode, Template, TemplateError};
use crate::workflow::{Job, Workflow, needs};
use indexmap::IndexMap;

/// Before a run starts nothing has failed.
struct NothingFailed;

impl Functions for NothingFailed {
    fn success(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Ok(true)
    }

    fn failure(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Ok(false)
    }

    fn cancelled(&self) -> Result<bool, ExprError> {
        Ok(false)
    }

    fn hash_files(&self, _patterns: &[String]) -> Result<String, ExprError> {
        Err(ExprError::not_known_yet("hashFiles"))
    }
}

impl Plan {
    /// The plan of `workflow` with what is known now: usually `github`, `inputs` and `vars`.
    ///
    /// # Errors
    /// If an expression whose contexts are all known cannot be evaluated, or a matrix is not valid.
    pub fn new(workflow: &Workflow, contexts: &Object) -> Result<Self, TemplateError> {
        let planner = Planner { contexts };
        Ok(Self {
            name: workflow.name.as_ref().map(|name| name.value.clone()),
            concurrency: planner.group(workflow.concurrency.as_ref(), contexts)?,
            jobs: planner.jobs(&workflow.jobs, "")?,
        })
    }
}

struct Planner<'a> {
    contexts: &'a Object,
}

impl Planner<'_> {
    fn jobs(&self, jobs: &IndexMap<String, Job>, prefix: &str) -> Result<Vec<PlannedJob>, TemplateError> {
        needs::order(jobs)
            .into_iter()
            .filter_map(|id| jobs.get(id))
            .map(|job| self.job(job, prefix))
            .collect()
    }

    fn job(&self, job: &Job, prefix: &str) -> Result<PlannedJob, TemplateError> {
        let id = format!("{prefix}{}", job.id.value);
        // In a called workflow `inputs` is another context, which only the run knows.
        let contexts =
            if prefix.is_empty() { self.contexts.clone() } else { without(self.contexts, "inputs") };
        let strategy = match waits(job.strategy.as_ref(), &contexts) {
            Some(reason) => Known::Later(reason),
            None => Known::Now(self.strategy(job, &contexts)?),
        };
        let instances = match &strategy {
            Known::Later(reason) => Known::Later(reason.clone()),
            Known::Now(strategy) => Known::Now(self.instances(job, strategy, &contexts)?),
        };
        let call = match &job.call {
            Some(call) => {
                let called =
                    call.workflow.as_deref().map(|called| self.jobs(&called.jobs, &format!("{id}/")));
                Some(PlannedCall {
                    uses: call.uses.value.clone(),
                    jobs: called.transpose()?.unwrap_or_default(),
                })
            }
            None => None,
        };
        Ok(PlannedJob {
            needs: job.needs.iter().map(|need| format!("{prefix}{}", need.value)).collect(),
            condition: job.condition.expr.source().to_owned(),
            runs: runs(job, &contexts)?,
            instances,
            fail_fast: strategy.now().is_none_or(|strategy| strategy.fail_fast),
            max_parallel: strategy.now().and_then(|strategy| strategy.max_parallel),
            steps: job.steps.len(),
            call,
            id,
        })
    }

    fn strategy(&self, job: &Job, contexts: &Object) -> Result<Strategy, TemplateError> {
        let scope = Scope::new(contexts, &NothingFailed);
        let name = job.name.as_str().unwrap_or(&job.id.value);
        matrix::expand(job.strategy.as_ref(), &scope, name)
    }

    fn instances(
        &self,
        job: &Job,
        strategy: &Strategy,
        contexts: &Object,
    ) -> Result<Vec<Instance>, TemplateError> {
        let mut instances = Vec::with_capacity(strategy.configurations.len());
        for configuration in &strategy.configurations {
            let mut contexts = contexts.clone();
            contexts.insert("matrix", configuration.matrix.clone());
            contexts.insert("strategy", configuration.strategy.clone());
            let name = match &job.name.node {
                TemplateNode::Expr(_) => text(&job.name, &contexts)?,
                _ => Known::Now(configuration.name.clone()),
            };
            let environment = job.environment.as_ref().map(|value| value.get("name").unwrap_or(value));
            instances.push(Instance {
                name,
                matrix: serde_json::Value::from(&configuration.matrix),
                runs_on: labels(job.runs_on.as_ref(), &contexts)?,
                concurrency: self.group(job.concurrency.as_ref(), &contexts)?,
                environment: environment.map(|name| text(name, &contexts)).transpose()?,
            });
        }
        Ok(instances)
    }

    fn group(
        &self,
        concurrency: Option<&Template>,
        contexts: &Object,
    ) -> Result<Option<Known<String>>, TemplateError> {
        let Some(template) = concurrency else { return Ok(None) };
        if let Some(reason) = waits(Some(template), contexts) {
            return Ok(Some(Known::Later(reason)));
        }
        let scope = Scope::new(contexts, &NothingFailed);
        Ok(Some(Known::Now(resolve::concurrency(template, &scope)?.group)))
    }
}

fn without(contexts: &Object, name: &str) -> Object {
    let mut rest = contexts.clone();
    rest.remove(name);
    rest
}

fn text(template: &Template, contexts: &Object) -> Result<Known<String>, TemplateError> {
    if let Some(reason) = waits(Some(template), contexts) {
        return Ok(Known::Later(reason));
    }
    Ok(Known::Now(template.text_value(&Scope::new(contexts, &NothingFailed))?))
}

fn labels(runs_on: Option<&Template>, contexts: &Object) -> Result<Known<Vec<String>>, TemplateError> {
    let Some(template) = runs_on else { return Ok(Known::Now(Vec::new())) };
    if let Some(reason) = waits(runs_on, contexts) {
        return Ok(Known::Later(reason));
    }
    let runs_on = resolve::runs_on(template, &Scope::new(contexts, &NothingFailed))?;
    let group = runs_on.group.map(|group| format!("group:{group}"));
    Ok(Known::Now(group.into_iter().chain(runs_on.labels).collect()))
}

/// Does the condition hold? With needs, that is only known if it does not ask about them.
fn runs(job: &Job, contexts: &Object) -> Result<Known<bool>, TemplateError> {
    let condition = &job.condition;
    if let Some(reason) = waits_for(&condition.expr, contexts) {
        return Ok(Known::Later(reason));
    }
    let value = condition.holds(&Scope::new(contexts, &NothingFailed))?;
    if job.needs.is_empty() || !asks_about_needs(&condition.expr) {
        return Ok(Known::Now(value));
    }
    // A condition that fails while all is well may still hold after a failure.
    let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
    Ok(Known::Later(format!("the results of {}", needs.join(", "))))
}

fn asks_about_needs(expr: &Expr) -> bool {
    let mut found = false;
    expr.root().visit(&mut |node| {
        found |= matches!(node, Node::Call(function, ..) if function.is_status() && *function != Function::Always);
    });
    found
}

/// What an expression in the template waits for; `None` if everything is known.
fn waits(template: Option<&Template>, contexts: &Object) -> Option<String> {
    let mut reason = None;
    template?.visit(&mut |template| {
        if let (None, TemplateNode::Expr(expr)) = (&reason, &template.node) {
            reason = waits_for(expr, contexts);
        }
    });
    reason
}

fn waits_for(expr: &Expr, contexts: &Object) -> Option<String> {
    let unknown = |path: &Vec<&str>| match path.as_slice() {
        // What `github` has is fixed: a property that was not given, such as `run_id`, has a value all the same.
        [name, property, ..] if name.eq_ignore_ascii_case("github") => {
            contexts.get(name).is_none_or(|github| github.get(property).is_none())
        }
        [name, ..] => !contexts.contains_key(name),
        [] => false,
    };
    Some(expr.context_paths().into_iter().find(unknown)?.join("."))
}
