//! Which workflow files are meant, and which repository they belong to.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use terraphim_actions::{
    expr::Value,
    trigger::{self, Event},
    workflow::{Job, Workflow},
};

use super::{event::EventArgs, request::outside_git, source::Source};
use crate::{exit::Exit, failure::Failure, input, output, workspace::Repository};

/// Where GitHub looks.
const WORKFLOWS: &str = ".github/workflows";

/// What the command line means.
#[derive(Debug)]
pub(in crate::cli) struct Selection {
    /// The top of the working tree.
    pub(in crate::cli) root: PathBuf,
    /// Its repository, if it is one.
    pub(in crate::cli) git: Option<Repository>,
    /// The workflow files.
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Whether the user named one file rather than a place to look.
    is_one_file: bool,
}

/// A workflow that is to run.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) source: Source,
    pub(super) workflow: Workflow,
    /// Why it runs.
    pub(super) event: String,
}

/// Finds the files for a run.
pub(super) fn select(path: Option<&Path>) -> Result<Selection, Failure> {
    let selection = find(path)?;
    refuse_too_much(&selection.root, selection.git.is_some())?;
    Ok(selection)
}

/// Finds the files.
pub(in crate::cli) fn find(path: Option<&Path>) -> Result<Selection, Failure> {
    let path = path.unwrap_or(Path::new("."));
    let absolute = match path.canonicalize() {
        Ok(absolute) => absolute,
        Err(error) => named(path)?.ok_or_else(|| {
            Failure::io("find", path, error)
                .ending(Exit::Usage)
                .hint("give a workflow file, a directory with workflow files, or nothing inside a repository")
        })?,
    };
    let is_one_file = absolute.is_file();
    let directory = if is_one_file { absolute.parent().unwrap_or(&absolute) } else { &absolute };
    let git =
        Repository::discover(directory).map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    let root = match &git {
        Some(git) => git.root.clone(),
        None => without_workflows(directory),
    };
    let files = if is_one_file { vec![absolute.clone()] } else { files_of(&absolute, &root)? };
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "there are no workflow files (*.yml, *.yaml) in {}",
            path.display()
        ))
        .hint(format!("they belong in {WORKFLOWS} of the repository; or give a file")));
    }
    Ok(Selection { root, git, files, is_one_file })
}

/// The workflow of the current repository whose file is called so, as `gh workflow run ci.yml` has it. Says what it took.
fn named(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut components = path.components();
    let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else {
        return Ok(None);
    };
    let here = std::env::current_dir().map_err(|error| Failure::io("find", Path::new("."), error))?;
    let git = Repository::discover(&here).map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
    let root = git.map_or(here, |git| git.root);
    let found = root.join(WORKFLOWS).join(name).canonicalize().ok().filter(|file| file.is_file());
    if found.is_some() {
        let name = path.display();
        output::note(&format!("there is no {name} here: taking {WORKFLOWS}/{name} of the repository"));
    }
    Ok(found)
}

/// The directory above `.github/workflows`, when this is one; else the directory itself.
fn without_workflows(directory: &Path) -> PathBuf {
    let above = directory.ancestors().nth(Path::new(WORKFLOWS).components().count());
    above.filter(|_| directory.ends_with(WORKFLOWS)).unwrap_or(directory).to_owned()
}

/// Outside a repository the whole directory goes into the VM: never by accident somebody's home.
fn refuse_too_much(root: &Path, is_repository: bool) -> Result<(), Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    if is_repository || (root.parent().is_some() && home.is_none_or(|home| home != root)) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} is no git repository, and would be copied into the VM as a whole",
        root.display()
    ))
    .hint("put the workflow into a directory of its own, or make a repository with `git init`"))
}

fn files_of(directory: &Path, root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let candidates = [directory.join(WORKFLOWS), directory.to_owned(), root.join(WORKFLOWS)];
    for candidate in candidates {
        let entries = match fs::read_dir(&candidate) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::io("read directory", &candidate, error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Failure::io("read directory", &candidate, error))?.path();
            let is_workflow =
                path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
            if is_workflow && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// Reads and checks the files; keeps those that the event starts and that have one of `jobs`.
pub(super) fn read(
    selection: &Selection,
    event: &EventArgs,
    jobs: &[String],
) -> Result<Vec<Chosen>, Failure> {
    let mut all = Vec::new();
    let mut is_broken = false;
    for file in &selection.files {
        match read_one(selection, file, event.name())? {
            Some(chosen) => all.push(chosen),
            None => is_broken = true,
        }
    }
    if is_broken {
        return Err(Failure::silent(Exit::Usage));
    }
    let known: Vec<String> = all.iter().flat_map(|it| it.workflow.jobs.keys().cloned()).collect();
    for job in jobs {
        if !known.iter().any(|id| id.eq_ignore_ascii_case(job)) {
            return Err(Failure::usage(format!("no workflow has a job `{job}`"))
                .hint(format!("these exist: {}", known.join(", "))));
        }
    }
    let has_job = |it: &Chosen| {
        jobs.is_empty()
            || it.workflow.jobs.keys().any(|id| jobs.iter().any(|job| id.eq_ignore_ascii_case(job)))
    };
    all.retain(has_job);
    keep_triggered(selection, all, event)
}

/// `None` when the file is wrong, which is then said.
fn read_one(selection: &Selection, file: &Path, event: Option<&str>) -> Result<Option<Chosen>, Failure> {
    let path = file.strip_prefix(&selection.root).unwrap_or(file).to_string_lossy().into_owned();
    let bytes = input::read(file, input::MOST_DATA)
        .map_err(|error| Failure::io("read", file, error).ending(Exit::Usage))?;
    let text = input::utf8(bytes, &path)?;
    let source = Source::new(path, text, file);
    match source.load() {
        Ok(workflow) => {
            let event = event.map_or_else(|| default_event(&workflow), str::to_owned);
            Ok(Some(Chosen { source, workflow, event }))
        }
        Err(errors) => {
            source.say(&errors);
            Ok(None)
        }
    }
}

/// The jobs with these ids and those that they need, in the order of the file; all of them if no id is given.
pub(super) fn with_needs<'a>(workflow: &'a Workflow, ids: &[String]) -> Vec<&'a Job> {
    let find = |id: &str| workflow.jobs.values().find(|job| job.id.value.eq_ignore_ascii_case(id));
    let mut open: Vec<&Job> = ids.iter().filter_map(|id| find(id)).collect();
    let mut kept: Vec<&str> = Vec::new();
    while let Some(job) = open.pop() {
        if !kept.contains(&job.id.value.as_str()) {
            kept.push(&job.id.value);
            open.extend(job.needs.iter().filter_map(|need| find(&need.value)));
        }
    }
    let is_kept = |job: &&Job| ids.is_empty() || kept.contains(&job.id.value.as_str());
    workflow.jobs.values().filter(is_kept).collect()
}

/// `push`, unless the workflow is for other events only.
fn default_event(workflow: &Workflow) -> String {
    let events = &workflow.on.events;
    if events.contains_key("push") {
        return "push".to_owned();
    }
    events.keys().next().map_or_else(|| "push".to_owned(), String::clone)
}

/// Of a place to look, the workflows that the event starts, as GitHub decides it; the others are named with the reason.
/// A file that was named runs in any case.
fn keep_triggered(
    selection: &Selection,
    all: Vec<Chosen>,
    event: &EventArgs,
) -> Result<Vec<Chosen>, Failure> {
    let git = selection.git.as_ref().map_or_else(|| outside_git(selection), Repository::info);
    let mut kept = Vec::new();
    let mut others = Vec::new();
    for chosen in all {
        let payload = event.payload(&chosen.event, &git)?;
        let happened = Event::from_payload(&chosen.event, &Value::from(&payload));
        let decision = trigger::decide(&chosen.workflow.on, &happened);
        let reason = decision.reason.strip_prefix("not started: ").unwrap_or(&decision.reason).to_owned();
        if selection.is_one_file && !decision.starts {
            let path = &chosen.source.path;
            output::note(&format!(
                "the event would not start {path}, which runs because it was named: {reason}"
            ));
        }
        if selection.is_one_file || (decision.starts && chosen.event != "workflow_call") {
            kept.push(chosen);
        } else if decision.starts {
            others.push(format!("{}: it runs only when another workflow calls it", chosen.source.path));
        } else {
            others.push(format!("{} ({}): {reason}", chosen.source.path, chosen.event));
        }
    }
    if kept.is_empty() {
        return Err(Failure::usage("the event starts none of the workflows").hint(format!(
            "{}; choose an event with `--event`, or name a file to run it in any case",
            others.join("; ")
        )));
    }
    for other in others {
        output::note(&format!("not run: {other}"));
    }
    Ok(kept)
}
