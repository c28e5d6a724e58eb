//! Output: from the pipes to the host, as it comes and no faster than the host takes it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use rustix::{buffer::spare_capacity, io::Errno, pipe::fcntl_setpipe_size};
use terraphim_vm_protocol::frame::{self, Tag};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch::Receiver,
    time::Instant,
};

use super::{End, reply::Reply};
use crate::{body::Gone, watch::watch};

/// One read, and so one frame, at most: with its header a quarter of a MiB, the largest HTTP/2 frame in use.
const CHUNK: usize = 256 * 1024 - frame::HEADER;
/// Less than this is copied: a chunk that waits for the host then holds no more memory than it has bytes.
const COPY_BELOW: usize = CHUNK / 4;

/// A pipe gets this room once it was found full: what Linux lets anyone ask for (`pipe-max-size`). Bulk output then crosses
/// in few, large reads. Most processes never fill the room that a pipe has at first.
const PIPE_SIZE: usize = 1 << 20;
const FIRST_PIPE_SIZE: usize = 1 << 16;

/// One output of a process.
pub(super) struct Output {
    tag: Tag,
    file: AsyncFd<OwnedFd>,
    is_open: bool,
    is_large: bool,
}

/// Sends what the sources hold until the tree has `ended` and they are empty, or what goes on has had its time. When the host leaves, stops early. They are
/// left in `open`: closing them can wait. What is held of the answer is sent when nothing was said for `patience`.
pub(super) async fn pump(
    sources: Vec<(Tag, OwnedFd)>,
    open: &mut Vec<Output>,
    reply: &mut Reply,
    (mut ended, patience): (Receiver<End>, Duration),
) -> Result<(), Gone> {
    for (tag, file) in sources {
        // Fails only when the kernel is out of memory for watching descriptors: nothing can be read then.
        let file = watch(file, Interest::READABLE).map_err(|_| Gone)?;
        open.push(Output { tag, file, is_open: true, is_large: false });
    }
    let mut buffer = Vec::new();
    let patience = tokio::time::sleep(patience);
    tokio::pin!(patience);
    loop {
        // Read before the outputs are: what is written after the end cannot be of this tree.
        let end = *ended.borrow_and_update();
        let is_last = match end {
            End::NotYet => false,
            End::All => true,
            End::LeftSome(until) => Instant::now() >= until || open.iter().all(|output| !output.is_open),
        };
        let mut found = false;
        for output in open.iter_mut() {
            if let Some(chunk) = output.read(&mut buffer) {
                reply.writer().await?.send(chunk).await?;
                found = true;
            }
        }
        if found {
            continue;
        }
        if is_last {
            return Ok(());
        }
        let [first, second] = [open.first(), open.get(1)];
        tokio::select! {
            () = readable(first) => {}
            () = readable(second) => {}
            _ = ended.changed() => {}
            () = over(end) => {}
            () = &mut patience, if reply.held() > 0 => drop(reply.writer().await?),
            () = reply.cancelled() => return Err(Gone),
        }
    }
}

/// Returns when nobody listens any more to what goes on.
async fn over(end: End) {
    match end {
        End::LeftSome(until) => tokio::time::sleep_until(until).await,
        End::NotYet | End::All => std::future::pending().await,
    }
}

/// Reads what nobody wants to know until its end, so that who says it is neither stopped nor ended for it; no faster than six
/// megabytes a second.
pub(super) async fn drain(output: Output) {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut buffer = vec![0; FIRST_PIPE_SIZE];
    loop {
        match rustix::io::read(output.file.as_fd(), &mut buffer[..]) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => readable(Some(&output)).await,
            Ok(0) | Err(_) => return,
            Ok(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Returns when there may be something to read; never for an output that is closed or absent.
async fn readable(output: Option<&Output>) {
    match output {
        Some(output) if output.is_open => {
            if let Ok(mut guard) = output.file.readable().await {
                guard.clear_ready();
            }
        }
        _ => std::future::pending().await,
    }
}

impl Output {
    /// The next frame, if there is something to read now.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Option<Bytes> {
        if !self.is_open {
            return None;
        }
        buffer.clear();
        // Exactly, so that no frame is longer; not zeroed, which would cost as much as reading.
        buffer.reserve_exact(frame::HEADER + CHUNK);
        buffer.extend_from_slice(&[0; frame::HEADER]);
        let count = loop {
            match rustix::io::read(self.file.as_fd(), spare_capacity(buffer)) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // A pseudo-terminal fails with EIO when nobody has its other end open; others do not fail.
                Ok(0) | Err(_) => {
                    self.is_open = false;
                    return None;
                }
                Ok(count) => break count,
            }
        };
        if count >= FIRST_PIPE_SIZE && !self.is_large {
            // Refused when the user has too many large pipes, and for a terminal: it works as it is, only slower.
            let _ = fcntl_setpipe_size(self.file.get_ref(), PIPE_SIZE);
            self.is_large = true;
        }
        buffer[..frame::HEADER].copy_from_slice(&frame::header(self.tag, count));
        if buffer.len() < COPY_BELOW {
            return Some(Bytes::copy_from_slice(buffer));
        }
        Some(std::mem::take(buffer).into())
    }
}

/// Writes as much as fits now. Cancel safe: nothing is written before the wait is over.
pub(super) async fn write_some(file: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(file.as_fd(), bytes) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => file.writable().await?.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}
