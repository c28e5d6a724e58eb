//! Which files there are.

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use super::{IoContext as _, Repository, WorkspaceError, git};

/// One thing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is here.
    pub(crate) from: PathBuf,
    /// Its name in the archive.
    pub(crate) to: PathBuf,
}

/// A whole directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Everything {
    /// What of it can be sent.
    pub(crate) entries: Vec<Entry>,
    /// Devices, pipes and sockets, by their names below the directory: of these there is nothing to send.
    pub(crate) left_out: Vec<PathBuf>,
}

/// A working tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// Its top directory.
    pub(crate) root: PathBuf,
    /// Its repository, if it is one.
    pub(crate) git: Option<Repository>,
    /// Never sent, although it may be below `root`: our own data.
    pub(crate) without: PathBuf,
}

impl Tree {
    /// Everything to send: directories before what is in them, each path once. Of devices, pipes and sockets nothing is said: git
    /// does not know them either.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, WorkspaceError> {
        let mut list = List::new(&self.without);
        match &self.git {
            Some(git) => {
                list.repository(&self.root, Path::new(""))?;
                list.git_directory(git)?;
            }
            None => list.directory(&self.root, Path::new(""), &|name| name == ".git")?,
        }
        Ok(list.all.entries)
    }

    /// The whole directory, `.git` and ignored files too.
    pub(crate) fn everything(&self) -> Result<Everything, WorkspaceError> {
        let mut list = List::new(&self.without);
        list.directory(&self.root, Path::new(""), &|_| false)?;
        Ok(list.all)
    }
}

struct List<'a> {
    without: &'a Path,
    all: Everything,
    seen: BTreeSet<PathBuf>,
}

impl<'a> List<'a> {
    fn new(without: &'a Path) -> List<'a> {
        List { without, all: Everything::default(), seen: BTreeSet::new() }
    }

    /// The files of the repository at `root`, and of those within it.
    fn repository(&mut self, root: &Path, to: &Path) -> Result<(), WorkspaceError> {
        for file in git::files(root)? {
            let (from, to) = (root.join(&file), to.join(&file));
            // Tracked and deleted: it is not in the working tree.
            let Some(metadata) = metadata(&from)? else { continue };
            if from.starts_with(self.without) {
                continue;
            }
            self.parents(root, &from, &to);
            self.push(&from, &to);
            // A submodule or a repository within this one; without `.git` it was never checked out.
            if metadata.is_dir() && from.join(".git").symlink_metadata().is_ok() {
                self.repository(&from, &to)?;
                self.submodule_git(&from.join(".git"), &to.join(".git"))?;
            }
        }
        Ok(())
    }

    /// A submodule's `.git` is a file that points into the `.git` of the outer repository, which is sent too.
    fn submodule_git(&mut self, from: &Path, to: &Path) -> Result<(), WorkspaceError> {
        match metadata(from)? {
            Some(metadata) if metadata.is_dir() => {
                self.push(from, to);
                self.directory(from, to, &is_transient)
            }
            Some(_) => {
                self.push(from, to);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `.git` of the outer repository. In a linked worktree it is put together: the shared directory without its list
    /// of worktrees, and this worktree's own `HEAD` and index.
    fn git_directory(&mut self, git: &Repository) -> Result<(), WorkspaceError> {
        let to = Path::new(".git");
        self.push(&git.common_dir, to);
        if git.git_dir == git.common_dir {
            return self.directory(&git.common_dir, to, &is_transient);
        }
        for own in ["HEAD", "index"] {
            let from = git.git_dir.join(own);
            if metadata(&from)?.is_some() {
                self.push(&from, &to.join(own));
            }
        }
        self.directory(&git.common_dir, to, &|name| name == "worktrees" || is_transient(name))
    }

    /// Everything below a directory but what `leave_out` says about names at its top, and sockets and the like.
    fn directory(
        &mut self,
        from: &Path,
        to: &Path,
        leave_out: &dyn Fn(&str) -> bool,
    ) -> Result<(), WorkspaceError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(from).io("read directory", from)? {
            names.push(entry.io("read directory", from)?.file_name());
        }
        names.sort();
        for name in names {
            let (from, to) = (from.join(&name), to.join(&name));
            if leave_out(&name.to_string_lossy()) || from.starts_with(self.without) {
                continue;
            }
            let Some(metadata) = metadata(&from)? else { continue };
            let kind = metadata.file_type();
            if kind.is_file() || kind.is_symlink() || kind.is_dir() {
                self.push(&from, &to);
            } else {
                self.all.left_out.push(to.clone());
            }
            if kind.is_dir() {
                self.directory(&from, &to, leave_out)?;
            }
        }
        Ok(())
    }

    /// The directories that lead to a file, for their modes.
    fn parents(&mut self, root: &Path, from: &Path, to: &Path) {
        let ups: Vec<(PathBuf, PathBuf)> = from
            .ancestors()
            .zip(to.ancestors())
            .skip(1)
            .take_while(|(from, to)| *from != root && !self.seen.contains(*to))
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .collect();
        for (from, to) in ups.into_iter().rev() {
            self.push(&from, &to);
        }
    }

    fn push(&mut self, from: &Path, to: &Path) {
        if self.seen.insert(to.to_owned()) {
            self.all.entries.push(Entry { from: from.to_owned(), to: to.to_owned() });
        }
    }
}

/// Locks of a git that runs, and the socket of its file system monitor.
fn is_transient(name: &str) -> bool {
    name.ends_with(".lock") || name == "fsmonitor--daemon.ipc"
}

/// `None` when there is nothing.
fn metadata(path: &Path) -> Result<Option<Metadata>, WorkspaceError> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(WorkspaceError::Io { operation: "read", path: path.to_owned(), source }),
    }
}
