//! Reading a workflow, and the workflows it calls.

use super::convert::Converter;
use super::model::{Call, Job, Workflow};
use super::options::{DEEPEST, Options};
use super::steps::Uses;
use crate::diagnostic::Diagnostic;
use crate::schema;
use crate::template::{self, Fatal, Limits, Template};
use std::collections::HashMap;
use std::sync::Arc;

/// The texts of workflows that others call, by their [`called_name`].
#[derive(Clone, Debug, Default)]
pub struct Loader {
    texts: HashMap<String, Arc<str>>,
}

impl Loader {
    /// Adds the text of the workflow `name`.
    pub fn add(&mut self, name: &str, text: &str) {
        self.texts.insert(name.to_owned(), Arc::from(text));
    }

    /// Is the text of `name` there?
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }
}

/// The name of the workflow that `caller` calls with `uses`: what is written, but for a path in a workflow of another
/// repository, which means that repository at the same ref. GitHub: docs, "Reusing workflow configurations".
///
/// `caller` is the caller's own such name, absent for the workflow that is started.
#[must_use]
pub fn called_name(caller: Option<&str>, uses: &str) -> String {
    let path = uses.strip_prefix("./");
    match (path, caller.and_then(Uses::parse)) {
        (Some(path), Some(Uses::Remote { owner, repository, reference, .. })) => {
            format!("{owner}/{repository}/{path}@{reference}")
        }
        _ => uses.to_owned(),
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
            let open = vec![own_name(file)];
            let mut calls = Calls { converter, loader, root_file: file, open, files_read: 1 };
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

/// The name by which a workflow of the same repository calls the one that is started.
fn own_name(file: &str) -> String {
    let at = file.rfind(".github/workflows/").unwrap_or_default();
    format!("./{}", file[at..].trim_start_matches("./"))
}

struct Calls<'a> {
    converter: Converter<'a>,
    loader: &'a Loader,
    root_file: &'a str,
    /// The names of the workflows that lead to the one that is read.
    open: Vec<String>,
    files_read: usize,
}

impl Calls<'_> {
    /// Reads the workflow that `job` calls and those it calls in turn; `None` after an error.
    fn load(&mut self, job: &mut Job, depth: usize) -> Option<()> {
        let Some(mut call) = job.call.take() else { return Some(()) };
        let known = self.converter.limits.errors.len();
        let name = self.name(&call);
        let loaded = self.call(job, &mut call, &name, depth);
        self.prefix(&call, known);
        if loaded.is_some()
            && let Some(called) = &mut call.workflow
        {
            self.open.push(name);
            for nested in called.jobs.values_mut() {
                self.load(nested, depth + 1)?;
            }
            self.open.pop();
        }
        job.call = Some(call);
        loaded
    }

    fn call(&mut self, job: &Job, call: &mut Call, name: &str, depth: usize) -> Option<()> {
        let options = self.converter.options;
        let text = match self.text(name, depth) {
            Ok(Some(text)) => text,
            Ok(None) => return Some(()),
            Err((message, hint)) => {
                let hint = Some(hint.to_owned());
                self.converter.limits.error_with(call.file, call.uses.span, message, hint);
                return None;
            }
        };
        let root = read(self.converter.limits, options, name, &text);
        let root = root.filter(|_| self.converter.limits.errors.is_empty())?;
        let max = job.permissions.clone().unwrap_or_else(|| options.default_permissions.clone());
        match self.converter.called(&root, job, call, &max) {
            Ok(called) => call.workflow = Some(Box::new(called)),
            Err(fail) => fail.report(self.converter.limits),
        }
        self.converter.limits.errors.is_empty().then_some(())
    }

    /// The name of the called workflow. The first file is the one that is started.
    fn name(&self, call: &Call) -> String {
        let caller = self.converter.limits.files.get(call.file).filter(|_| call.file > 0);
        called_name(caller.map(|name| &**name), &call.uses)
    }

    /// The text of the called workflow, if it is there or has to be; else what is wrong, and what to do about it.
    fn text(&mut self, name: &str, depth: usize) -> Result<Option<Arc<str>>, (String, &'static str)> {
        let options = self.converter.options;
        if self.open.iter().any(|open| open == name) {
            // docs.github.com, "Reusing workflow configurations": "Loops in the workflow tree are not permitted."
            let open = self.open.iter().map(String::as_str).skip_while(|open| *open != name);
            let way: Vec<&str> = open.chain([name]).collect();
            let message = format!("The workflow calls itself: {}", way.join(" -> "));
            return Err((message, "Move the jobs that both need to a workflow that calls neither"));
        }
        if depth > options.max_call_depth {
            let message = format!("Nested reusable workflow depth exceeded {}.", options.max_call_depth);
            return Err((message, "Call its jobs from fewer levels of workflows"));
        }
        self.files_read += 1;
        if self.files_read > options.max_files {
            let message = format!("The maximum file count of {} has been exceeded", options.max_files);
            return Err((message, "Call fewer workflows, or put some of their jobs together"));
        }
        let text = self.loader.texts.get(name).cloned();
        if text.is_none() && !options.skip_missing_calls {
            let message = format!("Cannot find the called workflow '{name}'");
            return Err((message, "Is the path right, and is the file in the repository?"));
        }
        Ok(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_workflow_of_another_repository_is_of_that_one() {
        let remote = "acme/flows/.github/workflows/a.yml@v1";
        for (caller, uses, want) in [
            (None, "./.github/workflows/b.yml", "./.github/workflows/b.yml"),
            (Some("./.github/workflows/x@y.yml"), "./.github/workflows/b.yml", "./.github/workflows/b.yml"),
            (Some(remote), "./.github/workflows/b.yml", "acme/flows/.github/workflows/b.yml@v1"),
            (Some(remote), "o/r/.github/workflows/b.yml@main", "o/r/.github/workflows/b.yml@main"),
        ] {
            assert_eq!(called_name(caller, uses), want);
        }
    }

    #[test]
    fn a_missing_call_is_an_error_or_stays_unread_alone() {
        let mut loader = Loader::default();
        let job = "on: workflow_call\njobs: {inner: {runs-on: x, steps: [{run: x}]}}";
        loader.add("./.github/workflows/there.yml", job);
        let text = "on: push\njobs: {gone: {uses: ./.github/workflows/gone.yml}, there: {uses: ./.github/workflows/there.yml}}";
        let errors = Workflow::load(text, "w.yml", &loader, &Options::default()).unwrap_err();
        assert_eq!(errors[0].message, "Cannot find the called workflow './.github/workflows/gone.yml'");
        let options = Options { skip_missing_calls: true, ..Options::default() };
        let workflow = Workflow::load(text, "w.yml", &loader, &options).expect("a workflow");
        let is_read =
            |job: &str| workflow.jobs[job].call.as_ref().is_some_and(|call| call.workflow.is_some());
        assert!(is_read("there") && !is_read("gone"));
        // What is wrong with one that is there is said all the same.
        loader.add(
            "./.github/workflows/there.yml",
            "on: workflow_call\njobs: {inner: {runs-on: x, stepz: []}}",
        );
        assert!(Workflow::load(text, "w.yml", &loader, &options).is_err());
    }

    #[test]
    fn two_files_of_one_path_in_two_repositories_are_two_workflows() {
        let mut loader = Loader::default();
        let job =
            |name: &str| format!("on: workflow_call\njobs: {{{name}: {{runs-on: x, steps: [{{run: x}}]}}}}");
        loader.add("./.github/workflows/b.yml", &job("ours"));
        loader.add("o/r/.github/workflows/b.yml@v1", &job("theirs"));
        loader.add(
            "o/r/.github/workflows/a.yml@v1",
            "on: workflow_call\njobs: {deep: {uses: ./.github/workflows/b.yml}}",
        );
        let text = "on: push\njobs: {near: {uses: ./.github/workflows/b.yml}, far: {uses: o/r/.github/workflows/a.yml@v1}}";
        let workflow = Workflow::load(text, "w.yml", &loader, &Options::default()).expect("a workflow");
        let called =
            |job: &Job| job.call.as_ref().and_then(|call| call.workflow.clone()).expect("it is loaded");
        assert!(called(&workflow.jobs["near"]).jobs.contains_key("ours"));
        assert!(called(&called(&workflow.jobs["far"]).jobs["deep"]).jobs.contains_key("theirs"));
    }
}
