//! Where repositories of actions are.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::Tried;
use super::reference::ActionReference;

const GITHUB: &str = "https://github.com";

/// Where repositories of actions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// GitHub itself.
    GitHub,
    /// A directory with `owner/repository` or `owner/repository.git` in it.
    Directory(PathBuf),
    /// A server with git's HTTP protocol at `URL/owner/repository`, or with `.git` after it. Without a slash at the end.
    Url(String),
}

impl Source {
    /// The addresses to try for the repository of an action, in order; none if a directory does not have it.
    pub(super) fn addresses(&self, action: &ActionReference) -> Vec<String> {
        let name = action.full_name();
        match self {
            Source::GitHub => vec![format!("{GITHUB}/{name}")],
            Source::Url(base) => vec![format!("{base}/{name}"), format!("{base}/{name}.git")],
            Source::Directory(root) => {
                let candidates = [root.join(&name), root.join(format!("{name}.git"))];
                let found = candidates.iter().find(|path| is_repository(path));
                found.map(|path| path.display().to_string()).into_iter().collect()
            }
        }
    }

    /// What is said of one that has no address for a repository.
    pub(super) fn without(&self, action: &ActionReference) -> Tried {
        Tried { address: self.to_string(), message: format!("there is no {} in it", action.full_name()) }
    }

    /// Whether it is asked over a network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !matches!(self, Source::Directory(_))
    }

    /// The address that a token belongs to.
    pub(super) fn base(&self) -> Option<&str> {
        match self {
            Source::GitHub => Some(GITHUB),
            Source::Url(base) => Some(base),
            Source::Directory(_) => None,
        }
    }
}

/// A repository with a working tree, or a bare one.
fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::GitHub => f.write_str(GITHUB),
            Source::Url(base) => f.write_str(base),
            Source::Directory(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = Infallible;

    /// An address with `http://` or `https://`, else a directory.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim_end_matches('/');
        Ok(if trimmed == GITHUB {
            Source::GitHub
        } else if text.starts_with("http://") || text.starts_with("https://") {
            Source::Url(trimmed.to_owned())
        } else {
            Source::Directory(PathBuf::from(text.strip_prefix("file://").unwrap_or(text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_github_an_address_or_a_directory() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        assert_eq!(source("https://github.com/"), Source::GitHub);
        assert_eq!(source("http://127.0.0.1:8/x/"), Source::Url("http://127.0.0.1:8/x".into()));
        assert_eq!(source("mirror"), Source::Directory("mirror".into()));
        let action = "o/r@v1".parse().unwrap();
        assert_eq!(source("http://h").addresses(&action), ["http://h/o/r", "http://h/o/r.git"]);
        assert!(source("/none-such").addresses(&action).is_empty());
    }
}
