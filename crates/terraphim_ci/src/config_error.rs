//! What can be wrong with a configuration, and where it stands.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use toml::de::DeTable;

/// A configuration file is wrong.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is no TOML, has an unknown key, or a value of the wrong type.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, message: String },
    /// The variable that switches learning is neither.
    #[error("TCI_LEARNING={value}: write `on` or `off`")]
    Learning { value: String },
    /// A value makes no sense.
    #[error("{}:{line}: {key}: {message}", path.display())]
    Value { path: PathBuf, line: usize, key: String, message: String },
    /// A repository must not decide this.
    #[error("{}:{line}: [{key}] is the host's to decide: put it into ~/.config/tci/config.toml", path.display())]
    NotYours { path: PathBuf, line: usize, key: String },
}

impl ConfigError {
    /// The file is not what can be read.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let (line, column) = position(text, at);
        let message = match key_before(text, at) {
            Some(key) => format!("{key}: {}", error.message()),
            None => error.message().to_owned(),
        };
        ConfigError::Syntax { path: path.to_owned(), line, column, message }
    }

    /// The value of `key` (its tables and its name) makes no sense.
    pub(super) fn value(path: &Path, text: &str, key: &[&str], message: impl Into<String>) -> ConfigError {
        let (path, line) = (path.to_owned(), line_of(text, key));
        ConfigError::Value { path, line, key: key.join("."), message: message.into() }
    }

    /// A repository must not say `key`.
    pub(super) fn not_yours(path: &Path, text: &str, key: &[&str]) -> ConfigError {
        ConfigError::NotYours { path: path.to_owned(), line: line_of(text, key), key: key.join(".") }
    }
}

/// Line and column, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// The key that stands before a value in its line.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    let key = line.trim_end().strip_suffix('=')?.rsplit(['{', ',']).next()?;
    Some(key.trim()).filter(|key| !key.is_empty())
}

/// The line of a key, or of the closest table around it that there is.
fn line_of(text: &str, key: &[&str]) -> usize {
    let Ok(whole) = DeTable::parse(text) else { return 1 };
    let (mut table, mut at) = (Some(whole.get_ref()), 0);
    for part in key {
        let Some((name, value)) = table.and_then(|table| table.get_key_value(*part)) else { break };
        at = name.span().start;
        table = value.get_ref().as_table();
    }
    position(text, at).0
}
