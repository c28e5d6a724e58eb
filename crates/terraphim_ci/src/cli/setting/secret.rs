//! `tci secret`.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use terraphim_github_runner::settings::Kind;

use super::{
    Values,
    args::{ListArgs, NameArgs, SetArgs},
    set,
};
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
    #[command(
        after_help = "Example:\n  tci secret set DEPLOY_KEY < key.pem\n  tci secret set API --env production --from-file token"
    )]
    Set(SetSecretArgs),
    /// List the names of secrets.
    #[command(after_help = "Example:\n  tci secret ls --json")]
    Ls(ListArgs),
    /// Remove a secret.
    #[command(after_help = "Example:\n  tci secret rm DEPLOY_KEY")]
    Rm(NameArgs),
}

#[derive(Debug, Args)]
struct SetSecretArgs {
    #[command(flatten)]
    set: SetArgs,
    /// A value, which is refused with the remedy.
    #[arg(hide = true)]
    value: Vec<OsString>,
    /// The same, as `gh secret set` has it.
    #[arg(long, short, hide = true)]
    body: Option<OsString>,
}

impl SetSecretArgs {
    fn values(&self) -> Result<Values, Failure> {
        let name = self.set.name.as_deref().unwrap_or_default();
        let name_of_pair = name.split_once('=').map(|(name, _)| name);
        if name_of_pair.is_none() && self.value.is_empty() && self.body.is_none() {
            return self.set.values();
        }
        let name = name_of_pair.unwrap_or(name);
        // The value itself is not repeated.
        let message =
            "the value of a secret cannot be an argument, which other users of this machine can see";
        Err(Failure::usage(message).hint(format!(
            "`tci secret set {name}` asks for it, or takes it from standard input (`tci secret set {name} < FILE`)"
        )))
    }
}

pub(in crate::cli) fn main(args: &SecretCommandArgs, global: &Global) -> Result<Exit, Failure> {
    keep_out_of_core_files()?;
    match &args.command {
        SecretCommand::Set(args) => set(global, Kind::Secret, &args.set.scope.scope()?, &args.values()?),
        SecretCommand::Ls(args) => args.list(global, Kind::Secret),
        SecretCommand::Rm(args) => args.remove(global, Kind::Secret),
    }
}
