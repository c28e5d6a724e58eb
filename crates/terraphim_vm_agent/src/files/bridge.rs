//! Bytes between a thread that blocks and a task that must not. Both channels are bounded: whoever is faster waits.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks under way in one direction.
const DEPTH: usize = 4;
/// Outgoing chunks are cut at this size: one HTTP/2 frame.
const CHUNK: usize = 256 * 1024;

/// The reading end for a thread.
pub(super) struct Incoming {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// What the thread sends.
pub(super) enum Chunk {
    Bytes(Bytes),
    /// Nothing is missing. A channel that closes without it broke off.
    End,
    /// Nothing more comes, and why.
    BrokenOff(String),
}

/// The writing end for a thread.
pub(super) struct Outgoing {
    chunks: Sender<Chunk>,
    buffer: Vec<u8>,
}

pub(super) fn incoming() -> (Sender<io::Result<Bytes>>, Incoming) {
    let (sender, chunks) = channel(DEPTH);
    (sender, Incoming { chunks, current: Bytes::new() })
}

pub(super) fn outgoing() -> (Outgoing, Receiver<Chunk>) {
    let (chunks, receiver) = channel(DEPTH);
    (Outgoing { chunks, buffer: Vec::new() }, receiver)
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Outgoing {
    fn send(&self, chunk: Chunk) -> io::Result<()> {
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Says why nothing more comes.
    pub(super) fn break_off(self, why: String) {
        // A receiver that left does not want to know it.
        let _ = self.send(Chunk::BrokenOff(why));
    }

    /// Sends the rest and says that this is all.
    pub(super) fn finish(mut self) {
        // A receiver that left does not want it.
        let _ = self.flush().and_then(|()| self.send(Chunk::End));
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK);
        }
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::take(&mut self.buffer);
        self.send(Chunk::Bytes(full.into()))
    }
}
