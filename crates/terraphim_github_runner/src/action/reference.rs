//! `owner/repository/path@ref`.

use std::fmt;
use std::str::FromStr;

use terraphim_actions::workflow::Uses;
use thiserror::Error;

/// An action of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionReference {
    /// The owner of the repository.
    pub owner: String,
    /// The name of the repository.
    pub repository: String,
    /// The directory of the action in it; empty for its top.
    pub path: String,
    /// Branch, tag or commit.
    pub reference: String,
}

/// A text that names no action of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no action of a repository: write owner/repository@ref or owner/repository/path@ref")]
pub struct NotAReference(String);

impl ActionReference {
    /// The reference that `uses` is, if it is one.
    #[must_use]
    pub fn of(uses: &Uses) -> Option<ActionReference> {
        let Uses::Remote { owner, repository, path, reference } = uses else { return None };
        Some(ActionReference {
            owner: owner.clone(),
            repository: repository.clone(),
            path: path.clone(),
            reference: reference.clone(),
        })
    }

    /// `owner/repository`
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.repository)
    }

    /// The same for every spelling: owner, repository and path do not differ by case, the ref does.
    #[must_use]
    pub fn key(&self) -> String {
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        format!("{}{path}@{}", self.full_name().to_lowercase(), self.reference)
    }

    /// The key of its repository at its ref: what is fetched and locked.
    #[must_use]
    pub fn repository_key(&self) -> String {
        format!("{}@{}", self.full_name().to_lowercase(), self.reference)
    }

    /// Whether every part can be part of a path of the host and an argument of git.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(['.', '-'])
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        is_name(&self.owner)
            && is_name(&self.repository)
            && self.path.split('/').all(|part| part != ".." && !part.contains(['\0', '\n', ':']))
            && is_sound_ref(&self.reference)
    }
}

/// Whether a text can be the name of a branch, a tag or a commit: git's own rules, of which these are the ones that
/// matter for paths and arguments.
#[must_use]
pub(crate) fn is_sound_ref(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("//")
        && !name.contains("/.")
        && !name.ends_with(".lock")
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\@{\"'".contains(c))
}

impl fmt::Display for ActionReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        write!(f, "{}/{}{path}@{}", self.owner, self.repository, self.reference)
    }
}

impl FromStr for ActionReference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reference = Uses::parse(text).and_then(|uses| ActionReference::of(&uses));
        reference.filter(ActionReference::is_sound).ok_or_else(|| NotAReference(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_have_one_key() {
        let key = |text: &str| text.parse::<ActionReference>().unwrap().key();
        assert_eq!(key("Actions/Setup-Node@v4"), "actions/setup-node@v4");
        assert_eq!(key("a/b/c/d@Feature/X"), "a/b/c/d@Feature/X");
        let action: ActionReference = "a/B/c@v1".parse().unwrap();
        assert_eq!((action.repository_key().as_str(), action.to_string().as_str()), ("a/b@v1", "a/B/c@v1"));
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for text in [
            "../x@v1",
            "a/..@v1",
            "a/b/../c@v1",
            "-a/b@v1",
            "a/b@-x",
            "a/b@v1..v2",
            "a/b@x y",
            "./x",
            "a/b@@{1}",
        ] {
            assert!(text.parse::<ActionReference>().is_err(), "{text}");
        }
    }
}
