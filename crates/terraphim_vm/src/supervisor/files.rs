//! The files of one start: the lock, the directory of the socket, the socket.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{net::UnixListener, time::timeout};

use crate::{
    Paths, VmId,
    error::{IoContext as _, VmError},
    watch::Watch,
};

/// The right to act for a VM. The kernel frees it when its holder ends, however that happens.
#[derive(Debug)]
pub(crate) struct VmLock(#[expect(dead_code, reason = "holding the descriptor is what it is for")] File);

impl VmLock {
    /// Takes the lock; `None` when somebody has it.
    pub(crate) fn try_take(paths: &Paths, id: &VmId) -> Result<Option<VmLock>, VmError> {
        let path = paths.lock(id);
        let file = open_lock(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(VmLock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).io("lock", &path),
        }
    }
}

impl VmLock {
    /// Waits for the lock, for at most `limit`; `None` when it is still taken then.
    pub(crate) async fn take(paths: &Paths, id: &VmId, limit: Duration) -> Result<Option<VmLock>, VmError> {
        let path = paths.lock(id);
        // Opened once, so that the only closings seen are those of others.
        let file = open_lock(&path)?;
        let mut closed = Watch::closing(&path)?;
        let taken = async {
            loop {
                match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => return Ok(()),
                    Err(rustix::io::Errno::WOULDBLOCK) => closed.changed().await.io("watch", &path)?,
                    Err(errno) => return Err(errno).io("lock", &path),
                }
            }
        };
        match timeout(limit, taken).await {
            Ok(taken) => taken.map(|()| Some(VmLock(file))),
            Err(_) => Ok(None),
        }
    }
}

fn open_lock(path: &Path) -> Result<File, VmError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).io("create", parent)?;
    }
    File::options().create(true).append(true).open(path).io("open", path)
}

/// A bound socket whose file goes with it, unless somebody has put another one there.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    identity: (u64, i64, i64),
}

impl Socket {
    /// Binds with mode 0600 in a directory of mode 0700. What a dead supervisor left is removed: the caller holds the
    /// lock, so nobody alive listens there.
    pub(super) fn bind(path: &Path) -> Result<Socket, VmError> {
        let directory = path.parent().expect("a socket has a directory");
        DirBuilder::new().recursive(true).mode(0o700).create(directory).io("create", directory)?;
        // The VM's directory, its host's, and the user's: whoever can write to one of them can replace the socket.
        for level in directory.ancestors().take(3) {
            check_private(level)?;
        }
        for left in fs::read_dir(directory).io("read", directory)?.flatten() {
            let _ = fs::remove_file(left.path());
        }
        let listener = UnixListener::bind(path).io("bind", path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).io("protect", path)?;
        let identity = identity(path).io("read", path)?;
        Ok(Socket { listener, path: path.to_owned(), identity })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        if let Some(directory) = self.path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Tells a file from another that has its path. An inode number alone does not: it is reused at once.
fn identity(path: &Path) -> io::Result<(u64, i64, i64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// Refuses a directory that another user could write to.
fn check_private(path: &Path) -> Result<(), VmError> {
    let meta = fs::symlink_metadata(path).io("read", path)?;
    let mine = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if mine {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::PermissionDenied, "not a directory of mode 0700 of this user");
    Err(VmError::Io { operation: "use", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path()).unwrap();
        let id = VmId::random();
        let held = VmLock::try_take(&paths, &id).unwrap();
        assert!(held.is_some());
        assert!(VmLock::try_take(&paths, &id).unwrap().is_none());
        drop(held);
        assert!(VmLock::try_take(&paths, &id).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_socket_removes_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user/host/vm/control-1");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(socket);
        assert!(path.exists());
        drop(Socket::bind(&path).unwrap());
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(check_private(&open).is_err());
    }
}
