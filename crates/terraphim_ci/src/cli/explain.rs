//! `tci explain`: what a workflow file does, in words.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use terraphim_actions::workflow::Workflow;
use terraphim_github_runner::words;

use super::{check::Input, diagnostic::render};
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
  tci explain .github/workflows/ci.yml
  tci explain .github/workflows/*.yml --json")]
pub(crate) struct ExplainArgs {
    /// Workflow files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print JSON: the file and its lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &ExplainArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    let mut all = Vec::new();
    for (number, path) in args.files.iter().enumerate() {
        let mut input = Input::new(path, path.display().to_string())?;
        input.add_local_calls();
        match Workflow::load(&input.text, &input.name, &input.loader, &input.options) {
            Ok(workflow) => {
                let lines = words::explain(&workflow);
                if args.json {
                    all.push(json!({ "file": input.name, "lines": lines }));
                    continue;
                }
                if args.files.len() > 1 {
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
