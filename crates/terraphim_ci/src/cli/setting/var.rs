//! `tci var`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use terraphim_github_runner::settings::Kind;
use zeroize::Zeroizing;

use super::{failed, list, name, nothing, read_all, read_one, remove, scope::ScopeArgs, set, store};
use crate::{cli::Global, exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Values of the context `vars`. They are no secrets: they show in logs, and anybody who can read the
data directory can read them. `tci run --var` is stronger.

Examples:
  tci var set LEVEL debug
  tci var set NOTES --from-file notes.md --env staging
  tci var get LEVEL"
)]
pub(in crate::cli) struct VarCommandArgs {
    #[command(subcommand)]
    command: VarCommand,
}

#[derive(Debug, Subcommand)]
enum VarCommand {
    /// Set a variable.
    Set(SetArgs),
    /// List variables.
    Ls(ListArgs),
    /// Print the value of a variable.
    Get(NameArgs),
    /// Remove a variable.
    Rm(NameArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The name.
    #[arg(required_unless_present = "env_file")]
    name: Option<String>,
    /// The value [default: standard input].
    #[arg(conflicts_with = "from_file")]
    value: Option<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Take the value from this file (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Set all variables of a file of NAME=VALUE lines.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with_all = ["name", "from_file"])]
    env_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    scope: ScopeArgs,
}

pub(in crate::cli) fn main(args: &VarCommandArgs, global: &Global) -> Result<Exit, Failure> {
    match &args.command {
        VarCommand::Set(args) => {
            let scope = args.scope.scope()?;
            let values = match (&args.name, &args.value, &args.env_file) {
                (Some(text), Some(value), _) => vec![(name(text)?, Zeroizing::new(value.clone()))],
                (Some(text), None, _) => read_one(text, args.from_file.as_ref())?,
                (None, _, file) => read_all(file.as_ref())?,
            };
            set(global, Kind::Variable, &scope, &values)
        }
        VarCommand::Ls(args) => {
            let entries = store(global)?.list(Kind::Variable, &args.scope.scope()?).map_err(failed)?;
            list(&entries, args.json, true)
        }
        VarCommand::Get(args) => {
            let (scope, name) = (args.scope.scope()?, name(&args.name)?);
            let entries = store(global)?.list(Kind::Variable, &scope).map_err(failed)?;
            let entry = entries.into_iter().find(|entry| entry.name == name.as_str());
            let value = entry.and_then(|entry| entry.value);
            let value = value.ok_or_else(|| nothing(Kind::Variable, &scope, &name))?;
            output::data(&format!("{value}\n"))?;
            Ok(Exit::Success)
        }
        VarCommand::Rm(args) => remove(global, Kind::Variable, &args.scope.scope()?, &args.name),
    }
}
