//! A repository at a ref, checked out on the host: what `actions/checkout` would do in the guest.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ActionError, Tried};
use super::git::{ASK_LIMIT, FETCH_LIMIT, Git, GitError};
use super::reference::{ActionReference, is_sound_ref};
use super::source::Source;
use super::store::{ActionStore, nameless};
use crate::engine::Secret;

/// How long submodules may take: several transfers.
const SUBMODULE_LIMIT: Duration = Duration::from_secs(1800);

/// Which submodules to check out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submodules {
    /// None.
    #[default]
    None,
    /// Those of the repository.
    Own,
    /// Those of submodules too.
    Recursive,
}

/// What to check out.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// `owner/name`
    pub repository: String,
    /// A directory with the repository; absent to ask the sources of actions.
    pub from: Option<PathBuf>,
    /// Branch, tag, commit or a whole ref; empty for the default branch.
    pub reference: String,
    /// How many commits; all of them if 0.
    pub depth: u32,
    /// Tags too.
    pub tags: bool,
    /// Submodules.
    pub submodules: Submodules,
    /// `sparse-checkout`: only these directories, or what these patterns match.
    pub sparse: Vec<String>,
    /// The entries of `sparse` are directories.
    pub cone: bool,
    /// A token instead of that of the store.
    pub token: Secret,
    /// The address that the remote `origin` gets.
    pub origin: String,
}

/// A repository that was checked out.
#[derive(Debug)]
pub struct CheckedOut {
    /// Its files and `.git` as a tar archive. It has no name and goes away when it is closed.
    pub tar: tokio::fs::File,
    /// The commit.
    pub commit: String,
    /// The ref as it was resolved, for instance `refs/heads/main`; empty for a commit.
    pub reference: String,
}

/// A directory that is removed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What a ref of a checkout is at an address.
struct Wanted {
    /// `refs/heads/main`, or empty for a commit.
    name: String,
    commit: String,
}

impl ActionStore {
    /// Checks a repository out, from the first source that has it.
    ///
    /// # Errors
    /// No source has it, there is no such ref, or git failed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn check_out(&self, checkout: &Checkout) -> Result<CheckedOut, ActionError> {
        let parts = checkout.repository.split_once('/');
        let (owner, repository) = parts.ok_or_else(|| ActionError::Unsound(checkout.repository.clone()))?;
        let named = ActionReference {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path: String::new(),
            reference: if checkout.reference.is_empty() { "HEAD".into() } else { checkout.reference.clone() },
        };
        if !named.is_sound() || !is_sound_ref(&named.reference) {
            return Err(ActionError::Unsound(named.to_string()));
        }
        let (places, mut tried) = self.places(checkout, &named);
        if places.is_empty() && tried.is_empty() {
            return Err(ActionError::Offline { uses: checkout.repository.clone() });
        }
        for (git, address) in places {
            match look_up(&git, &address, &named.reference).await {
                Ok(Some(wanted)) => return self.check_out_at(checkout, &git, &address, wanted).await,
                Ok(None) => {
                    let (reference, is_short_commit) = (named.reference.clone(), false);
                    return Err(ActionError::NoRef { address, reference, is_short_commit });
                }
                Err(error @ GitError::NotFound(_)) => return Err(error.into()),
                Err(error) => tried.push(Tried { address, message: error.message() }),
            }
        }
        Err(ActionError::NoRepository { uses: checkout.repository.clone(), tried })
    }

    /// Where the repository may be, with a git that may read there; and the directories that do not have it.
    fn places(&self, checkout: &Checkout, named: &ActionReference) -> (Vec<(Git, String)>, Vec<Tried>) {
        let (mut places, mut tried) = (Vec::new(), Vec::new());
        if let Some(from) = &checkout.from {
            places.push((self.with_submodules(Git::new()), from.display().to_string()));
            return (places, tried);
        }
        for source in self.sources() {
            if self.is_offline() && source.is_remote() {
                continue;
            }
            let git = match source.base() {
                Some(base) if !checkout.token.expose().is_empty() => {
                    Git::new().with_token(base, &checkout.token)
                }
                _ => self.git(source),
            };
            let git = self.with_submodules(git);
            let addresses = source.addresses(named);
            if addresses.is_empty() {
                tried.push(source.without(named));
            }
            places.extend(addresses.into_iter().map(|address| (git.clone(), address)));
        }
        (places, tried)
    }

    /// Submodules that are at GitHub come from where actions come from.
    fn with_submodules(&self, git: Git) -> Git {
        let git = git.with_setting("core.hooksPath", "/dev/null").with_setting("protocol.ext.allow", "never");
        match self.sources().first() {
            Some(Source::Url(base)) => {
                git.with_setting(&format!("url.{base}/.insteadOf"), "https://github.com/")
            }
            Some(Source::Directory(path)) => git
                .with_setting("protocol.file.allow", "always")
                .with_setting(&format!("url.{}/.insteadOf", path.display()), "https://github.com/"),
            _ => git,
        }
    }

    async fn check_out_at(
        &self,
        checkout: &Checkout,
        git: &Git,
        address: &str,
        wanted: Wanted,
    ) -> Result<CheckedOut, ActionError> {
        let scratch = self.scratch()?;
        let git = git.at(&scratch.0);
        git.run(["init", "--quiet"], ASK_LIMIT).await?;
        git.run(["remote", "add", "origin", &checkout.origin], ASK_LIMIT).await?;
        fetch(&git, checkout, address, &wanted).await?;
        if !checkout.sparse.is_empty() {
            let cone = if checkout.cone { "--cone" } else { "--no-cone" };
            let args = ["sparse-checkout", "set", cone, "--"].map(str::to_owned);
            git.run(args.into_iter().chain(checkout.sparse.iter().cloned()), ASK_LIMIT).await?;
        }
        let branch = wanted.name.strip_prefix("refs/heads/");
        match branch {
            Some(branch) => {
                let from = format!("refs/remotes/origin/{branch}");
                let args = ["checkout", "--quiet", "--force", "-B", branch, &from];
                git.run(args, FETCH_LIMIT).await?;
            }
            None => {
                let args = ["checkout", "--quiet", "--force", "--detach", &wanted.commit];
                git.run(args, FETCH_LIMIT).await?;
            }
        }
        submodules(&git, checkout).await?;
        let tar = self.pack(&scratch.0).await?;
        Ok(CheckedOut { tar, commit: wanted.commit, reference: wanted.name })
    }

    fn scratch(&self) -> Result<Scratch, ActionError> {
        let path = self.directory().join("checkouts").join(uuid::Uuid::new_v4().simple().to_string());
        let failed = |source| ActionError::Cache { path: path.clone(), source };
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(Scratch(path))
    }

    /// The files of a directory as a tar archive.
    async fn pack(&self, directory: &Path) -> Result<tokio::fs::File, ActionError> {
        let file = nameless(self.directory())?;
        let failed = |source| ActionError::Cache { path: directory.to_owned(), source };
        let (from, to) = (directory.to_owned(), file.try_clone().map_err(failed)?);
        let packed = tokio::task::spawn_blocking(move || pack(&from, &to)).await;
        packed.map_err(io::Error::other).and_then(|packed| packed).map_err(failed)?;
        let mut file = tokio::fs::File::from_std(file);
        tokio::io::AsyncSeekExt::rewind(&mut file).await.map_err(failed)?;
        Ok(file)
    }
}

fn pack(from: &Path, to: &File) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(to));
    tar.follow_symlinks(false);
    tar.append_dir_all("", from)?;
    io::Write::flush(&mut tar.into_inner()?)
}

/// What a ref is: a whole name, a commit, a branch, else a tag, as `actions/checkout` tries them.
async fn look_up(git: &Git, address: &str, reference: &str) -> Result<Option<Wanted>, GitError> {
    let is_commit = reference.len() == 40 && reference.chars().all(|c| c.is_ascii_hexdigit());
    if is_commit {
        return Ok(Some(Wanted { name: String::new(), commit: reference.to_lowercase() }));
    }
    let names = if reference.starts_with("refs/") || reference == "HEAD" {
        vec![reference.to_owned()]
    } else {
        vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}")]
    };
    let peeled = names.iter().map(|name| format!("{name}^{{}}"));
    let args = ["ls-remote", "--quiet", "--symref", address].map(str::to_owned).into_iter();
    let out = git.run(args.chain(names.clone()).chain(peeled), ASK_LIMIT).await?;
    let out = String::from_utf8_lossy(&out);
    let lines: Vec<(&str, &str)> = out.lines().filter_map(|line| line.split_once('\t')).collect();
    let commit_of = |name: &str| {
        let is_it = |(what, known): &&(&str, &str)| *known == name && !what.starts_with("ref: ");
        lines.iter().find(is_it).map(|(commit, _)| (*commit).to_owned())
    };
    // The branch that `HEAD` is.
    let head = lines.iter().find_map(|(what, name)| what.strip_prefix("ref: ").filter(|_| *name == "HEAD"));
    Ok(names.into_iter().find_map(|name| {
        let commit = commit_of(&format!("{name}^{{}}")).or_else(|| commit_of(&name))?;
        let name = if name == "HEAD" { head.unwrap_or_default().to_owned() } else { name };
        Some(Wanted { name, commit })
    }))
}

async fn fetch(git: &Git, checkout: &Checkout, address: &str, wanted: &Wanted) -> Result<(), ActionError> {
    let mut args: Vec<String> = ["fetch", "--quiet", "--no-write-fetch-head"].map(str::to_owned).to_vec();
    let all = checkout.depth == 0;
    args.push(if checkout.tags || all { "--tags" } else { "--no-tags" }.to_owned());
    if !all {
        args.push(format!("--depth={}", checkout.depth));
    }
    args.push(address.to_owned());
    if all {
        args.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
    }
    let name = wanted.name.as_str();
    match (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/")) {
        (Some(branch), _) if !all => args.push(format!("+{}:refs/remotes/origin/{branch}", wanted.commit)),
        (None, Some(tag)) => args.push(format!("+refs/tags/{tag}:refs/tags/{tag}")),
        (None, None) if name.is_empty() => args.push(format!("+{}:refs/tci/checkout", wanted.commit)),
        (None, None) => args.push(format!("+{name}:refs/remotes/{}", name.trim_start_matches("refs/"))),
        _ => {}
    }
    git.run(args, FETCH_LIMIT).await.map_err(|error| match error {
        GitError::Failed { message, .. } => {
            ActionError::NoCommit { address: address.to_owned(), commit: wanted.commit.clone(), message }
        }
        error => error.into(),
    })?;
    Ok(())
}

async fn submodules(git: &Git, checkout: &Checkout) -> Result<(), ActionError> {
    let mut args: Vec<String> =
        ["submodule", "--quiet", "update", "--init", "--force"].map(str::to_owned).to_vec();
    match checkout.submodules {
        Submodules::None => return Ok(()),
        Submodules::Own => {}
        Submodules::Recursive => args.push("--recursive".to_owned()),
    }
    if checkout.depth > 0 {
        args.push(format!("--depth={}", checkout.depth));
    }
    git.run(args, SUBMODULE_LIMIT).await?;
    Ok(())
}
