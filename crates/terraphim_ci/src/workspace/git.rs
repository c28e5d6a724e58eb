//! What git knows.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest as _, Sha256};

use terraphim_github_runner::RepositoryInfo;

use super::WorkspaceError;

/// A git repository with a working tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// The top of the working tree.
    pub(crate) root: PathBuf,
    /// The git directory of this working tree.
    pub(crate) git_dir: PathBuf,
    /// The directory with the objects; the same as `git_dir` except in a linked worktree.
    pub(crate) common_dir: PathBuf,
}

/// What the context `github` says about a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitInfo {
    pub(crate) repository: RepositoryInfo,
    /// The commit; empty before the first one.
    pub(crate) sha: String,
    /// `refs/heads/...`, `refs/tags/...`, or empty.
    pub(crate) git_ref: String,
}

/// What is new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// A hash of what is not committed; `None` when nothing is.
    pub(crate) uncommitted: Option<String>,
    /// Paths that the last commit or the working tree changes, sorted.
    pub(crate) paths: Vec<String>,
}

/// A change of more paths says nothing about one of them.
const MAX_CHANGED: usize = 300;

impl Repository {
    /// The repository that `directory` is in, if it is in one.
    pub(crate) fn discover(directory: &Path) -> Result<Option<Repository>, WorkspaceError> {
        if !directory.ancestors().any(|dir| dir.join(".git").symlink_metadata().is_ok()) {
            return Ok(None);
        }
        let read = |what: &str| {
            let out = run(directory, &["rev-parse", "--path-format=absolute", what])?;
            Ok(PathBuf::from(OsStr::from_bytes(out.strip_suffix(b"\n").unwrap_or(&out))))
        };
        Ok(Some(Repository {
            root: read("--show-toplevel")?,
            git_dir: read("--git-dir")?,
            common_dir: read("--git-common-dir")?,
        }))
    }

    /// What the context `github` needs to know.
    pub(crate) fn info(&self) -> GitInfo {
        let url = self.ask(&["remote", "get-url", "origin"]).or_else(|| {
            let first = self.ask(&["remote"])?.lines().next()?.to_owned();
            self.ask(&["remote", "get-url", &first])
        });
        let directory = self.root.file_name().unwrap_or(OsStr::new("repository")).to_string_lossy();
        let full_name = url.as_deref().and_then(full_name).unwrap_or_else(|| format!("local/{directory}"));
        let git_ref = self.ask(&["symbolic-ref", "--quiet", "HEAD"]).or_else(|| {
            let tag = self.ask(&["describe", "--tags", "--exact-match", "HEAD"])?;
            Some(format!("refs/tags/{tag}"))
        });
        let branch = git_ref.as_deref().and_then(|name| name.strip_prefix("refs/heads/"));
        GitInfo {
            repository: RepositoryInfo {
                full_name,
                clone_url: url.map(|url| without_password(&url)),
                default_branch: self.default_branch().or_else(|| branch.map(str::to_owned)),
            },
            sha: self.commit("HEAD").unwrap_or_default(),
            git_ref: git_ref.unwrap_or_default(),
        }
    }

    /// The commit that a reference leads to, of a branch also as it was last seen at `origin`.
    pub(crate) fn commit(&self, git_ref: &str) -> Option<String> {
        let find = |name: &str| {
            self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
        };
        let branch = git_ref.strip_prefix("refs/heads/");
        find(git_ref).or_else(|| find(&format!("refs/remotes/origin/{}", branch?)))
    }

    /// What `origin` says. It need not say anything, as after `git remote add`: then the branch that has a usual name.
    fn default_branch(&self) -> Option<String> {
        let origin = self.ask(&["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]);
        let said = origin.and_then(|name| name.strip_prefix("refs/remotes/origin/").map(str::to_owned));
        said.or_else(|| {
            let usual = ["main", "master"].into_iter();
            usual.map(str::to_owned).find(|name| self.commit(&format!("refs/heads/{name}")).is_some())
        })
    }

    /// What the last commit and the working tree change. What git cannot say is left out.
    pub(crate) fn changes(&self) -> Changes {
        let names = |args: &[&str]| {
            let out = run(&self.root, args).unwrap_or_default();
            let names = out.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        let untracked = names(&["ls-files", "-z", "--others", "--exclude-standard"]);
        let diff = run(&self.root, &["diff", "--no-ext-diff", "HEAD"]).unwrap_or_default();
        let uncommitted = (!diff.is_empty() || !untracked.is_empty()).then(|| {
            let mut hash = Sha256::new_with_prefix(&diff);
            for name in &untracked {
                hash.update(name);
                // Size and time stand for the content: it may be large, and a wrong guess costs a count only.
                if let Ok(file) = self.root.join(name).symlink_metadata() {
                    hash.update(file.len().to_le_bytes());
                    hash.update(file.mtime_nsec().to_le_bytes());
                    hash.update(file.mtime().to_le_bytes());
                }
            }
            hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
        });
        let mut paths = names(&["diff", "-z", "--name-only", "--no-ext-diff", "HEAD"]);
        paths.extend(names(&[
            "diff-tree",
            "-z",
            "--no-commit-id",
            "--name-only",
            "-r",
            "-m",
            "--first-parent",
            "HEAD",
        ]));
        paths.extend(untracked);
        paths.sort();
        paths.dedup();
        paths.truncate(MAX_CHANGED);
        Changes { uncommitted, paths }
    }

    /// The one line that git answers; `None` when it has no answer.
    fn ask(&self, args: &[&str]) -> Option<String> {
        let out = run(&self.root, args).ok()?;
        let line = String::from_utf8(out).ok()?.trim_end().to_owned();
        (!line.is_empty()).then_some(line)
    }
}

/// The files of the working tree at `root`: tracked ones and untracked ones that are not ignored; sorted, each once.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>, WorkspaceError> {
    let out = run(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    let mut files: Vec<PathBuf> = out
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        // An untracked repository within this one is named with a slash at its end.
        .map(|name| PathBuf::from(OsString::from(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)))))
        .collect();
    files.sort();
    // An unmerged file is listed once for each side.
    files.dedup();
    Ok(files)
}

fn run(directory: &Path, args: &[&str]) -> Result<Vec<u8>, WorkspaceError> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(args)
        .stdin(Stdio::null())
        // Reading must not write: no refreshed index, no lock.
        .env("GIT_OPTIONAL_LOCKS", "0")
        // Set in hooks, they would redirect every one of our questions.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .map_err(|source| WorkspaceError::NoGit { path: directory.to_owned(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(WorkspaceError::Git {
        command: args.join(" "),
        path: directory.to_owned(),
        message: String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "),
    })
}

/// `owner/name` from the URL of a remote: its last two components.
fn full_name(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(".git").unwrap_or(url);
    // `https://host/owner/name`, or the short form `host:owner/name`.
    let path = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.split_once(':')?.1,
    };
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    let (name, owner) = (parts.next()?, parts.next()?);
    Some(format!("{owner}/{name}"))
}

/// A remote's URL may hold a token; it is no business of logs and contexts.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((_, host)) if scheme.starts_with("http") => format!("{scheme}://{host}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_repository_is_the_end_of_its_url() {
        for (url, want) in [
            ("https://github.com/me/it.git", Some("me/it")),
            ("git@github.com:me/it", Some("me/it")),
            ("ssh://git@host:22/group/sub/it.git/", Some("sub/it")),
            ("file:///srv/git/it", None),
            ("/srv/git/it", None),
        ] {
            assert_eq!(full_name(url).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn a_token_in_a_url_stays_here() {
        assert_eq!(without_password("https://x:secret@host/a/b"), "https://host/a/b");
        assert_eq!(without_password("ssh://git@host/a/b"), "ssh://git@host/a/b");
    }
}
