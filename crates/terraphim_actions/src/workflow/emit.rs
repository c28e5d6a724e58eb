//! A workflow as the JSON that GitHub's own parsers are compared by.

use super::model::{Call, CallSecrets, CalledWorkflow, Condition, Job, Step, StepKind, Workflow};
use super::permissions::{Level, Permissions};
use crate::span::{Span, Spanned};
use crate::template::{Node, Template};
use serde_json::{Map, Value, json};

impl Workflow {
    /// The workflow as JSON. With `source`, every value says where it is; without, literals are
    /// plain JSON.
    #[must_use]
    pub fn template_json(&self, source: bool) -> Value {
        let emitter = Emitter { source };
        let mut out = Map::new();
        let inputs = self.on.events.get("workflow_dispatch").map(|trigger| &trigger.dispatch_inputs);
        if let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty()) {
            let types = inputs.iter().map(|(name, input)| (name.clone(), json!(input.kind)));
            out.insert("input-types".into(), Value::Object(types.collect()));
        }
        emitter.permissions(&mut out, self.permissions.as_ref());
        emitter.optional(&mut out, "env", self.env.as_ref());
        emitter.optional(&mut out, "defaults", self.defaults.as_ref());
        emitter.optional(&mut out, "concurrency", self.concurrency.as_ref());
        let jobs = self.jobs.values().map(|job| emitter.job(job)).collect();
        out.insert("jobs".into(), Value::Array(jobs));
        if source {
            out.insert("file-table".into(), json!(self.files));
        }
        Value::Object(out)
    }
}

struct Emitter {
    source: bool,
}

impl Emitter {
    /// A token: its type and place, and one entry with its value.
    fn token(&self, kind: u8, file: usize, span: Span, entry: Option<(&str, Value)>) -> Value {
        let mut token = Map::new();
        token.insert("type".into(), json!(kind));
        if self.source && span.line > 0 {
            token.insert("file".into(), json!(file + 1));
            token.insert("line".into(), json!(span.line));
            token.insert("col".into(), json!(span.col));
        }
        if let Some((key, value)) = entry {
            token.insert(key.into(), value);
        }
        Value::Object(token)
    }

    fn literal(&self, kind: u8, file: usize, span: Span, key: &str, value: Value) -> Value {
        if self.source { self.token(kind, file, span, Some((key, value))) } else { value }
    }

    fn text(&self, file: usize, text: &Spanned<String>) -> Value {
        self.literal(0, file, text.span, "lit", json!(text.value))
    }

    fn template(&self, template: &Template) -> Value {
        let (file, span) = (template.file, template.span);
        match &template.node {
            Node::Null if self.source => self.token(7, file, span, None),
            Node::Null => Value::Null,
            Node::Bool(value) => self.literal(5, file, span, "bool", json!(value)),
            Node::Num(number) => {
                let number = Value::from(&crate::expr::Value::Num(*number));
                self.literal(6, file, span, "num", number)
            }
            Node::Str(text) => self.literal(0, file, span, "lit", json!(text)),
            Node::Seq(items) => {
                let items: Vec<Value> = items.iter().map(|item| self.template(item)).collect();
                // Of an empty collection only the place is told.
                let entry = (!items.is_empty()).then_some(("seq", Value::Array(items)));
                self.token(1, file, span, entry)
            }
            Node::Map(entries) => {
                let pair = |(key, value): &(Template, Template)| json!({ "Key": self.template(key), "Value": self.template(value) });
                let entries: Vec<Value> = entries.iter().map(pair).collect();
                let entry = (!entries.is_empty()).then_some(("map", Value::Array(entries)));
                self.token(2, file, span, entry)
            }
            Node::Expr(expr) => self.token(3, file, span, Some(("expr", json!(expr.source())))),
            Node::Insert => self.token(4, file, span, Some(("directive", json!("insert")))),
        }
    }

    fn optional(&self, out: &mut Map<String, Value>, key: &str, template: Option<&Template>) {
        if let Some(template) = template {
            out.insert(key.into(), self.template(template));
        }
    }

    fn permissions(&self, out: &mut Map<String, Value>, permissions: Option<&Permissions>) {
        if let Some(permissions) = permissions {
            let granted = permissions.iter().filter(|(_, level)| *level > Level::None);
            let granted = granted.map(|(scope, level)| (scope.to_owned(), json!(level.name())));
            out.insert("permissions".into(), Value::Object(granted.collect()));
        }
    }

    fn condition(&self, condition: &Condition) -> Value {
        self.token(3, condition.file, condition.span, Some(("expr", json!(condition.expr.source()))))
    }

    fn job(&self, job: &Job) -> Value {
        let mut out = Map::new();
        let kind = if job.call.is_some() { "reusableWorkflowJob" } else { "job" };
        out.insert("type".into(), json!(kind));
        out.insert("id".into(), self.text(job.file, &job.id));
        out.insert("name".into(), self.template(&job.name));
        if !job.needs.is_empty() || job.call.is_some() {
            let needs = job.needs.iter().map(|need| self.text(job.file, need)).collect();
            out.insert("needs".into(), Value::Array(needs));
        }
        out.insert("if".into(), self.condition(&job.condition));
        let called = job.call.as_ref().and_then(|call| call.workflow.as_deref());
        let permissions = called.map_or(job.permissions.as_ref(), |called| called.permissions.as_ref());
        self.permissions(&mut out, permissions);
        for (key, template) in [
            ("strategy", &job.strategy),
            ("concurrency", &job.concurrency),
            ("environment", &job.environment),
            ("env", &job.env),
            ("defaults", &job.defaults),
            ("runs-on", &job.runs_on),
            ("outputs", &job.outputs),
            ("timeout-minutes", &job.timeout_minutes),
            ("cancel-timeout-minutes", &job.cancel_timeout_minutes),
            ("continue-on-error", &job.continue_on_error),
            ("container", &job.container),
            ("services", &job.services),
            ("snapshot", &job.snapshot),
        ] {
            self.optional(&mut out, key, template.as_ref());
        }
        match &job.call {
            Some(call) => self.call(&mut out, call),
            None => {
                let steps = job.steps.iter().map(|step| self.step(job.file, step)).collect();
                out.insert("steps".into(), Value::Array(steps));
            }
        }
        Value::Object(out)
    }

    fn call(&self, out: &mut Map<String, Value>, call: &Call) {
        out.insert("ref".into(), self.text(call.file, &call.uses));
        self.optional(out, "input-values", call.with.as_ref());
        match &call.secrets {
            CallSecrets::Inherit => {
                out.insert("inherit-secrets".into(), json!(true));
            }
            CallSecrets::Map(map) => self.optional(out, "secret-values", Some(map)),
            CallSecrets::None => {}
        }
        let called = call.workflow.as_deref();
        if let Some(called) = called {
            self.called(out, called);
        }
        let jobs = called.map(|called| called.jobs.values().map(|job| self.job(job)).collect());
        out.insert("jobs".into(), Value::Array(jobs.unwrap_or_default()));
    }

    fn called(&self, out: &mut Map<String, Value>, called: &CalledWorkflow) {
        for (key, template) in [
            ("input-definitions", &called.inputs),
            ("secret-definitions", &called.secrets),
            ("outputs", &called.outputs),
            ("env", &called.env),
            ("defaults", &called.defaults),
            ("embedded-concurrency", &called.concurrency),
        ] {
            self.optional(out, key, template.as_ref());
        }
    }

    fn step(&self, file: usize, step: &Step) -> Value {
        let mut out = Map::new();
        out.insert("id".into(), json!(step.id));
        self.optional(&mut out, "name", step.name.as_ref());
        let default_name = match &step.kind {
            StepKind::Wait(_) => Some("Wait"),
            StepKind::WaitAll => Some("Wait for all"),
            StepKind::Cancel(_) => Some("Cancel"),
            _ => None,
        };
        match default_name {
            Some(name) if step.name.is_none() => {
                out.insert("name".into(), json!(name));
            }
            Some(_) => {}
            None => {
                out.insert("if".into(), self.condition(&step.condition));
            }
        }
        for (key, template) in [
            ("env", &step.env),
            ("continue-on-error", &step.continue_on_error),
            ("timeout-minutes", &step.timeout_minutes),
        ] {
            self.optional(&mut out, key, template.as_ref());
        }
        if step.background {
            out.insert("background".into(), json!(true));
        }
        self.step_kind(&mut out, file, &step.kind);
        Value::Object(out)
    }

    fn step_kind(&self, out: &mut Map<String, Value>, file: usize, kind: &StepKind) {
        match kind {
            StepKind::Run { run, shell, working_directory } => {
                out.insert("run".into(), self.template(run));
                self.optional(out, "shell", shell.as_ref());
                self.optional(out, "working-directory", working_directory.as_ref());
            }
            StepKind::Uses { uses, with } => {
                out.insert("uses".into(), self.text(file, uses));
                self.optional(out, "with", with.as_ref());
            }
            StepKind::Wait(targets) => {
                let targets = targets.iter().map(|target| self.text(file, target)).collect();
                out.insert("wait".into(), Value::Array(targets));
            }
            StepKind::WaitAll => {
                out.insert("wait-all".into(), json!(true));
            }
            StepKind::Cancel(target) => {
                out.insert("cancel".into(), self.text(file, target));
            }
            StepKind::Parallel(steps) => {
                let steps = steps.iter().map(|step| self.step(file, step)).collect();
                out.insert("parallel".into(), Value::Array(steps));
            }
        }
    }
}
