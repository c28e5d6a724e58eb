//! The kernel's device events: how the agent waits for a device without udev.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recv, socket_with,
    },
};

/// Devices appear within milliseconds after their driver; this is for an emulated guest on a host with all cores busy.
const LIMIT: Duration = Duration::from_secs(20);

/// A subscription, opened before the drivers are loaded.
pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    pub(super) fn open() -> io::Result<Uevents> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        // Group 1 is the kernel's own events.
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Uevents { socket })
    }

    /// Looks now and after every event until `look` finds something.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            // Emptied before looking: an event that comes after is seen by `poll`.
            self.drain();
            if let Some(found) = look()? {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} does not appear")));
            }
            let left = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(1), tv_nsec: 0 };
            poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left))?;
        }
    }

    fn drain(&self) {
        let mut event = [0; 4096];
        // An overrun (`ENOBUFS`) is an event too: the next look decides.
        while recv(&self.socket, &mut event[..], RecvFlags::DONTWAIT).is_ok() {}
    }
}
