//! Reading a workflow, and the workflows it calls.

use super::convert::Converter;
use super::model::{Call, Job, Workflow};
use super::options::{DEEPEST, Options};
use crate::diagnostic::Diagnostic;
use crate::schema;
use crate::template::{self, Fatal, Limits, Template};
use std::collections::HashMap;
use std::sync::Arc;

/// The texts of workflows that others call, by what their callers write in `uses`.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    texts: HashMap<String, Arc<str>>,
}

impl Loader {
    /// Adds the text of the workflow `uses`.
    pub fn add(&mut self, uses: &str, text: &str) {
        self.texts.insert(uses.to_owned(), Arc::from(text));
    }

    /// Is the text of `uses` there?
    #[must_use]
    pub fn contains(&self, uses: &str) -> bool {
        self.texts.contains_key(uses)
    }
}

impl Workflow {
    /// Reads a workflow. Jobs that call workflows keep their [`Call`] unread; [`Workflow::load`]
    /// reads them too.
    ///
    /// `file` is how messages name the file.
    ///
    /// # Errors
    /// All errors of the file, at most ten, in GitHub's words.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let options = Options { skip_calls: true, ..Options::default() };
        Self::load(text, file, &Loader::default(), &options)
    }

    /// Reads a workflow and, unless the options say otherwise, the workflows it calls.
    ///
    /// # Errors
    /// All errors of the files, at most ten, in GitHub's words.
    pub fn load(text: &str, file: &str, loader: &Loader, options: &Options) -> Result<Self, Vec<Diagnostic>> {
        let mut limits = Limits::new(options.max_depth.min(DEEPEST), options.max_bytes);
        let root = read(&mut limits, options, file, text);
        let mut converter = Converter { limits: &mut limits, options, job_count: 0 };
        let workflow = root.filter(|_| converter.limits.errors.is_empty()).and_then(|root| {
            match converter.workflow(&root) {
                Ok(workflow) => Some(workflow),
                Err(fail) => {
                    fail.report(converter.limits);
                    None
                }
            }
        });
        let Some(mut workflow) = workflow.filter(|_| converter.limits.errors.is_empty()) else {
            return Err(limits.errors);
        };
        if !options.skip_calls {
            let mut calls = Calls { converter, loader, root_file: file, files_read: 1 };
            for job in workflow.jobs.values_mut() {
                if calls.load(job, 1).is_none() {
                    return Err(limits.errors);
                }
            }
        }
        if !limits.errors.is_empty() {
            return Err(limits.errors);
        }
        workflow.warnings = super::lint::check(&workflow, &limits.files);
        workflow.files = limits.files;
        Ok(workflow)
    }
}

/// Reads one file along the schema.
fn read(limits: &mut Limits, options: &Options, path: &str, text: &str) -> Option<Template> {
    let file = match limits.file(path) {
        Ok(file) => file,
        Err(fatal) => {
            limits.fatal(0, fatal);
            return None;
        }
    };
    let max = options.max_file_size;
    if text.chars().nth(max).is_some() {
        limits
            .fatal(file, Fatal::new(format!("The maximum file size of {max} characters has been exceeded")));
        return None;
    }
    template::read(text, file, &schema::WORKFLOW, "workflow", limits)
}

struct Calls<'a> {
    converter: Converter<'a>,
    loader: &'a Loader,
    root_file: &'a str,
    files_read: usize,
}

impl Calls<'_> {
    /// Reads the workflow that `job` calls and those it calls in turn; `None` after an error.
    fn load(&mut self, job: &mut Job, depth: usize) -> Option<()> {
        let Some(mut call) = job.call.take() else { return Some(()) };
        let known = self.converter.limits.errors.len();
        let loaded = self.call(job, &mut call, depth);
        self.prefix(&call, known);
        if loaded.is_some()
            && let Some(called) = &mut call.workflow
        {
            for nested in called.jobs.values_mut() {
                self.load(nested, depth + 1)?;
            }
        }
        job.call = Some(call);
        loaded
    }

    fn call(&mut self, job: &Job, call: &mut Call, depth: usize) -> Option<()> {
        let options = self.converter.options;
        let text = match self.text(call, depth) {
            Ok(text) => text,
            Err(message) => {
                self.converter.limits.fatal(usize::MAX, Fatal::new(message));
                return None;
            }
        };
        let root = read(self.converter.limits, options, &call.uses, &text);
        let root = root.filter(|_| self.converter.limits.errors.is_empty())?;
        let max = job.permissions.clone().unwrap_or_else(|| options.default_permissions.clone());
        match self.converter.called(&root, job, call, &max) {
            Ok(called) => call.workflow = Some(Box::new(called)),
            Err(fail) => fail.report(self.converter.limits),
        }
        self.converter.limits.errors.is_empty().then_some(())
    }

    /// The text of the called workflow.
    fn text(&mut self, call: &Call, depth: usize) -> Result<Arc<str>, String> {
        let options = self.converter.options;
        if depth > options.max_call_depth {
            return Err(format!("Nested reusable workflow depth exceeded {}.", options.max_call_depth));
        }
        self.files_read += 1;
        if self.files_read > options.max_files {
            return Err(format!("The maximum file count of {} has been exceeded", options.max_files));
        }
        self.loader
            .texts
            .get(&call.uses.value)
            .cloned()
            .ok_or_else(|| format!("Cannot find the called workflow '{}'", call.uses.value))
    }

    /// Says for an error in a called file which call led there.
    fn prefix(&mut self, call: &Call, known: usize) {
        let caller =
            self.converter.limits.files.get(call.file).cloned().unwrap_or_else(|| Arc::from(self.root_file));
        for error in self.converter.limits.errors.iter_mut().skip(known) {
            if !error.to_string().starts_with(&*caller) {
                let span = call.uses.span;
                error.called_from.push(format!(
                    "In {caller} (Line: {}, Col: {}): Error from called workflow",
                    span.line, span.col
                ));
            }
        }
    }
}
