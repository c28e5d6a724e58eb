//! Which keys of a workflow file are not executed yet. Each is an error before anything starts: none is skipped in
//! silence.

use std::sync::Arc;

use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::span::Span;
use terraphim_actions::template::Template;
use terraphim_actions::workflow::{Call, Job, Step, StepKind, Workflow};

/// What is in the file and cannot be executed, in the order of the file.
pub(super) fn unsupported(workflow: &Workflow) -> Vec<Diagnostic> {
    let mut found = Found { files: &workflow.files, diagnostics: Vec::new() };
    for job in workflow.jobs.values() {
        found.job(job);
    }
    found.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.col));
    found.diagnostics
}

/// What is legal in the file and surely wrong.
pub(super) fn without_effect(workflow: &Workflow) -> Vec<String> {
    workflow.warnings.iter().map(|warning| format!("warning: {warning}")).collect()
}

struct Found<'a> {
    files: &'a [Arc<str>],
    diagnostics: Vec<Diagnostic>,
}

impl Found<'_> {
    fn add(&mut self, file: usize, span: Span, key: &str, hint: &str) {
        self.say(file, span, format!("`{key}` is not executed by this version"), hint);
    }

    fn say(&mut self, file: usize, span: Span, text: String, hint: &str) {
        let file = self.files.get(file).or(self.files.first()).cloned().unwrap_or_else(|| Arc::from(""));
        self.diagnostics.push(Diagnostic::error(&file, span, text).with_hint(hint));
    }

    fn key(&mut self, key: &str, value: Option<&Template>, hint: &str) {
        if let Some(value) = value {
            self.add(value.file, value.span, key, hint);
        }
    }

    fn job(&mut self, job: &Job) {
        if let Some(call) = &job.call {
            return self.call(call);
        }
        self.key("snapshot", job.snapshot.as_ref(), "remove it");
        for step in &job.steps {
            self.step(step);
        }
    }

    fn call(&mut self, call: &Call) {
        if let Some(called) = &call.workflow {
            return called.jobs.values().for_each(|job| self.job(job));
        }
        let (why, hint) = if call.uses.starts_with("./") {
            (
                "there is no such file in the repository",
                "the path is from its top; make the file, or correct the path",
            )
        } else {
            ("it was not fetched", "workflows of other repositories have to be fetched before a run")
        };
        self.say(call.file, call.uses.span, format!("`uses: {}`: {why}", *call.uses), hint);
    }

    fn step(&mut self, step: &Step) {
        let file = step.condition.file;
        match &step.kind {
            StepKind::Run { .. }
            | StepKind::Uses { .. }
            | StepKind::Wait(_)
            | StepKind::WaitAll
            | StepKind::Cancel(_) => {}
            StepKind::Parallel(steps) => {
                for inner in steps {
                    match &inner.kind {
                        StepKind::Run { .. } | StepKind::Uses { .. } => self.step(inner),
                        _ => self.add(
                            file,
                            inner.span,
                            "parallel",
                            "a step in it may have `run` or `uses`; put the others before or after it",
                        ),
                    }
                }
            }
        }
    }
}
