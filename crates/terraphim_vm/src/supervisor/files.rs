//! The files of one start: the lock, the directory of the socket, the socket.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{
        DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
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
        loop {
            let file = open_lock(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path) => return Ok(Some(VmLock(file))),
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(errno).io("lock", &path),
            }
        }
    }

    /// Waits for the lock, for at most `limit`; `None` when it is still taken then.
    pub(crate) async fn take(paths: &Paths, id: &VmId, limit: Duration) -> Result<Option<VmLock>, VmError> {
        let path = paths.lock(id);
        // Opened once, so that the only closings seen are those of others.
        let mut file = open_lock(&path)?;
        let mut closed = Watch::closing(&path)?;
        let taken = async {
            loop {
                match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) if is_at(&file, &path) => return Ok(VmLock(file)),
                    Ok(()) => file = open_lock(&path)?,
                    Err(rustix::io::Errno::WOULDBLOCK) => drop(closed.changed().await.io("watch", &path)?),
                    Err(errno) => return Err(errno).io("lock", &path),
                }
            }
        };
        timeout(limit, taken).await.map_or(Ok(None), |taken| taken.map(Some))
    }
}

impl VmLock {
    /// Gives the lock up and removes its file: the VM is gone, and taking the lock has made the file again.
    pub(crate) fn discard(self, paths: &Paths, id: &VmId) -> Result<(), VmError> {
        let path = paths.lock(id);
        fs::remove_file(&path).io("remove", &path)
    }
}

/// Whether a locked file is still the one that others will lock: it is removed with its VM, by whoever had it locked before.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    let there = inode(fs::symlink_metadata(path));
    there.is_some() && there == inode(file.metadata())
}

fn open_lock(path: &Path) -> Result<File, VmError> {
    if let Some(parent) = path.parent() {
        crate::make_private_directory(parent).io("create", parent)?;
    }
    // Whether a lock is still the one that others take is told by its file: of a link that would be another's.
    let no_link = libc::O_NOFOLLOW;
    File::options().create(true).append(true).custom_flags(no_link).open(path).io("open", path)
}

/// A bound socket whose file goes with it, unless somebody has put another one there.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) losses: Losses,
    path: PathBuf,
    identity: (u64, i64, i64),
}

impl Socket {
    /// Binds with mode 0600 in a directory of mode 0700. What dead supervisors left is removed: the caller holds the lock, so
    /// no supervisor listens there.
    ///
    /// # Errors
    /// Something is in the way that no supervisor left; it is not touched.
    pub(super) fn bind(path: &Path) -> Result<Socket, VmError> {
        let directory = path.parent().expect("a socket has a directory");
        DirBuilder::new().recursive(true).mode(0o700).create(directory).io("create", directory)?;
        // The VM's directory, its host's, and the user's: whoever can write to one of them can replace the socket.
        for level in directory.ancestors().take(3) {
            check_private(level)?;
        }
        for left in fs::read_dir(directory).io("read", directory)?.flatten() {
            if left.file_name().to_string_lossy().starts_with(SOCKET_PREFIX)
                && occupant(&left.path()).is_none()
            {
                let _ = fs::remove_file(left.path());
            }
        }
        if let Some(what) = occupant(path) {
            let source = io::Error::new(io::ErrorKind::AddrInUse, format!("{what} is in its place"));
            return Err(VmError::Io { operation: "bind the control socket", path: path.to_owned(), source });
        }
        // Before there is anything to lose: a file that is removed the moment it is bound is noticed too.
        let losses = Losses::of(path);
        let listener = UnixListener::bind(path).io("bind", path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).io("protect", path)?;
        let identity = identity(path).io("read", path)?;
        Ok(Socket { listener, losses, path: path.to_owned(), identity })
    }

    /// Binds anew if the file is gone.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub(super) fn restore(&mut self) -> Result<(), VmError> {
        if !identity(&self.path).is_ok_and(|found| found == self.identity) {
            *self = Socket::bind(&self.path.clone())?;
            tracing::warn!("the control socket was removed and is bound anew");
        }
        Ok(())
    }
}

/// News of the control socket's file.
#[derive(Debug)]
pub(super) struct Losses(Option<Watch>);

impl Losses {
    /// Watches from now on, where that can be had; where not, somebody has to look.
    fn of(path: &Path) -> Losses {
        match Watch::removal(path) {
            Ok(watch) => Losses(Some(watch)),
            Err(error) => {
                tracing::warn!("{error}: no notice of a removal of the control socket");
                Losses(None)
            }
        }
    }

    /// Returns when the file may have gone. Never returns again where such news cannot be had.
    ///
    /// # Cancel safety
    /// No news is lost.
    pub(super) async fn changed(&mut self) {
        if let Some(watch) = &mut self.0
            && watch.changed().await.is_ok()
        {
            return;
        }
        self.0 = None;
        std::future::pending().await
    }
}

/// How the names of control sockets begin, see [`Paths::socket`].
const SOCKET_PREFIX: &str = "control-";

/// What is at the place of a control socket that no dead supervisor left: they leave sockets on which nobody listens.
fn occupant(path: &Path) -> Option<&'static str> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if kind.is_file() || (kind.is_socket() && !has_listener(path)) {
        return None;
    }
    Some(match () {
        () if kind.is_socket() => "a socket on which another process listens",
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a named pipe",
        () => "a device",
    })
}

/// Anything but a refusal counts as a listener, a full queue for instance.
fn has_listener(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    connected != Err(rustix::io::Errno::CONNREFUSED)
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
/// The directory of a VM's files, made if it is missing.
///
/// # Errors
/// Something else is in its place, be it a link to a directory.
pub(super) fn own_directory(path: &Path) -> Result<(), VmError> {
    crate::make_private_directory(path).io("create", path)?;
    if fs::symlink_metadata(path).io("read", path)?.is_dir() {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::NotADirectory, "a symbolic link is in its place");
    Err(VmError::Io { operation: "use", path: path.to_owned(), source })
}

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
    async fn what_is_a_link_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path()).unwrap();
        let id = VmId::random();
        let lock = paths.lock(&id);
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("elsewhere", &lock).unwrap();
        let refused = VmLock::try_take(&paths, &id).unwrap_err().to_string();
        assert!(refused.contains(&lock.display().to_string()), "{refused}");
        assert!(VmLock::take(&paths, &id, Duration::from_secs(60)).await.is_err());
        assert!(!lock.with_file_name("elsewhere").exists());

        let real = dir.path().join("real");
        own_directory(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let refused = own_directory(&link).unwrap_err().to_string();
        assert!(refused.contains("cannot use") && refused.contains("link"), "{refused}");
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
    fn a_lock_whose_file_was_removed_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path()).unwrap();
        let id = VmId::random();
        let removed = VmLock::try_take(&paths, &id).unwrap().unwrap();
        fs::remove_file(paths.lock(&id)).unwrap();
        let held = VmLock::try_take(&paths, &id).unwrap();
        assert!(held.is_some() && VmLock::try_take(&paths, &id).unwrap().is_none());
        drop(removed);
    }

    #[tokio::test]
    async fn a_removed_socket_is_bound_anew_and_a_foreign_one_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user/host/vm/control-1");
        let mut socket = Socket::bind(&path).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        socket.losses.changed().await;
        socket.restore().unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        // The one that was bound anew is watched from its first moment, too.
        fs::remove_file(&path).unwrap();
        socket.losses.changed().await;
        let foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = socket.restore().unwrap_err();
        assert!(matches!(&error, VmError::Io { path: named, .. } if *named == path), "{error}");
        drop(socket);
        assert!(path.exists());
        drop(foreign);
        drop(Socket::bind(&path).unwrap());
        assert!(!path.exists());
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
