//! Descriptors that tokio watches.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches an owned descriptor. Needs a tokio runtime.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open and the same for as long as the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(file, interest) }?)
}
