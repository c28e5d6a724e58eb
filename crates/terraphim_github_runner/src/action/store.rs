//! The cache of actions.
//!
//! ```text
//! DATA/actions/owner/repository.git     bare; refs/tci/commits/SHA for each whole commit,
//!                                       refs/tci/SOURCE/tags/v1 for what a source said v1 is
//! DATA/actions/owner/repository.lock    held while it is changed
//! ```
//!
//! The content is addressed by commit: git names objects by their hash and checks that when they arrive. The ref of a
//! commit is written when all of it has arrived, so a fetch that was killed leaves nothing that looks whole.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::error::{ActionError, Tried};
use super::git::{ASK_LIMIT, FETCH_LIMIT, Git, GitError};
use super::lock::Lock;
use super::reference::ActionReference;
use super::source::Source;
use crate::engine::Secret;

/// The names that an action's file may have, and what makes a directory without one an action.
const MANIFESTS: [&str; 3] = ["action.yml", "action.yaml", "Dockerfile"];

/// Where actions come from, and the cache of them.
#[derive(Clone, Debug)]
pub struct ActionStore {
    directory: PathBuf,
    sources: Vec<Source>,
    is_offline: bool,
    lock: Option<Arc<Lock>>,
    /// What refs are for this run already, by [`ActionReference::repository_key`].
    commits: Arc<HashMap<String, String>>,
    token: Secret,
    /// One fetch at a time in this process: the file lock is between processes.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The commit of an action, all of it in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The bare repository that has it.
    pub repository: PathBuf,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
}

/// What an action's directory says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// The name and the text of its file.
    File {
        /// `action.yml` or `action.yaml`.
        name: &'static str,
        /// The text.
        text: String,
    },
    /// A Dockerfile without such a file.
    Dockerfile,
}

/// What a ref is, at a source.
struct Found {
    address: String,
    /// The name of the ref there, for servers that give no commit by its name; absent for a commit.
    name: Option<String>,
    commit: String,
}

impl ActionStore {
    /// Actions of GitHub, kept below `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> ActionStore {
        ActionStore {
            directory,
            sources: vec![Source::GitHub],
            is_offline: false,
            lock: None,
            commits: Arc::default(),
            token: Secret::default(),
            turn: Arc::default(),
        }
    }

    /// Other sources instead of GitHub, in the order in which they are asked. Without any it stays GitHub.
    #[must_use]
    pub fn with_sources(mut self, sources: Vec<Source>) -> Self {
        if !sources.is_empty() {
            self.sources = sources;
        }
        self
    }

    /// Asks nothing over a network.
    #[must_use]
    pub fn offline(mut self, is_offline: bool) -> Self {
        self.is_offline = is_offline;
        self
    }

    /// Uses exactly the commits of a lock file; what it does not have is an error.
    #[must_use]
    pub fn with_lock(mut self, lock: Option<Lock>) -> Self {
        self.lock = lock.map(Arc::new);
        self
    }

    /// Refs that were looked up for this run before and stay what they were, unless a lock file says otherwise.
    #[must_use]
    pub fn with_commits(mut self, commits: impl IntoIterator<Item = (ActionReference, String)>) -> Self {
        let key = |(reference, commit): (ActionReference, String)| (reference.repository_key(), commit);
        self.commits = Arc::new(commits.into_iter().map(key).collect());
        self
    }

    /// A token for private repositories. Every source that is asked over HTTP gets it.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = token;
        self
    }

    /// The sources, in the order in which they are asked.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether the commit is in the cache.
    pub async fn has(&self, action: &ActionReference, commit: &str) -> bool {
        has(&self.repository(action), commit).await
    }

    /// Brings the repository of an action into the cache, at the commit that its ref is.
    ///
    /// # Errors
    /// No source has it, the ref does not exist, the lock file does not know it, or git failed.
    ///
    /// # Cancel safety
    /// May be dropped at any time; what was not whole is fetched again.
    pub async fn fetch(&self, action: &ActionReference) -> Result<Fetched, ActionError> {
        if !action.is_sound() {
            return Err(ActionError::Unsound(action.to_string()));
        }
        let repository = self.repository(action);
        let locked = match &self.lock {
            Some(lock) => Some(lock.commit(action).ok_or_else(|| ActionError::NotLocked {
                uses: action.to_string(),
                lock: lock.path().to_owned(),
            })?),
            None => {
                let known = self.commits.get(&action.repository_key()).cloned();
                known.or_else(|| is_commit(&action.reference).then(|| action.reference.to_lowercase()))
            }
        };
        if let Some(commit) = &locked
            && has(&repository, commit).await
        {
            return Ok(Fetched { repository, commit: commit.clone() });
        }
        self.fetch_from_sources(action, &repository, locked).await
    }

    /// The commit that the ref of an action is now, whatever a lock file says; all of it is in the cache then.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn resolve(&self, action: &ActionReference) -> Result<Fetched, ActionError> {
        let unlocked = ActionStore { lock: None, commits: Arc::default(), ..self.clone() };
        unlocked.fetch(action).await
    }

    async fn fetch_from_sources(
        &self,
        action: &ActionReference,
        repository: &Path,
        commit: Option<String>,
    ) -> Result<Fetched, ActionError> {
        let mut tried = Vec::new();
        let mut missing = None;
        for source in &self.sources {
            if self.is_offline && source.is_remote() {
                if let Some((_, commit)) = self.remembered(source, action, repository).await {
                    return Ok(Fetched { repository: repository.to_owned(), commit });
                }
                continue;
            }
            let git = self.git(source);
            let addresses = source.addresses(action);
            if addresses.is_empty() {
                tried.push(source.without(action));
            }
            for address in addresses {
                let found = match &commit {
                    Some(commit) => {
                        Ok(Some(Found { address: address.clone(), name: None, commit: commit.clone() }))
                    }
                    None => look_up(&git, &address, &action.reference).await,
                };
                match found {
                    Ok(Some(found)) => match self.bring(&git, source, repository, &found).await {
                        Ok(()) => {
                            return Ok(Fetched { repository: repository.to_owned(), commit: found.commit });
                        }
                        Err(ActionError::NoCommit { address, message, .. }) => {
                            tried.push(Tried { address, message });
                        }
                        Err(error) => return Err(error),
                    },
                    Ok(None) => missing = missing.or(Some(address)),
                    Err(error @ GitError::NotFound(_)) => return Err(error.into()),
                    Err(error) => tried.push(Tried { address, message: error.message() }),
                }
            }
        }
        Err(self.nowhere(action, commit, tried, missing))
    }

    /// Why no source had it.
    fn nowhere(
        &self,
        action: &ActionReference,
        commit: Option<String>,
        tried: Vec<Tried>,
        missing: Option<String>,
    ) -> ActionError {
        let uses = action.to_string();
        if let Some(address) = missing {
            let reference = action.reference.clone();
            let is_short_commit = reference.len() >= 4 && reference.chars().all(|c| c.is_ascii_hexdigit());
            return ActionError::NoRef { address, reference, is_short_commit };
        }
        match (commit, tried.first()) {
            (_, None) => ActionError::Offline { uses },
            (Some(commit), Some(first)) if tried.len() == 1 => ActionError::NoCommit {
                address: first.address.clone(),
                commit,
                message: first.message.clone(),
            },
            _ => ActionError::NoRepository { uses, tried },
        }
    }

    /// The ref of `uses` in full, for instance `refs/tags/v1`. It is what is written where no source was ever asked what it
    /// is at this commit: a lock file says the commit only.
    pub async fn full_reference(&self, uses: &ActionReference, at: &Fetched) -> String {
        let is_full = uses.reference.starts_with("refs/") || is_commit(&uses.reference);
        for source in self.sources.iter().filter(|_| !is_full) {
            if let Some((kind, commit)) = self.remembered(source, uses, &at.repository).await
                && commit == at.commit
            {
                return format!("refs/{kind}/{}", uses.reference);
            }
        }
        uses.reference.clone()
    }

    /// What a source that is not asked now said a ref was, if all of that commit is here: `tags`, `heads` or `refs`, and
    /// the commit.
    async fn remembered(
        &self,
        source: &Source,
        action: &ActionReference,
        repository: &Path,
    ) -> Option<(&'static str, String)> {
        let git = Git::new().at(repository);
        for kind in ["tags", "heads", "refs"] {
            let name = remembered_name(source, kind, &action.reference);
            let args = ["rev-parse", "--verify", "--quiet", &name];
            let Ok(out) = git.run(args, ASK_LIMIT).await else { continue };
            let commit = String::from_utf8_lossy(&out).trim().to_owned();
            if has(repository, &commit).await {
                return Some((kind, commit));
            }
        }
        None
    }

    /// Fetches a commit that is not here yet, and remembers what the ref was.
    async fn bring(
        &self,
        git: &Git,
        source: &Source,
        repository: &Path,
        found: &Found,
    ) -> Result<(), ActionError> {
        let _turn = self.turn(repository).await?;
        prepare(repository).await?;
        let git = git.at(repository);
        if !has(repository, &found.commit).await {
            transfer(&git, found).await?;
        }
        if let Some(name) = &found.name {
            let (kind, name) = split_ref(name);
            let remembered = remembered_name(source, kind, name);
            git.run(["update-ref", &remembered, &found.commit], ASK_LIMIT).await?;
        }
        Ok(())
    }

    /// What the directory of an action says it is.
    ///
    /// # Errors
    /// There is none, or the cached copy is damaged.
    pub async fn manifest(&self, action: &ActionReference, at: &Fetched) -> Result<Manifest, ActionError> {
        let before = if action.path.is_empty() { String::new() } else { format!("{}/", action.path) };
        for name in MANIFESTS {
            let Some(object) = self.object(at, &format!("{before}{name}")).await? else { continue };
            if name == "Dockerfile" {
                return Ok(Manifest::Dockerfile);
            }
            return Ok(Manifest::File { name, text: self.text(at, &object).await? });
        }
        Err(ActionError::NoManifest { uses: action.to_string(), commit: at.commit.clone() })
    }

    /// The text of a workflow file, whose path `uses` has instead of a directory.
    ///
    /// # Errors
    /// There is none, or the cached copy is damaged.
    pub async fn workflow(&self, uses: &ActionReference, at: &Fetched) -> Result<String, ActionError> {
        match self.object(at, &uses.path).await? {
            Some(object) => self.text(at, &object).await,
            None => Err(ActionError::NoWorkflow { uses: uses.to_string(), commit: at.commit.clone() }),
        }
    }

    /// The name of git's object for a file of the commit; `None` if there is no such file.
    async fn object(&self, at: &Fetched, path: &str) -> Result<Option<String>, ActionError> {
        let args = ["ls-tree", "-z", "--format=%(objecttype) %(objectname)", &at.commit, "--", path];
        let damaged = |source| ActionError::Damaged { directory: at.repository.clone(), source };
        let listed = Git::new().at(&at.repository).run(args, ASK_LIMIT).await.map_err(damaged)?;
        let listed = String::from_utf8_lossy(&listed);
        Ok(listed.trim_end_matches('\0').strip_prefix("blob ").map(str::to_owned))
    }

    async fn text(&self, at: &Fetched, object: &str) -> Result<String, ActionError> {
        let damaged = |source| ActionError::Damaged { directory: at.repository.clone(), source };
        let args = ["cat-file", "blob", object];
        let text = Git::new().at(&at.repository).run(args, ASK_LIMIT).await.map_err(damaged)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// All files of the commit as a tar archive. It has no name and goes away when it is closed.
    ///
    /// # Errors
    /// The cached copy is damaged, or there is no room.
    pub async fn archive(&self, at: &Fetched) -> Result<tokio::fs::File, ActionError> {
        let file = nameless(&self.directory)?;
        let failed = |source| ActionError::Cache { path: self.directory.clone(), source };
        let target = file.try_clone().map_err(failed)?;
        let git = Git::new().at(&at.repository);
        let args = ["archive", "--format=tar", &at.commit];
        let damaged = |source| ActionError::Damaged { directory: at.repository.clone(), source };
        git.run_to(args, FETCH_LIMIT, Stdio::from(target)).await.map_err(damaged)?;
        let mut file = tokio::fs::File::from_std(file);
        tokio::io::AsyncSeekExt::rewind(&mut file).await.map_err(failed)?;
        Ok(file)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn is_offline(&self) -> bool {
        self.is_offline
    }

    fn repository(&self, action: &ActionReference) -> PathBuf {
        let name = format!("{}.git", action.repository.to_lowercase());
        self.directory.join(action.owner.to_lowercase()).join(name)
    }

    /// Git with the token that belongs to a source.
    pub(crate) fn git(&self, source: &Source) -> Git {
        match source.base() {
            Some(base) => Git::new().with_token(base, &self.token),
            None => Git::new(),
        }
    }

    /// Waits until nobody else changes the repository.
    async fn turn(&self, repository: &Path) -> Result<(OwnedMutexGuard<()>, File), ActionError> {
        let path = repository.with_extension("lock");
        let failed = |source| ActionError::Cache { path: path.clone(), source };
        let guard = Arc::clone(&self.turn).lock_owned().await;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        // Whoever holds it ends within the limits of git.
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        let file = locked.map_err(std::io::Error::other).and_then(|locked| locked).map_err(failed)?;
        Ok((guard, file))
    }
}

/// Whether all of a commit is in a repository.
async fn has(repository: &Path, commit: &str) -> bool {
    let args = ["rev-parse", "--verify", "--quiet", &format!("{}^{{tree}}", commit_name(commit))];
    repository.join("HEAD").is_file() && Git::new().at(repository).run(args, ASK_LIMIT).await.is_ok()
}

/// Makes the bare repository, if there is none.
async fn prepare(repository: &Path) -> Result<(), ActionError> {
    if repository.join("HEAD").is_file() {
        return Ok(());
    }
    let args = ["init", "--quiet", "--bare"].map(Path::new);
    Git::new().run(args.into_iter().chain([repository]), ASK_LIMIT).await?;
    Ok(())
}

/// Fetches a commit: by its name; by the name of its ref where a server does not give commits by name; at last with
/// all branches and tags.
async fn transfer(git: &Git, found: &Found) -> Result<(), ActionError> {
    let Found { address, name, commit } = found;
    let keep = commit_name(commit);
    let fetch = |depth: &'static [&'static str], what: Vec<String>| {
        let fixed = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"].map(str::to_owned);
        let depth = depth.iter().map(|&arg| arg.to_owned());
        fixed.into_iter().chain(depth).chain([address.clone()]).chain(what).collect::<Vec<_>>()
    };
    let first = match git.run(fetch(&["--depth=1"], vec![format!("+{commit}:{keep}")]), FETCH_LIMIT).await {
        Ok(_) => return Ok(()),
        Err(error @ GitError::Failed { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let all = match name {
        Some(name) => vec![format!("+{name}:refs/tci/arriving")],
        None => vec!["+refs/heads/*:refs/tci/all/heads/*".into(), "+refs/tags/*:refs/tci/all/tags/*".into()],
    };
    let no_commit = || ActionError::NoCommit {
        address: address.clone(),
        commit: commit.clone(),
        message: first.message(),
    };
    git.run(fetch(&[], all), FETCH_LIMIT).await.map_err(|_| no_commit())?;
    let whole = format!("{commit}^{{commit}}");
    git.run(["cat-file", "-e", &whole], ASK_LIMIT).await.map_err(|_| no_commit())?;
    git.run(["update-ref", &keep, commit], ASK_LIMIT).await?;
    Ok(())
}

/// What a ref is at an address: a tag, else a branch, as git itself resolves a short name; `None` if it is neither.
async fn look_up(git: &Git, address: &str, reference: &str) -> Result<Option<Found>, GitError> {
    let names = if reference.starts_with("refs/") {
        vec![reference.to_owned()]
    } else {
        vec![format!("refs/tags/{reference}"), format!("refs/heads/{reference}")]
    };
    let peeled: Vec<String> = names.iter().map(|name| format!("{name}^{{}}")).collect();
    let args = ["ls-remote", "--quiet", address].map(str::to_owned).into_iter();
    let out = git.run(args.chain(names.clone()).chain(peeled), ASK_LIMIT).await?;
    let out = String::from_utf8_lossy(&out);
    let refs: Vec<(&str, &str)> =
        out.lines().filter_map(|line| line.split_once('\t')).map(|(commit, name)| (name, commit)).collect();
    let commit_of = |name: &str| refs.iter().find(|(known, _)| *known == name).map(|(_, commit)| *commit);
    Ok(names.into_iter().find_map(|name| {
        // What an annotated tag points to, else the ref itself.
        let commit = commit_of(&format!("{name}^{{}}")).or_else(|| commit_of(&name))?;
        Some(Found { address: address.to_owned(), commit: commit.to_owned(), name: Some(name) })
    }))
}

fn commit_name(commit: &str) -> String {
    format!("refs/tci/commits/{commit}")
}

/// `refs/tags/v1` is the tag `v1`.
fn split_ref(name: &str) -> (&'static str, &str) {
    match (name.strip_prefix("refs/tags/"), name.strip_prefix("refs/heads/")) {
        (Some(tag), _) => ("tags", tag),
        (None, Some(branch)) => ("heads", branch),
        (None, None) => ("refs", name),
    }
}

/// Where it is remembered what a ref was at a source.
fn remembered_name(source: &Source, kind: &str, name: &str) -> String {
    let digest = Sha256::digest(source.to_string().as_bytes());
    let source: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    // One component, or a tag `a` of yesterday would be in the way of a tag `a/b` of today.
    let name = name.replace('%', "%25").replace('/', "%2F");
    format!("refs/tci/at-{source}/{kind}/{name}")
}

/// Whether a ref is a whole commit.
fn is_commit(reference: &str) -> bool {
    reference.len() == 40 && reference.chars().all(|c| c.is_ascii_hexdigit())
}

/// A file without a name in a directory.
pub(super) fn nameless(directory: &Path) -> Result<File, ActionError> {
    let failed = |source| ActionError::Cache { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}
