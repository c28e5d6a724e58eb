//! `tci check`: workflow files and metadata files of actions, without running them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use terraphim_actions::{
    action::Action,
    diagnostic::Diagnostic,
    workflow::{Loader, Options, Workflow},
};
use terraphim_github_runner::schedule::unknown_zones;

use super::diagnostic::{Texts, render};
use crate::{
    exit::Exit,
    failure::Failure,
    input,
    output::{self, Paint},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tci check .github/workflows/*.yml action.yml
  tci check --format github .github/workflows/*.yml    in a workflow: findings become annotations")]
pub(crate) struct CheckArgs {
    /// Workflow files; a file named `action.yml` or `action.yaml` is read as that of an action.
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
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print what was read.
    #[arg(long, value_enum, conflicts_with_all = ["format", "json"])]
    emit: Option<Emit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, with the line and a caret.
    Text,
    /// One JSON array of all findings.
    Json,
    /// Workflow commands, which GitHub shows as annotations of the files.
    Github,
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
    if args.emit.is_some() {
        return emit_all(args);
    }
    let format = if args.json { Format::Json } else { args.format };
    let mut exit = Exit::Success;
    let mut all = Vec::new();
    for path in &args.files {
        let mut input = Input::read(args, path)?;
        let findings = match input.findings() {
            Ok(warnings) => warnings,
            Err(errors) => {
                exit = Exit::Usage;
                errors
            }
        };
        match format {
            Format::Text => show(&findings, &input.texts)?,
            Format::Json => all.extend(findings),
            Format::Github => annotate(findings)?,
        }
    }
    if format == Format::Json {
        output::json(&all)?;
    }
    Ok(exit)
}

/// Prints what was read, or the errors in GitHub's form.
fn emit_all(args: &CheckArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    for path in &args.files {
        let input = Input::read(args, path)?;
        match Workflow::load(&input.text, &input.name, &input.loader, &input.options) {
            Ok(workflow) => output::json(&workflow.template_json(input.with_source))?,
            Err(errors) => {
                for error in &errors {
                    output::data(&format!("{error}\n"))?;
                }
                exit = Exit::Usage;
            }
        }
    }
    Ok(exit)
}

/// A workflow file, and what it may call.
pub(super) struct Input {
    pub(super) text: String,
    /// How messages name it.
    pub(super) name: String,
    pub(super) loader: Loader,
    pub(super) options: Options,
    pub(super) texts: Texts,
    path: PathBuf,
    /// Whether JSON says where everything is.
    with_source: bool,
}

impl Input {
    /// The file as messages shall name it, without what it calls.
    pub(super) fn new(path: &Path, name: String) -> Result<Input, Failure> {
        let text = read(path)?;
        let texts = Texts::from([(name.clone(), text.clone())]);
        let (loader, options, path) = (Loader::default(), Options::default(), path.to_owned());
        Ok(Input { text, name, loader, options, texts, path, with_source: true })
    }

    fn read(args: &CheckArgs, path: &Path) -> Result<Input, Failure> {
        let mut input = Input::new(path, args.name.clone().unwrap_or_else(|| path.display().to_string()))?;
        (input.options, input.with_source) = options(args)?;
        for pair in &args.reusable {
            let (uses, path) = pair
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("`--reusable {pair}`: write USES=FILE")))?;
            let text = read(Path::new(path))?;
            input.loader.add(uses, &text);
            input.texts.insert(uses.to_owned(), text);
        }
        Ok(input)
    }

    /// What is to be said of the file.
    ///
    /// # Errors
    /// The errors of a file that GitHub refuses.
    fn findings(&mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        // GitHub: the metadata file of an action has one of these names.
        if self.path.file_name().is_some_and(|name| name == "action.yml" || name == "action.yaml") {
            return Action::parse(&self.text, &self.name).map(|_| Vec::new());
        }
        // Workflows of the same repository are read too; those of others only when they are given.
        self.add_local_calls();
        let workflow = Workflow::load(&self.text, &self.name, &self.loader, &self.options)?;
        Ok([unknown_zones(&workflow), workflow.warnings].concat())
    }

    /// Reads the called workflows of the same repository too; calls stay unread when one of all is not there.
    pub(super) fn add_local_calls(&mut self) {
        let is_complete =
            add_local_calls(&self.text, &self.name, &self.path, &mut self.loader, &mut self.texts);
        self.options.skip_calls |= !is_complete;
    }
}

fn show(findings: &[Diagnostic], texts: &Texts) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    for finding in findings {
        output::data(&render(finding, texts, paint))?;
    }
    Ok(())
}

fn annotate(findings: Vec<Diagnostic>) -> Result<(), Failure> {
    for mut finding in findings {
        // A called workflow is named as its caller writes it; GitHub wants the path from the root.
        if let Some(path) = finding.file.strip_prefix("./") {
            finding.file = path.into();
        }
        output::data(&format!("{}\n", finding.annotation()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    // The reader has a limit of its own, which `--option` changes.
    let bytes = input::read(path, input::MOST_DATA)
        .map_err(|error| Failure::io("read", path, error).ending(Exit::Usage))?;
    input::utf8(bytes, &path.display().to_string())
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
pub(super) fn add_local_calls(
    text: &str,
    name: &str,
    path: &Path,
    loader: &mut Loader,
    texts: &mut Texts,
) -> bool {
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
            match local.and_then(|path| input::read_text(&path, input::MOST_DATA).ok()) {
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
