//! `tci check`: workflow files, without running them.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use terraphim_actions::{
    diagnostic::Diagnostic,
    workflow::{Loader, Options, Workflow},
};

use super::diagnostic::{Texts, render};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, Paint},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci check .github/workflows/*.yml")]
pub(crate) struct CheckArgs {
    /// Workflow files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How messages name the file [default: as given].
    #[arg(long = "as", value_name = "PATH")]
    name: Option<String>,
    /// The text of a workflow that others call, by what they write in `uses`.
    #[arg(long, value_name = "USES=FILE")]
    reusable: Vec<String>,
    /// Change a limit or a switch of the reader.
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Print what was read.
    #[arg(long, value_enum)]
    emit: Option<Emit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// The workflow as JSON, as GitHub's own parser sees it.
    TemplateJson,
}

pub(crate) fn main(args: &CheckArgs) -> Result<Exit, Failure> {
    if args.name.is_some() && args.files.len() > 1 {
        return Err(Failure::usage("`--as` names one file"));
    }
    let mut exit = Exit::Success;
    for path in &args.files {
        exit = exit.and(file(args, path)?);
    }
    Ok(exit)
}

fn file(args: &CheckArgs, path: &Path) -> Result<Exit, Failure> {
    let text = read(path)?;
    let name = args.name.clone().unwrap_or_else(|| path.display().to_string());
    let mut texts = Texts::from([(name.clone(), text.clone())]);
    let (mut options, with_source) = options(args)?;
    let mut loader = Loader::default();
    for pair in &args.reusable {
        let (uses, path) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`--reusable {pair}`: write USES=FILE")))?;
        let text = read(Path::new(path))?;
        loader.add(uses, &text);
        texts.insert(uses.to_owned(), text);
    }
    if args.emit.is_none() {
        // Workflows of the same repository are read too; those of others only when they are given.
        let is_complete = add_local_calls(&text, &name, path, &mut loader, &mut texts);
        options.skip_calls |= !is_complete;
    }
    match Workflow::load(&text, &name, &loader, &options) {
        Ok(workflow) if args.emit == Some(Emit::TemplateJson) => {
            output::json(&workflow.template_json(with_source))?;
            Ok(Exit::Success)
        }
        Ok(workflow) => {
            show(&workflow.warnings, &texts)?;
            Ok(Exit::Success)
        }
        Err(errors) if args.emit.is_some() => {
            for error in &errors {
                output::data(&format!("{error}\n"))?;
            }
            Ok(Exit::Usage)
        }
        Err(errors) => {
            show(&errors, &texts)?;
            Ok(Exit::Usage)
        }
    }
}

fn show(findings: &[Diagnostic], texts: &Texts) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    for finding in findings {
        output::data(&render(finding, texts, paint))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::io("read", path, error).ending(Exit::Usage))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is no UTF-8 text", path.display())))
}

/// The reader's options, and whether JSON says where everything is.
fn options(args: &CheckArgs) -> Result<(Options, bool), Failure> {
    let mut options = Options::default();
    let mut with_source = true;
    for pair in &args.option {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`--option {pair}`: write KEY=VALUE")))?;
        options.set(key, value).map_err(|error| Failure::caused(Exit::Usage, error))?;
        if key == "include-source" {
            with_source = value == "true";
        }
    }
    Ok((options, with_source))
}

/// Adds the workflows of the same repository that the file calls, and those they call; false when one of all the
/// called ones is not there.
fn add_local_calls(text: &str, name: &str, path: &Path, loader: &mut Loader, texts: &mut Texts) -> bool {
    let root = path.canonicalize().ok().and_then(|path| repository_root(&path));
    let mut open = vec![(text.to_owned(), name.to_owned())];
    let mut seen = HashSet::new();
    let mut is_complete = true;
    while let Some((text, name)) = open.pop() {
        // What is wrong with it is said later.
        let Ok(workflow) = Workflow::parse(&text, &name) else { continue };
        for uses in workflow.jobs.values().filter_map(|job| Some(job.call.as_ref()?.uses.to_string())) {
            if !seen.insert(uses.clone()) || loader.contains(&uses) {
                continue;
            }
            let local = uses.strip_prefix("./").zip(root.as_ref()).map(|(path, root)| root.join(path));
            match local.and_then(|path| fs::read_to_string(path).ok()) {
                Some(called) => {
                    loader.add(&uses, &called);
                    texts.insert(uses.clone(), called.clone());
                    open.push((called, uses));
                }
                None => is_complete = false,
            }
        }
    }
    is_complete
}

/// The directory that has `.github/workflows/FILE`.
fn repository_root(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|dir| dir.join(".github/workflows").is_dir()).map(Path::to_owned)
}
