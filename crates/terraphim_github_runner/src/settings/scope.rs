//! Where a secret or variable belongs, and what it may be called.

use std::fmt;

use super::error::SettingsError;

/// GitHub has no documented limit for names; this is that of the names of files.
const LONGEST_NAME: usize = 255;

/// Where a secret or variable belongs. One of an environment is stronger than one of the repository, which is stronger
/// than one of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsScope {
    /// All repositories of an owner.
    Organisation {
        /// The owner.
        owner: String,
    },
    /// One repository.
    Repository {
        /// `owner/name`.
        repository: String,
    },
    /// The jobs of a repository that name this environment.
    Environment {
        /// `owner/name`.
        repository: String,
        /// The environment.
        name: String,
    },
}

impl SettingsScope {
    /// The scope of an owner.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn organisation(owner: &str) -> Result<SettingsScope, SettingsError> {
        let wrong = || SettingsError::Scope { text: owner.to_owned(), what: "name of an owner" };
        if !is_segment(owner) {
            return Err(wrong());
        }
        Ok(SettingsScope::Organisation { owner: owner.to_owned() })
    }

    /// The scope of a repository.
    ///
    /// # Errors
    /// It is not `owner/name`.
    pub fn repository(repository: &str) -> Result<SettingsScope, SettingsError> {
        let wrong = || SettingsError::Scope { text: repository.to_owned(), what: "repository (owner/name)" };
        let (owner, name) = repository.split_once('/').ok_or_else(wrong)?;
        if !is_segment(owner) || !is_segment(name) {
            return Err(wrong());
        }
        Ok(SettingsScope::Repository { repository: repository.to_owned() })
    }

    /// The scope of an environment of a repository.
    ///
    /// # Errors
    /// One of the two cannot be.
    pub fn environment(repository: &str, name: &str) -> Result<SettingsScope, SettingsError> {
        SettingsScope::repository(repository)?;
        // GitHub: at most 255 characters, none of these.
        let is_bad = |c: char| c.is_control() || "'\"`,;\\".contains(c);
        if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.contains(is_bad) {
            return Err(SettingsError::Scope { text: name.to_owned(), what: "name of an environment" });
        }
        Ok(SettingsScope::Environment { repository: repository.to_owned(), name: name.to_owned() })
    }

    /// The key in the file; the same for names that differ by case only, as GitHub has it.
    pub(super) fn key(&self) -> String {
        match self {
            SettingsScope::Organisation { owner } => format!("organisation:{}", owner.to_lowercase()),
            SettingsScope::Repository { repository } => format!("repository:{}", repository.to_lowercase()),
            SettingsScope::Environment { repository, name } => {
                format!("environment:{}:{}", repository.to_lowercase(), name.to_lowercase())
            }
        }
    }
}

impl fmt::Display for SettingsScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsScope::Organisation { owner } => write!(f, "owner {owner}"),
            SettingsScope::Repository { repository } => write!(f, "repository {repository}"),
            SettingsScope::Environment { repository, name } => {
                write!(f, "environment {name} of repository {repository}")
            }
        }
    }
}

fn is_segment(text: &str) -> bool {
    let is_fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(is_fine) && text.chars().any(|c| c != '.')
}

/// The name of a secret or variable, in capitals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Takes a name, whatever its case.
    ///
    /// # Errors
    /// No secret or variable can have it; GitHub: docs "Secrets reference", "Naming your secrets".
    pub fn new(name: &str) -> Result<Name, SettingsError> {
        let upper = name.to_ascii_uppercase();
        let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = upper.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins
            || !upper.chars().all(is_fine)
            || upper.starts_with("GITHUB_")
            || upper.len() > LONGEST_NAME
        {
            return Err(SettingsError::Name { name: name.to_owned() });
        }
        Ok(Name(upper))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
