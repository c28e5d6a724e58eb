//! What is legal but surely wrong, or worth knowing.

use super::model::{Condition, Job, Step, StepKind, Workflow};
use super::steps::Uses;
use super::triggers::{Patterns, Trigger, Triggers};
use crate::diagnostic::{Diagnostic, Severity};
use crate::expr::{Expr, Function, Node as ExprNode, fold};
use crate::span::Span;
use crate::template::{Node, Template};
use crate::trigger::cron::Cron;
use crate::trigger::{self, PatternList};
use std::sync::Arc;

/// What anyone who can open an issue or a pull request decides. Source: docs.github.com, "Security
/// hardening: understanding the risk of script injections".
const UNTRUSTED: [&[&str]; 20] = [
    &["github", "event", "issue", "title"],
    &["github", "event", "issue", "body"],
    &["github", "event", "pull_request", "title"],
    &["github", "event", "pull_request", "body"],
    &["github", "event", "discussion", "title"],
    &["github", "event", "discussion", "body"],
    &["github", "event", "comment", "body"],
    &["github", "event", "review", "body"],
    &["github", "event", "review_comment", "body"],
    &["github", "event", "pages"],
    &["github", "event", "commits"],
    &["github", "event", "head_commit", "message"],
    &["github", "event", "head_commit", "author", "email"],
    &["github", "event", "head_commit", "author", "name"],
    &["github", "event", "pull_request", "head", "ref"],
    &["github", "event", "pull_request", "head", "label"],
    &["github", "event", "pull_request", "head", "repo", "default_branch"],
    &["github", "event", "workflow_run", "head_branch"],
    &["github", "event", "workflow_run", "head_commit", "message"],
    &["github", "head_ref"],
];

/// The findings about a workflow, in the order of the file.
pub(super) fn check(workflow: &Workflow, files: &[Arc<str>]) -> Vec<Diagnostic> {
    let mut lint = Lint { findings: Vec::new(), files };
    lint.triggers(&workflow.on);
    for job in workflow.jobs.values() {
        lint.job(job);
    }
    lint.findings.sort_by_key(|finding| (finding.line, finding.col));
    lint.findings
}

struct Lint<'a> {
    findings: Vec<Diagnostic>,
    files: &'a [Arc<str>],
}

impl Lint<'_> {
    fn add(&mut self, severity: Severity, file: usize, span: Span, message: String, hint: &str) {
        let name = self.files.get(file).cloned().unwrap_or_else(|| Arc::from(""));
        let finding = Diagnostic::error(&name, span, message).with_hint(hint);
        self.findings.push(Diagnostic { severity, ..finding });
    }

    fn warn(&mut self, file: usize, span: Span, message: String, hint: &str) {
        self.add(Severity::Warning, file, span, message, hint);
    }

    fn triggers(&mut self, triggers: &Triggers) {
        for (name, trigger) in &triggers.events {
            for key in &trigger.unknown {
                let message = format!("The event '{name}' knows no key '{}'", key.value);
                self.warn(0, key.span, message, "GitHub ignores it; remove it or correct its name");
            }
            self.types(name, trigger);
            self.filters(trigger);
            for schedule in &trigger.schedule {
                if let Err(error) = Cron::parse(&schedule.cron) {
                    let message = format!("The time '{}' is not valid: {error}", schedule.cron.value);
                    self.warn(0, schedule.cron.span, message, "The workflow never starts at this time");
                }
            }
        }
    }

    fn types(&mut self, name: &str, trigger: &Trigger) {
        let (Some(types), Some(info)) = (&trigger.types, trigger::find(name)) else { return };
        for kind in types
            .list
            .iter()
            .filter(|kind| !info.types.is_empty() && !info.types.contains(&kind.value.as_str()))
        {
            let message = format!("The event '{name}' has no activity type '{}'", kind.value);
            self.warn(0, kind.span, message, &format!("It has {}", info.types.join(", ")));
        }
    }

    fn filters(&mut self, trigger: &Trigger) {
        let pairs = [
            ("branches", &trigger.branches, &trigger.branches_ignore),
            ("tags", &trigger.tags, &trigger.tags_ignore),
            ("paths", &trigger.paths, &trigger.paths_ignore),
        ];
        for (key, only, ignore) in pairs {
            if let (Some(_), Some(ignore)) = (only, ignore) {
                let message = format!("An event may have only one of '{key}' and '{key}-ignore'");
                self.warn(0, ignore.span, message, "Use one list with patterns that start with '!'");
            }
            for patterns in [only, ignore].into_iter().flatten() {
                self.patterns(patterns);
            }
        }
    }

    fn patterns(&mut self, patterns: &Patterns) {
        let texts: Vec<&str> = patterns.list.iter().map(|pattern| pattern.value.as_str()).collect();
        if let Err((index, error)) = PatternList::new(&texts) {
            let pattern = &patterns.list[index];
            let message = format!("The pattern '{}' is not valid: {error}", pattern.value);
            self.warn(0, pattern.span, message, "A '\\' before a sign takes it as it is");
        } else if texts.iter().all(|text| text.starts_with('!')) && !texts.is_empty() {
            let message = "A list of patterns that all start with '!' lets nothing through".to_owned();
            self.warn(0, patterns.span, message, "Put '**' first, or use the -ignore form of the key");
        }
    }

    fn job(&mut self, job: &Job) {
        self.condition(&job.condition);
        self.needs(job);
        for step in &job.steps {
            self.step(job.file, step);
        }
        if let Some(called) = job.call.as_ref().and_then(|call| call.workflow.as_deref()) {
            for nested in called.jobs.values() {
                self.job(nested);
            }
        }
    }

    /// A use of `needs` that names a job which is not needed is null.
    fn needs(&mut self, job: &Job) {
        let mut unknown = Vec::new();
        let mut look = |template: &Template| {
            if let Node::Expr(expr) = &template.node {
                unknown.extend(unknown_needs(job, expr).map(|need| (template.span, need)));
            }
        };
        let keys = [&job.env, &job.strategy, &job.runs_on, &job.outputs, &job.environment, &job.concurrency];
        keys.into_iter().flatten().for_each(|template| template.visit(&mut look));
        for step in &job.steps {
            for template in step_templates(step) {
                template.visit(&mut look);
            }
        }
        unknown.extend(unknown_needs(job, &job.condition.expr).map(|need| (job.condition.span, need)));
        for (span, need) in unknown {
            let message =
                format!("The job '{}' does not need '{need}', so 'needs.{need}' is null", job.id.value);
            self.warn(job.file, span, message, "Add it to 'needs'");
        }
    }

    fn condition(&mut self, condition: &Condition) {
        if condition.written.is_none() {
            return;
        }
        // `success() && (...)` is what the condition was wrapped in.
        let inner = match condition.expr.root() {
            ExprNode::And(operands) => operands.last(),
            other => Some(other),
        };
        if let Some(ExprNode::Call(Function::Format, ..)) = inner {
            let message = "The condition is a text, which always counts as true".to_owned();
            self.warn(
                condition.file,
                condition.span,
                message,
                "Put the whole condition inside one ${{ }}, or use none",
            );
        }
    }

    fn step(&mut self, file: usize, step: &Step) {
        self.condition(&step.condition);
        match &step.kind {
            StepKind::Run { run, .. } => self.script(run),
            StepKind::Uses { uses, with } => {
                self.pin(file, uses.span, uses);
                let is_script = uses.starts_with("actions/github-script@");
                if let (true, Some(script)) = (is_script, with.as_ref().and_then(|with| with.get("script"))) {
                    self.script(script);
                }
            }
            StepKind::Parallel(steps) => steps.iter().for_each(|step| self.step(file, step)),
            StepKind::Wait(_) | StepKind::WaitAll | StepKind::Cancel(_) => {}
        }
    }

    /// A script must not contain what a stranger wrote.
    fn script(&mut self, script: &Template) {
        let Node::Expr(expr) = &script.node else { return };
        for path in expr.context_paths() {
            let is_untrusted = UNTRUSTED.iter().any(|known| {
                path.len() >= known.len() && path.iter().zip(*known).all(|(part, name)| fold::eq(part, name))
            });
            if is_untrusted {
                let name = path.join(".");
                let message =
                    format!("'{name}' is text that a stranger may choose, and becomes part of the script");
                self.warn(
                    script.file,
                    script.span,
                    message,
                    "Pass it in 'env' and use the variable in the script",
                );
            }
        }
    }

    fn pin(&mut self, file: usize, span: Span, uses: &str) {
        let Some(Uses::Remote { reference, .. }) = Uses::parse(uses) else { return };
        let is_commit = reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_commit {
            let message = format!("'{uses}' is not pinned to a commit");
            self.add(Severity::Info, file, span, message, "A branch or tag may point at other code tomorrow");
        }
    }
}

fn unknown_needs<'a>(job: &'a Job, expr: &'a Expr) -> impl Iterator<Item = String> + use<'a> {
    expr.context_paths().into_iter().filter_map(move |path| match path.as_slice() {
        [context, need, ..] if context.eq_ignore_ascii_case("needs") => {
            let is_needed = job.needs.iter().any(|known| fold::eq(known, need));
            (!is_needed).then(|| (*need).to_owned())
        }
        _ => None,
    })
}

fn step_templates(step: &Step) -> Vec<&Template> {
    let mut templates: Vec<&Template> =
        [&step.name, &step.env, &step.continue_on_error, &step.timeout_minutes]
            .into_iter()
            .flatten()
            .collect();
    match &step.kind {
        StepKind::Run { run, shell, working_directory } => {
            templates.push(run);
            templates.extend(shell);
            templates.extend(working_directory);
        }
        StepKind::Uses { with, .. } => templates.extend(with),
        StepKind::Parallel(steps) => templates.extend(steps.iter().flat_map(step_templates)),
        StepKind::Wait(_) | StepKind::WaitAll | StepKind::Cancel(_) => {}
    }
    templates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let workflow = Workflow::parse(text, "w.yml").expect("a workflow");
        workflow
            .warnings
            .iter()
            .map(|found| format!("{}:{} {}", found.line, found.col, found.message))
            .collect()
    }

    #[test]
    fn what_is_surely_wrong_is_found() {
        let text = "\
on:
  push:
    branches: ['!x']
    inputs: {}
  issues:
    types: [open]
  schedule:
    - cron: '@daily'
jobs:
  a:
    runs-on: x
    if: ${{ github.ref }} == 'x'
    steps:
      - run: echo ${{ github.event.issue.title }} ${{ needs.b.result }}
      - uses: o/r@main
      - uses: o/r@0123456789abcdef0123456789abcdef01234567
";
        let expected = [
            "3:5 A list of patterns that all start with '!' lets nothing through",
            "4:5 The event 'push' knows no key 'inputs'",
            "6:13 The event 'issues' has no activity type 'open'",
            "8:13 The time '@daily' is not valid: a cron time has five fields: minute, hour, day of the month, month, day \
             of the week",
            "12:9 The condition is a text, which always counts as true",
            "14:14 The job 'a' does not need 'b', so 'needs.b' is null",
            "14:14 'github.event.issue.title' is text that a stranger may choose, and becomes part of the script",
            "15:15 'o/r@main' is not pinned to a commit",
        ];
        assert_eq!(findings(text), expected);
    }

    #[test]
    fn a_good_workflow_has_no_findings() {
        let text = "\
on: {push: {branches: [main]}, pull_request: {types: [opened]}, schedule: [{cron: '0 3 * * 1'}]}
jobs:
  a: {runs-on: x, steps: [{run: x, if: always()}]}
  b: {needs: a, runs-on: x, steps: [{run: 'echo $R', env: {R: '${{ needs.a.result }}'}}]}
";
        assert_eq!(findings(text), Vec::<String>::new());
    }
}
