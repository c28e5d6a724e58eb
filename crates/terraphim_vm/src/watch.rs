//! Notices of changes to files.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use tokio::io::unix::AsyncFd;

use crate::error::{IoContext as _, VmError};

/// Lets the runtime watch a descriptor.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and the runtime owns it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// The log of the SQLite database at `path`.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Wakes who watches the SQLite database at `path`, after a commit. The write to its log has woken them too, but a
/// moment before the commit can be seen: whoever looked in between would wait for ever.
pub(crate) fn announce(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    // Without a log nobody missed anything; whoever waits has a time limit.
    let _ = rustix::fs::utimensat(rustix::fs::CWD, log_of(path), &times, AtFlags::empty());
}

/// When to look again after a notice, each counted from the look before. A commit can be seen only after its log was written
/// and, where its writer asks for that, has reached the disk; nothing tells of that moment. Our own writers do, others, an
/// operator's SQLite shell for instance, do not.
pub(crate) const LATER_LOOKS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(3)];

/// What concerns every file of a directory: changes were missed, or the directory itself is gone.
const EVERYTHING: ReadFlags = ReadFlags::QUEUE_OVERFLOW
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::IGNORED);

/// Wakes when something happens to one file. Its directory is watched, because the file may come and go.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: AsyncFd<OwnedFd>,
    name: OsString,
    /// What is written to all the time is watched by itself: its directory would tell of every write to its neighbours
    /// too, such as the log of the run store with some ten writes for each step.
    writes: Option<Writes>,
    /// Files that are watched beside, each until it is written to.
    beside: Vec<i32>,
}

/// What a change concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The file that the watch is for.
    pub(crate) file: bool,
    /// One of those of [`Watch::once`].
    pub(crate) beside: bool,
}

#[derive(Debug)]
struct Writes {
    path: PathBuf,
    /// Absent while there is no file.
    watch: Option<i32>,
}

impl Writes {
    fn follow(&mut self, fd: &OwnedFd) -> io::Result<()> {
        match inotify::add_watch(fd, &self.path, WatchFlags::MODIFY | WatchFlags::ATTRIB) {
            Ok(watch) => self.watch = Some(watch),
            Err(rustix::io::Errno::NOENT) => self.watch = None,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl Watch {
    /// Watches for writes to the SQLite database at `path` (in WAL mode), whose directory must exist.
    pub(crate) fn new(path: &Path) -> Result<Watch, VmError> {
        let log = log_of(path);
        let name = log.file_name().unwrap_or_default().to_owned();
        // The directory first: a log that comes between the two calls is seen by one of them.
        let mut watch = Watch::entry(path, name, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        let mut writes = Writes { path: log, watch: None };
        writes.follow(watch.fd.get_ref()).io("watch", &writes.path)?;
        watch.writes = Some(writes);
        Ok(watch)
    }

    /// Watches for somebody closing the file at `path`.
    pub(crate) fn closing(path: &Path) -> Result<Watch, VmError> {
        Watch::entry(path, path.file_name().unwrap_or_default().to_owned(), WatchFlags::CLOSE)
    }

    /// Watches for the file at `path` being removed or renamed, with its directory or without.
    pub(crate) fn removal(path: &Path) -> Result<Watch, VmError> {
        let what =
            WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        Watch::entry(path, path.file_name().unwrap_or_default().to_owned(), what)
    }

    fn entry(path: &Path, name: OsString, what: WatchFlags) -> Result<Watch, VmError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).io("watch", directory)?;
        inotify::add_watch(&fd, directory, what).io("watch", directory)?;
        Ok(Watch { fd: watched(fd).io("watch", directory)?, name, writes: None, beside: Vec::new() })
    }

    /// Tells also of the next write to each of `files`, and then of no further one until it is called again. It shares the
    /// descriptor, of which a user has 128 by default (inotify(7), `max_user_instances`), and a host many VMs.
    pub(crate) fn once(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let what = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        let add = |file: &PathBuf| inotify::add_watch(self.fd.get_ref(), file, what);
        self.beside = files.iter().map(add).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Returns after the next change. Changes between two calls count as one.
    ///
    /// # Cancel safety
    /// A change is not lost: it is either returned or still unread.
    pub(crate) async fn changed(&mut self) -> io::Result<Change> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut ready = self.fd.readable().await?;
            let (mut change, mut has_come) = (Change::default(), false);
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if self.beside.contains(&event.wd()) => change.beside = true,
                    Ok(event) => {
                        let is_named =
                            event.file_name().is_some_and(|name| name.to_bytes() == self.name.as_bytes());
                        let own = self.writes.as_ref().is_some_and(|writes| writes.watch == Some(event.wd()));
                        has_come |= is_named || event.events().contains(ReadFlags::IGNORED);
                        change.file |= is_named || own || event.events().intersects(EVERYTHING);
                    }
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
            ready.clear_ready();
            if has_come && let Some(writes) = &mut self.writes {
                writes.follow(self.fd.get_ref())?;
            }
            if change != Change::default() {
                return Ok(change);
            }
        }
    }
}

/// Wakes when something comes into a directory or leaves it, or when somebody who has written to a file in it closes it
/// or dies.
pub struct DirectoryWatch {
    fd: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// Watches from now on. Must be called within a runtime.
    ///
    /// # Errors
    /// The directory is not there, or there are too many watches.
    pub fn new(directory: &Path) -> io::Result<DirectoryWatch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&fd, directory, what)?;
        Ok(DirectoryWatch { fd: watched(fd)? })
    }

    /// Returns after the next change. Changes between two calls count as one.
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Cancel safety
    /// A change is not lost: it is either returned or still unread.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut ready = self.fd.readable().await?;
            let mut seen = false;
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(_) => seen = true,
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write as _, time::Duration};
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_file_beside_is_told_of_once_until_asked_again() {
        const MOMENT: Duration = Duration::from_millis(50);
        let dir = tempfile::tempdir().unwrap();
        let (database, log) = (dir.path().join("vms.db"), dir.path().join("vm/console.log"));
        fs::create_dir(dir.path().join("vm")).unwrap();
        let mut file = fs::File::create(&log).unwrap();
        let mut watch = Watch::new(&database).unwrap();
        for _ in 0..2 {
            watch.once(std::slice::from_ref(&log)).unwrap();
            file.write_all(b"x").unwrap();
            assert_eq!(watch.changed().await.unwrap(), Change { file: false, beside: true });
            file.write_all(b"x").unwrap();
            assert!(timeout(MOMENT, watch.changed()).await.is_err(), "it was not asked again");
            fs::write(log_of(&database), "x").unwrap();
            assert!(watch.changed().await.unwrap().file);
            while timeout(MOMENT, watch.changed()).await.is_ok() {}
        }
        // What was written before it was asked for is no news.
        watch.once(&[log]).unwrap();
        assert!(timeout(MOMENT, watch.changed()).await.is_err());
    }
}
