//! `tci secret` and `tci var`: what runs of a repository get without being told each time.

mod args;
mod scope;
mod secret;
mod value;
mod var;

pub(super) use secret::{SecretCommandArgs, main as secret_main};
pub(super) use var::{VarCommandArgs, main as var_main};

use chrono::Utc;
use terraphim_github_runner::settings::{Kind, Name, SettingsError, SettingsScope, SettingsStore};
use zeroize::Zeroizing;

use super::Global;
use crate::{exit::Exit, failure::Failure, output};

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

fn set(global: &Global, kind: Kind, scope: &SettingsScope, values: &Values) -> Result<Exit, Failure> {
    store(global)?.set(kind, scope, values, Utc::now().timestamp_millis()).map_err(failed)?;
    for (name, _) in values {
        output::note(&format!("set {name} of {scope}"));
    }
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
