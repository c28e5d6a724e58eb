//! `tci.lock`: which commit each action is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::reference::ActionReference;

/// The name of the file. It is in the directory of the workflow files.
pub const LOCK_FILE: &str = "tci.lock";
/// The version of the format.
const VERSION: u32 = 1;
const HEAD: &str = "# Which commit each action of the workflows in this directory is.\n\
                    # Made by `tci actions lock`; `tci actions update` renews it.\n";

/// Which commit each action is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    /// By [`ActionReference::repository_key`].
    entries: BTreeMap<String, Locked>,
}

/// One entry: a repository at a ref. All actions in the repository have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// `owner/repository@ref`
    pub uses: String,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
}

/// The lock file is not to be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no lock file.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It is of a newer version of this program.
    #[error("{} has version {version}; this program knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, rename = "action")]
    actions: Vec<Locked>,
}

impl Lock {
    /// An empty lock file, for a path.
    #[must_use]
    pub fn new(path: PathBuf) -> Lock {
        Lock { path, entries: BTreeMap::new() }
    }

    /// Reads the lock file of a directory; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, is no lock file, or is of a newer version.
    pub fn read(directory: &Path) -> Result<Option<Lock>, LockError> {
        let path = directory.join(LOCK_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Lock::parse(&text, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Lock, LockError> {
        let wrong = |offset: usize, message: String| LockError::Syntax {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            message,
        };
        let file: File = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        if file.version != VERSION {
            return Err(LockError::Version { path: path.to_owned(), version: file.version });
        }
        let mut lock = Lock::new(path.to_owned());
        for entry in file.actions {
            let place = text.find(&entry.uses).unwrap_or(0);
            let action: ActionReference =
                entry.uses.parse().map_err(|error| wrong(place, format!("{error}")))?;
            let is_hex = entry.commit.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
            if entry.commit.len() != 40 || !is_hex {
                return Err(wrong(
                    place,
                    format!("the commit of {} is not 40 hexadecimal digits", entry.uses),
                ));
            }
            if lock.entries.insert(action.repository_key(), entry).is_some() {
                return Err(wrong(place, format!("{action} is there twice")));
            }
        }
        Ok(lock)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit of an action.
    #[must_use]
    pub fn commit(&self, action: &ActionReference) -> Option<String> {
        self.entries.get(&action.repository_key()).map(|entry| entry.commit.clone())
    }

    /// Its entries, sorted.
    pub fn entries(&self) -> impl Iterator<Item = &Locked> {
        self.entries.values()
    }

    /// Notes the commit of an action.
    pub fn set(&mut self, action: &ActionReference, commit: &str) {
        let uses = format!("{}@{}", action.full_name(), action.reference);
        self.entries.insert(action.repository_key(), Locked { uses, commit: commit.to_owned() });
    }

    /// Keeps the entries of these actions only.
    pub fn retain(&mut self, actions: &[ActionReference]) {
        let keys: Vec<String> = actions.iter().map(ActionReference::repository_key).collect();
        self.entries.retain(|key, _| keys.contains(key));
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for entry in self.entries.values() {
            let uses = toml::Value::String(entry.uses.clone());
            let _ = write!(text, "\n[[action]]\nuses = {uses}\ncommit = \"{}\"\n", entry.commit);
        }
        text
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<(), LockError> {
        let failed = |source| LockError::Write { path: self.path.clone(), source };
        let new = self.path.with_extension(format!("lock.{}", std::process::id()));
        std::fs::write(&new, self.text()).map_err(failed)?;
        std::fs::rename(&new, &self.path).map_err(|error| {
            // The new file is of no use; what went wrong is what is told.
            let _ = std::fs::remove_file(&new);
            failed(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn what_is_written_is_read() {
        let mut lock = Lock::new(PathBuf::from("/x/tci.lock"));
        let actions: Vec<ActionReference> =
            ["B/c/path@v1", "a/b@main"].iter().map(|text| text.parse().unwrap()).collect();
        for action in &actions {
            lock.set(action, COMMIT);
        }
        let read = Lock::parse(&lock.text(), lock.path()).unwrap();
        assert_eq!(read, lock);
        assert_eq!(read.commit(&"b/C/other@v1".parse().unwrap()).as_deref(), Some(COMMIT));
        assert_eq!(read.commit(&"b/c@v2".parse().unwrap()), None);
        lock.retain(&actions[1..]);
        assert_eq!(lock.entries().map(|entry| entry.uses.as_str()).collect::<Vec<_>>(), ["a/b@main"]);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, want) in [
            ("version = 2\n", "tci.lock has version 2"),
            ("version = 1\n[[actions]]\n", "tci.lock:2: unknown field `actions`"),
            ("version = 1\n[[action]]\nuses = 'a/b@v1'\ncommit = 'v1'\n", "tci.lock:3: the commit of a/b@v1"),
            ("version = 1\n\n[[action]]\nuses = './x'\ncommit = ''\n", "tci.lock:4: \"./x\" is no action"),
            ("x", "tci.lock:1:"),
        ] {
            let error = Lock::parse(text, Path::new("tci.lock")).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
