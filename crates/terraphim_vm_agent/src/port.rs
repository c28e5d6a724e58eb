//! The virtio-serial port as an asynchronous byte stream.
//!
//! While no host is connected a port's `POLLHUP` stays set, and tokio never forgets a hang-up once seen. So the port sits
//! edge-triggered in an epoll instance of its own and tokio watches that instance: waiting for a host costs nothing,
//! where polling every 10 ms cost 8 % of a core.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    fs::{Mode, OFlags},
    io::Errno,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

use crate::watch::watch;

const NAMES: &str = "/sys/class/virtio-ports";
/// The kernel's driver takes at most this much per write (`port_fops_write`), and each write interrupts the host.
const WRITE_MAX: usize = 32 * 1024;
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The device of the port with this name, once the host has told the driver the name.
pub(crate) fn find(name: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

/// One open port. Both directions must be polled by the same task: they share one waker.
pub(crate) struct Port {
    file: OwnedFd,
    events: AsyncFd<OwnedFd>,
    /// The host closed its end; set until [`Port::wait_for_host`].
    is_gone: bool,
    reader_waits: bool,
    writer_waits: bool,
    gather: Vec<u8>,
}

impl Port {
    /// Opens the device. Needs a tokio runtime.
    pub(crate) fn open(device: &Path) -> io::Result<Port> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(device, flags, Mode::empty())?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&events, &file, epoll::EventData::new_u64(0), interest)?;
        Ok(Port {
            file,
            events: watch(events, Interest::READABLE)?,
            is_gone: false,
            reader_waits: false,
            writer_waits: false,
            gather: Vec::with_capacity(WRITE_MAX),
        })
    }

    /// Returns when a host is connected.
    pub(crate) async fn wait_for_host(&mut self) -> io::Result<()> {
        while self.has_hung_up()? {
            std::future::poll_fn(|ctx| self.poll_event(ctx)).await?;
        }
        self.is_gone = false;
        Ok(())
    }

    fn has_hung_up(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.file, PollFlags::empty())];
        poll(&mut fds, Some(&NO_WAIT))?;
        Ok(fds[0].revents().contains(PollFlags::HUP))
    }

    /// Waits for the next change of the port, whichever direction it is about.
    fn poll_event(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.events.poll_read_ready(ctx))?;
        let mut taken =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        epoll::wait(guard.get_inner(), &mut taken, Some(&NO_WAIT))?;
        guard.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Reads all there is: the driver hands out at most 4 KiB at a time. 0 when the host has left.
    fn fill(&self, buffer: &mut ReadBuf<'_>) -> rustix::io::Result<usize> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            // SAFETY: nothing is taken out of it, and the kernel only writes into it.
            let spare = unsafe { buffer.unfilled_mut() };
            let count = match rustix::io::read(&self.file, spare).map(|(read, _)| read.len()) {
                // The host has left, or there is no more at the moment; the next call says which.
                Ok(0) => break,
                Ok(count) => count,
                Err(errno) => {
                    let found = buffer.filled().len() - before;
                    return if found == 0 { Err(errno) } else { Ok(found) };
                }
            };
            // SAFETY: the kernel has just written that many bytes there.
            unsafe { buffer.assume_init(count) };
            buffer.advance(count);
        }
        Ok(buffer.filled().len() - before)
    }

    fn poll_io(
        &mut self,
        ctx: &mut Context<'_>,
        is_read: bool,
        mut operation: impl FnMut(&mut Port) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match operation(self) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
            // A writer waits for a host that left as for one that is slow; only the hang-up tells them apart.
            if !is_read && self.has_hung_up()? {
                self.is_gone = true;
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let waits = if is_read { &mut self.reader_waits } else { &mut self.writer_waits };
            *waits = true;
            ready!(self.poll_event(ctx))?;
            // The event just taken may have been what the other direction waits for.
            self.reader_waits &= !is_read;
            self.writer_waits &= is_read;
            if self.reader_waits || self.writer_waits {
                ctx.waker().wake_by_ref();
            }
        }
    }
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_gone {
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.poll_io(ctx, true, |port| port.fill(buffer)))?;
        self.is_gone = count == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.poll_io(ctx, false, |port| rustix::io::write(&port.file, bytes))
    }

    /// Small pieces (frame headers) are sent together with what follows: the driver would make a message of each.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = pieces.iter().find(|piece| !piece.is_empty());
        let Some(first) = first else { return Poll::Ready(Ok(0)) };
        if first.len() >= WRITE_MAX / 2 {
            return self.poll_write(ctx, first);
        }
        let mut gather = std::mem::take(&mut self.gather);
        gather.clear();
        for piece in pieces {
            let room = WRITE_MAX - gather.len();
            gather.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let result = self.as_mut().poll_write(ctx, &gather);
        self.gather = gather;
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
