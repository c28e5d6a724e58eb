//! `permissions`: what the token of a job may do.

use super::convert::Fail;
use crate::template::{Node, Template};

/// What may be done in one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

impl Level {
    /// The word in a workflow file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What `read-all` and `write-all` mean for a scope.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ceiling {
    /// They set it.
    Write,
    /// They grant it, but a workflow that says them does not count as asking for it.
    Newer,
    /// The same, and no more than read.
    NewerRead,
    /// They leave it alone.
    Explicit,
}

/// The scopes in the order in which messages name them.
const SCOPES: [(&str, Ceiling); 20] = [
    ("actions", Ceiling::Write),
    ("artifact-metadata", Ceiling::Newer),
    ("attestations", Ceiling::Newer),
    ("checks", Ceiling::Write),
    ("contents", Ceiling::Write),
    ("deployments", Ceiling::Write),
    ("discussions", Ceiling::Write),
    ("issues", Ceiling::Write),
    ("packages", Ceiling::Write),
    ("pages", Ceiling::Write),
    ("pull-requests", Ceiling::Write),
    ("repository-projects", Ceiling::Write),
    ("statuses", Ceiling::Write),
    ("security-events", Ceiling::Write),
    ("id-token", Ceiling::Write),
    ("models", Ceiling::NewerRead),
    ("workflows", Ceiling::Explicit),
    ("code-quality", Ceiling::Newer),
    ("copilot-requests", Ceiling::Explicit),
    ("vulnerability-alerts", Ceiling::NewerRead),
];

/// A level for every scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    levels: [Level; SCOPES.len()],
    /// The word, if it was written as one.
    pub shorthand: Option<Level>,
}

/// A scope that asks for more than is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The scope.
    pub scope: &'static str,
    /// What is asked for.
    pub requested: Level,
    /// What is allowed.
    pub allowed: Level,
}

impl Permissions {
    /// No permission at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { levels: [Level::None; SCOPES.len()], shorthand: None }
    }

    /// `read-all` or `write-all`.
    #[must_use]
    pub fn all(level: Level) -> Self {
        let mut permissions = Self { shorthand: Some(level), ..Self::none() };
        for (index, (_, ceiling)) in SCOPES.iter().enumerate() {
            if *ceiling == Ceiling::Write {
                permissions.levels[index] = level;
            }
        }
        permissions
    }

    /// What the token gets: `read-all` and `write-all` cover scopes that came later, too.
    #[must_use]
    pub fn granted(&self) -> Self {
        let mut granted = self.clone();
        let Some(level) = self.shorthand else { return granted };
        for (index, (_, ceiling)) in SCOPES.iter().enumerate() {
            granted.levels[index] = match ceiling {
                Ceiling::Write | Ceiling::Newer => level,
                Ceiling::NewerRead => level.min(Level::Read),
                Ceiling::Explicit => Level::None,
            };
        }
        granted
    }

    /// What a repository grants whose default is restricted: `contents` and `packages` for reading.
    #[must_use]
    pub fn limited_read() -> Self {
        let mut permissions = Self::none();
        permissions.set("contents", Level::Read);
        permissions.set("packages", Level::Read);
        permissions
    }

    /// Sets a scope; returns whether there is such a scope.
    pub fn set(&mut self, scope: &str, level: Level) -> bool {
        match SCOPES.iter().position(|(name, _)| *name == scope) {
            Some(index) => {
                self.levels[index] = level;
                true
            }
            None => false,
        }
    }

    /// The level of a scope; none for one that does not exist.
    #[must_use]
    pub fn get(&self, scope: &str) -> Level {
        self.iter().find(|(name, _)| *name == scope).map_or(Level::None, |(_, level)| level)
    }

    /// All scopes with their levels.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Level)> + '_ {
        SCOPES.iter().zip(self.levels).map(|((name, _), level)| (*name, level))
    }

    /// The scopes in which these permissions go beyond `allowed`.
    #[must_use]
    pub fn beyond(&self, allowed: &Permissions) -> Vec<Violation> {
        self.iter()
            .zip(allowed.granted().levels)
            .filter(|((_, requested), allowed)| requested > allowed)
            .map(|((scope, requested), allowed)| Violation { scope, requested, allowed })
            .collect()
    }
}

/// `permissions` of a file. The schema has checked scopes and levels.
pub(super) fn convert(template: &Template) -> Result<Permissions, Fail> {
    match &template.node {
        Node::Str(text) if **text == *"read-all" => Ok(Permissions::all(Level::Read)),
        Node::Str(text) if **text == *"write-all" => Ok(Permissions::all(Level::Write)),
        Node::Map(entries) => {
            let mut permissions = Permissions::none();
            for (key, value) in entries {
                let level = match value.as_str() {
                    Some("read") => Level::Read,
                    Some("write") => Level::Write,
                    Some("none") => Level::None,
                    _ => return Err(Fail::unexpected(value, "permissions")),
                };
                permissions.set(key.as_str().unwrap_or_default(), level);
            }
            Ok(permissions)
        }
        _ => Err(Fail::unexpected(template, "permissions")),
    }
}
