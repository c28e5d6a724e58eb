//! The file of secrets and variables: reading it, and replacing it as a whole.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cipher::part_of;
use super::error::SettingsError;

/// The format that this program writes. A newer one is refused.
const VERSION: u32 = 1;

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Content {
    version: u32,
    /// By the key of the scope.
    #[serde(default)]
    pub(super) scopes: BTreeMap<String, Scope>,
}

/// What belongs to one scope.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Scope {
    /// Encrypted, by name.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Value>,
    /// By name.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, Value>,
}

/// One value.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Value {
    pub(super) value: String,
    /// When it was set, in milliseconds since 1970.
    pub(super) updated_at_ms: i64,
}

impl Default for Content {
    fn default() -> Content {
        Content { version: VERSION, scopes: BTreeMap::new() }
    }
}

impl Content {
    /// Reads the file; empty if there is none.
    pub(super) fn read(path: &Path) -> Result<Content, SettingsError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(source) => {
                return Err(SettingsError::Io { operation: "read", path: path.to_owned(), source });
            }
        };
        let damaged = |source| SettingsError::Damaged { path: path.to_owned(), source: Some(source) };
        // The version alone first: a newer file may look different otherwise.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(SettingsError::Newer { path: path.to_owned(), version });
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), SettingsError> {
        let failed =
            |source: std::io::Error| SettingsError::Io { operation: "write", path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let part = part_of(path);
        let _ = fs::remove_file(&part);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&part, path).map_err(failed)
    }
}
