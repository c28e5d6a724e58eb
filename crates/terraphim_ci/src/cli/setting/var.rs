//! `tci var`.

use clap::{Args, Subcommand};
use terraphim_github_runner::settings::Kind;
use zeroize::Zeroizing;

use super::{
    Values,
    args::{ListArgs, NameArgs, SetArgs},
    failed, name, nothing, set, store,
};
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
    #[command(after_help = "Example:\n  tci var set LEVEL debug")]
    Set(SetVarArgs),
    /// List variables.
    #[command(after_help = "Example:\n  tci var ls --env staging --json")]
    Ls(ListArgs),
    /// Print the value of a variable.
    #[command(after_help = "Example:\n  tci var get LEVEL")]
    Get(NameArgs),
    /// Remove a variable.
    #[command(after_help = "Example:\n  tci var rm LEVEL")]
    Rm(NameArgs),
}

#[derive(Debug, Args)]
struct SetVarArgs {
    #[command(flatten)]
    set: SetArgs,
    /// The value [default: standard input].
    #[arg(conflicts_with = "from_file")]
    value: Option<String>,
}

impl SetVarArgs {
    fn values(&self) -> Result<Values, Failure> {
        match (&self.set.name, &self.value) {
            (Some(text), Some(value)) => Ok(vec![(name(text)?, Zeroizing::new(value.clone()))]),
            _ => self.set.values(),
        }
    }
}

pub(in crate::cli) fn main(args: &VarCommandArgs, global: &Global) -> Result<Exit, Failure> {
    match &args.command {
        VarCommand::Set(args) => set(global, Kind::Variable, &args.set.scope.scope()?, &args.values()?),
        VarCommand::Ls(args) => args.list(global, Kind::Variable),
        VarCommand::Get(args) => {
            let (scope, name) = (args.scope.scope()?, name(&args.name)?);
            let entries = store(global)?.list(Kind::Variable, &scope).map_err(failed)?;
            let entry = entries.into_iter().find(|entry| entry.name == name.as_str());
            let value = entry.and_then(|entry| entry.value);
            let value = value.ok_or_else(|| nothing(Kind::Variable, &scope, &name))?;
            output::data(&format!("{value}\n"))?;
            Ok(Exit::Success)
        }
        VarCommand::Rm(args) => args.remove(global, Kind::Variable),
    }
}
