//! Waiting for files to change and for processes to end: by events of the kernel, never by asking again and again.

use std::{future::Future, io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify;
use terraphim_vm::ProcessId;
use tokio::io::{Interest, unix::AsyncFd};

use crate::failure::{Context as _, Failure};

/// Changes of files or of what is in directories.
pub(crate) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches from now on.
    pub(crate) fn on(paths: &[&Path]) -> Result<Watch, Failure> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .context("cannot watch files")?;
        let what =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE_SELF;
        for path in paths {
            inotify::add_watch(&fd, *path, what).map_err(|error| Failure::io("watch", path, error.into()))?;
        }
        let inotify = readable(fd).context("cannot watch files")?;
        Ok(Watch { inotify })
    }

    /// Returns when something changed since the last call.
    ///
    /// # Cancel safety
    /// No change is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) -> Result<(), Failure> {
        let read = self.inotify.async_io(Interest::READABLE, |fd| {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            // Which event it was does not matter: the files are looked at.
            inotify::Reader::new(fd, &mut buffer).next().map(|_| ()).map_err(io::Error::from)
        });
        read.await.context("cannot watch files")
    }
}

/// Resolves when the process has ended.
pub(crate) fn ends(process: &ProcessId) -> impl Future<Output = Result<(), Failure>> + use<> {
    let pidfd = process.open();
    async move {
        let Some(pidfd) = pidfd.context("cannot watch a process")? else { return Ok(()) };
        let pidfd = readable(pidfd).context("cannot watch a process")?;
        let _ready = pidfd.readable().await.context("cannot watch a process")?;
        Ok(())
    }
}

fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, and `OwnedFd` lends the same one for as long as it lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
