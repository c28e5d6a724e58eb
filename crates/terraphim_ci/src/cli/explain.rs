//! `tci explain`: what a workflow file does, in words.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::words;

use super::{check::Input, diagnostic::render, run::find};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, Paint},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0    explained
  2    the file is no valid workflow; its errors are those of `tci check`

Examples:
  tci explain
  tci explain .github/workflows/ci.yml --json")]
pub(crate) struct ExplainArgs {
    /// Workflow files, or directories with some [default: those of this repository].
    files: Vec<PathBuf>,
    /// Print JSON: the file and its lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &ExplainArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    let mut all = Vec::new();
    let files = files(&args.files)?;
    for (number, path) in files.iter().enumerate() {
        let mut input = Input::new(path, path.display().to_string())?;
        input.add_local_calls();
        match Workflow::load(&input.text, &input.name, &input.loader, &input.options) {
            Ok(workflow) => {
                let lines = words::explain(&workflow);
                if args.json {
                    all.push(json!({ "file": input.name, "lines": lines }));
                    continue;
                }
                if files.len() > 1 {
                    let gap = if number == 0 { "" } else { "\n" };
                    output::data(&format!("{gap}{}\n", Paint::for_stdout().bold(&input.name)))?;
                }
                output::data(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
            }
            Err(errors) => {
                exit = Exit::Usage;
                for error in &errors {
                    output::note(render(error, &input.texts, Paint::for_stderr()).trim_end());
                }
            }
        }
    }
    if args.json {
        output::json(&all)?;
    }
    Ok(exit)
}

/// The files that are meant, named as from here.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    if given.is_empty() {
        all = find(None)?.files;
    }
    for path in given {
        // A file is called as the user calls it.
        if path.is_dir() { all.extend(find(Some(path))?.files) } else { all.push(path.clone()) }
    }
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    Ok(all.iter().map(|path| path.strip_prefix(&here).unwrap_or(path).to_owned()).collect())
}
