//! `tci secret` and `tci var`: what runs of a repository get without being told each time.

mod scope;
mod secret;
mod value;
mod var;

pub(super) use secret::{SecretCommandArgs, main as secret_main};
pub(super) use var::{VarCommandArgs, main as var_main};

use std::path::PathBuf;

use chrono::Utc;
use terraphim_github_runner::settings::{Entry, Kind, Name, SettingsError, SettingsScope, SettingsStore};
use zeroize::Zeroizing;

use super::{Global, run::read_values};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

type Values = Vec<(Name, Zeroizing<String>)>;

fn store(global: &Global) -> Result<SettingsStore, Failure> {
    Ok(SettingsStore::new(global.paths()?.data()))
}

/// What the user can put right is a wrong use; what the system refuses is a fault.
pub(super) fn failed(error: SettingsError) -> Failure {
    let exit = match &error {
        SettingsError::Io { .. } | SettingsError::Random => Exit::Infrastructure,
        _ => Exit::Usage,
    };
    Failure::caused(exit, error)
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(failed)
}

/// A setting whose value comes from a file, from standard input, or from the user.
fn read_one(text: &str, from_file: Option<&PathBuf>) -> Result<Values, Failure> {
    let name = name(text)?;
    let value = value::read(name.as_str(), from_file)?;
    Ok(vec![(name, value)])
}

/// The settings of a file of NAME=VALUE lines.
fn read_all(file: Option<&PathBuf>) -> Result<Values, Failure> {
    let file = file.ok_or_else(|| Failure::usage("give a name, or a file with `--env-file`"))?;
    let pairs = read_values(file)?.into_iter();
    pairs.map(|(text, value)| Ok((name(&text)?, Zeroizing::new(value)))).collect()
}

fn set(global: &Global, kind: Kind, scope: &SettingsScope, values: &Values) -> Result<Exit, Failure> {
    store(global)?.set(kind, scope, values, Utc::now().timestamp_millis()).map_err(failed)?;
    for (name, _) in values {
        output::note(&format!("set {name} of {scope}"));
    }
    Ok(Exit::Success)
}

fn remove(global: &Global, kind: Kind, scope: &SettingsScope, text: &str) -> Result<Exit, Failure> {
    let name = name(text)?;
    if !store(global)?.remove(kind, scope, &name).map_err(failed)? {
        return Err(nothing(kind, scope, &name));
    }
    output::note(&format!("removed {name} of {scope}"));
    Ok(Exit::Success)
}

fn nothing(kind: Kind, scope: &SettingsScope, name: &Name) -> Failure {
    let (what, command) = match kind {
        Kind::Secret => ("secret", "tci secret ls"),
        Kind::Variable => ("variable", "tci var ls"),
    };
    Failure::usage(format!("there is no {what} {name} of {scope}"))
        .hint(format!("`{command}` shows what is there"))
}

fn list(entries: &[Entry], json: bool, has_values: bool) -> Result<Exit, Failure> {
    if json {
        output::json(&entries)?;
        return Ok(Exit::Success);
    }
    let row = |entry: &Entry| {
        let mut row = vec![entry.name.clone()];
        row.extend(entry.value.as_deref().map(one_line));
        row.push(output::clock(entry.updated_at_ms));
        row
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    let head: &[&str] = if has_values { &["NAME", "VALUE", "SET"] } else { &["NAME", "SET"] };
    output::data(&output::table(head, &rows))?;
    Ok(Exit::Success)
}
