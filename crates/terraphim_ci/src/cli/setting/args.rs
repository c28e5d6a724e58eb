//! What the commands of secrets and of variables take alike.

use std::path::PathBuf;

use clap::Args;
use terraphim_github_runner::settings::{Entry, Kind};
use zeroize::Zeroizing;

use super::{Values, failed, name, nothing, scope::ScopeArgs, store, value};
use crate::{
    cli::{Global, run::read_values},
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

/// Where the values to set come from, and whose they are.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// The name.
    #[arg(required_unless_present = "env_file")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) scope: ScopeArgs,
    /// Take the value from this file (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Set everything in a file of NAME=VALUE lines (`-` is standard input).
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with_all = ["name", "from_file"])]
    env_file: Option<PathBuf>,
}

impl SetArgs {
    /// A value from a file, from standard input or from the user; without a name, all of a file.
    pub(super) fn values(&self) -> Result<Values, Failure> {
        if let Some(text) = &self.name {
            let name = name(text)?;
            let value = value::read(name.as_str(), self.from_file.as_ref())?;
            return Ok(vec![(name, value)]);
        }
        let file = self.env_file.as_ref();
        let file = file.ok_or_else(|| Failure::usage("give a name, or a file with `--env-file`"))?;
        let pairs = read_values(file)?.into_iter();
        pairs.map(|(text, value)| Ok((name(&text)?, Zeroizing::new(value)))).collect()
    }
}

/// Whose settings to list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Prints names, of variables values too, and when they were set.
    pub(super) fn list(&self, global: &Global, kind: Kind) -> Result<Exit, Failure> {
        let entries = store(global)?.list(kind, &self.scope.scope()?).map_err(failed)?;
        if self.json {
            output::json(&entries)?;
            return Ok(Exit::Success);
        }
        let row = |entry: &Entry| {
            let mut row = vec![entry.name.clone()];
            row.extend(entry.value.as_deref().map(one_line));
            row.push(output::time(entry.updated_at_ms));
            row
        };
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        let head: &[&str] = match kind {
            Kind::Secret => &["NAME", "SET"],
            Kind::Variable => &["NAME", "VALUE", "SET"],
        };
        output::data(&output::table(head, &rows))?;
        Ok(Exit::Success)
    }
}

/// One setting.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The name.
    pub(super) name: String,
    #[command(flatten)]
    pub(super) scope: ScopeArgs,
}

impl NameArgs {
    /// Removes it.
    pub(super) fn remove(&self, global: &Global, kind: Kind) -> Result<Exit, Failure> {
        let (scope, name) = (self.scope.scope()?, name(&self.name)?);
        if !store(global)?.remove(kind, &scope, &name).map_err(failed)? {
            return Err(nothing(kind, &scope, &name));
        }
        output::note(&format!("removed {name} of {scope}"));
        Ok(Exit::Success)
    }
}
