//! `tci secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use terraphim_github_runner::settings::Kind;

use super::{list, read_all, read_one, remove, scope::ScopeArgs, set, store};
use crate::{
    cli::{Global, run::keep_out_of_core_files},
    exit::Exit,
    failure::Failure,
};

#[derive(Debug, Args)]
#[command(after_help = "Secrets are encrypted; the key is in settings/key below the data directory.
An environment's are stronger than its repository's, and those than the owner's; `tci run --secret` is the strongest.

Examples:
  tci secret set TOKEN < token.txt
  tci secret set TOKEN --env production       asks for the value
  tci secret set -f .secrets                  NAME=VALUE lines
  tci secret ls --org acme")]
pub(in crate::cli) struct SecretCommandArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Set a secret; its value comes from a file, from standard input, or from you.
    Set(SetArgs),
    /// List the names of secrets.
    Ls(ListArgs),
    /// Remove a secret.
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The name.
    #[arg(required_unless_present = "env_file")]
    name: Option<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Take the value from this file (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Set all secrets of a file of NAME=VALUE lines.
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
struct RemoveArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    scope: ScopeArgs,
}

pub(in crate::cli) fn main(args: &SecretCommandArgs, global: &Global) -> Result<Exit, Failure> {
    keep_out_of_core_files()?;
    match &args.command {
        SecretCommand::Set(args) => {
            let scope = args.scope.scope()?;
            let values = match (&args.name, &args.env_file) {
                (Some(text), _) => read_one(text, args.from_file.as_ref())?,
                (None, file) => read_all(file.as_ref())?,
            };
            set(global, Kind::Secret, &scope, &values)
        }
        SecretCommand::Ls(args) => {
            let entries = store(global)?.list(Kind::Secret, &args.scope.scope()?).map_err(super::failed)?;
            list(&entries, args.json, false)
        }
        SecretCommand::Rm(args) => remove(global, Kind::Secret, &args.scope.scope()?, &args.name),
    }
}
