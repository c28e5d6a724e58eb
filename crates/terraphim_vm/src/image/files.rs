//! Small file operations that images need: sorted listings, durable writes, free space, locks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::error::{ImageError, IoContext};
use super::progress::Progress;

/// The entries of a directory, sorted.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut entries = list().io("list", directory)?;
    entries.sort();
    Ok(entries)
}

/// Makes sure that what was written to a file or directory survives a crash of the host.
pub(super) fn sync(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|file| file.sync_all()).io("write to disk", path)
}

/// Takes the right to write from everybody: images are shared between VMs.
pub(super) fn make_read_only(path: &Path) -> Result<(), ImageError> {
    fs::set_permissions(path, PermissionsExt::from_mode(0o444)).io("make read-only", path)
}

/// Gives a file a second name, or copies it.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    // A cache on another file system, or one without links, costs a copy.
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)).io("copy", from)
}

/// Writes a file such that it is there whole or not at all. Hypervisors that run in nobody's name must be able to read
/// it, whatever the umask.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let directory = path.parent().expect("a file in a store has a directory");
    let write = || {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
        io::Write::write_all(&mut file, content)?;
        file.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).io("write", path)
}

/// How the names of unfinished files and directories start.
pub(super) const TEMPORARY: &str = ".unfinished-";

/// What interrupted builds left in `directory`. The caller holds the lock under which it is written.
pub(super) fn unfinished(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut paths = entries(directory)?;
    paths.retain(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
    });
    Ok(paths)
}

/// Removes what interrupted builds left in `directory`. The caller holds the lock under which it is written.
pub(super) fn remove_unfinished(directory: &Path) -> Result<(), ImageError> {
    unfinished(directory)?.iter().try_for_each(|path| remove(path))
}

/// Removes a file or a whole directory.
pub(super) fn remove(path: &Path) -> Result<(), ImageError> {
    let metadata = path.symlink_metadata().io("look at", path)?;
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.io("remove", path)
}

/// Fails unless the file system of `directory` has room for `need_mib`.
pub(super) fn require_space(directory: &Path, need_mib: u64) -> Result<(), ImageError> {
    let stat = statvfs(directory).io("ask for the free space of", directory)?;
    let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    if free_mib < need_mib {
        return Err(ImageError::NoSpace { directory: directory.to_owned(), need_mib, free_mib });
    }
    Ok(())
}

/// An exclusive lock on a file, held until dropped, and until the programs that were handed it have ended.
#[derive(Debug)]
pub(super) struct Lock(File);

impl AsRawFd for Lock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Lock {
    /// Waits for the lock, saying so.
    pub(super) fn take(path: &Path, progress: &dyn Progress) -> Result<Lock, ImageError> {
        let file = OpenOptions::new().create(true).append(true).open(path).io("open", path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.note("another build is at work: waiting for it to end");
            flock(&file, FlockOperation::LockExclusive).io("lock", path)?;
        }
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_told_in_numbers() {
        let error = require_space(Path::new("/tmp"), u64::MAX).unwrap_err();
        assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
        require_space(Path::new("/tmp"), 0).unwrap();
    }

    #[test]
    fn an_atomic_write_leaves_only_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(entries(directory.path()).unwrap(), [path]);
    }
}
