//! The handshake, and noticing a new one in the middle of a connection.
//!
//! A host that vanishes and comes back at once (or a VM restored from a snapshot) may leave no hang-up for the guest to
//! see; the next bytes are then a hello where an HTTP/2 frame should begin. Frames are followed by their headers only.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use terraphim_vm_protocol::{
    GENERATION,
    handshake::{HELLO, READY, Scanner, message},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Length of an HTTP/2 frame header, and of what is compared with the start of a hello.
const HEADER: usize = 9;
/// What an HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A byte stream with the handshake on top.
pub(crate) struct Link<S> {
    stream: S,
    /// Received and not yet looked at.
    pending: Vec<u8>,
    frames: Frames,
    /// A new hello has arrived: this connection has ended, the next handshake finds it.
    is_superseded: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S) -> Link<S> {
        Link { stream, pending: Vec::new(), frames: Frames::default(), is_superseded: false }
    }

    /// Answers the next hello of a host of this generation. `false` when the stream ends first.
    ///
    /// A host of another generation gets the answer too, so that it can name both; it will not go on.
    pub(crate) async fn handshake(&mut self) -> io::Result<bool> {
        let mut scanner = Scanner::new(HELLO);
        let mut buffer = std::mem::take(&mut self.pending);
        loop {
            let mut bytes = buffer.iter();
            while let Some(byte) = bytes.next() {
                let Some((generation, nonce)) = scanner.push(*byte) else { continue };
                self.stream.write_all(&message(READY, GENERATION, &nonce)).await?;
                self.stream.flush().await?;
                if generation == GENERATION {
                    self.pending = bytes.as_slice().to_vec();
                    self.frames = Frames::default();
                    self.is_superseded = false;
                    return Ok(true);
                }
            }
            buffer.resize(4096, 0);
            let count = self.stream.read(&mut buffer).await?;
            buffer.truncate(count);
            if count == 0 {
                return Ok(false);
            }
        }
    }

    /// Whether a new hello, and not the end of the stream, ended the last connection.
    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_superseded {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if self.pending.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(ctx, buffer))?;
        } else {
            let count = self.pending.len().min(buffer.remaining());
            buffer.put_slice(&self.pending[..count]);
            self.pending.drain(..count);
        }
        let new = &buffer.filled()[before..];
        if let Some(rest) = self.frames.find_hello(new) {
            let mut hello = self.frames.header.to_vec();
            hello.extend_from_slice(&new[rest..]);
            hello.append(&mut self.pending);
            self.pending = hello;
            self.is_superseded = true;
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_superseded {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(ctx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_superseded {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(ctx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    /// The stream outlives the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Follows HTTP/2 frames: where the next one begins, and its header so far.
#[derive(Default)]
struct Frames {
    /// Payload bytes to pass over.
    skip: usize,
    header: [u8; HEADER],
    header_len: usize,
    preface_seen: bool,
}

impl Frames {
    /// Looks at the next bytes. When a hello stands where a frame should (or anything but HTTP/2 at the very beginning),
    /// `header` holds its first bytes, and this is how many of `bytes` they end at.
    fn find_hello(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let wanted = HEADER - self.header_len;
            let taken = wanted.min(bytes.len() - at);
            self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[at..at + taken]);
            self.header_len += taken;
            at += taken;
            if self.header_len == HEADER {
                let is_preface = self.header == PREFACE[..HEADER];
                if self.header == HELLO[..HEADER] || !(self.preface_seen || is_preface) {
                    return Some(at);
                }
                self.begin_frame();
            }
        }
        None
    }

    fn begin_frame(&mut self) {
        let [a, b, c, ..] = self.header;
        self.skip = if self.preface_seen {
            u32::from_be_bytes([0, a, b, c]) as usize
        } else {
            PREFACE.len() - HEADER
        };
        self.preface_seen = true;
        self.header_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 20, 0, 0, 0, 0, 0, 1]);
        // A hello inside a payload is data.
        bytes.extend_from_slice(&HELLO[..]);
        bytes.extend_from_slice(&[7; 8]);
        bytes.extend_from_slice(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_hello_is_found_between_frames_only_and_at_any_cut() {
        let clean = connection();
        let mut bytes = clean.clone();
        bytes.extend_from_slice(&message(HELLO, 1, &[3; 16]));
        for chunk in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut found = None;
            for (index, piece) in bytes.chunks(chunk).enumerate() {
                if let Some(at) = frames.find_hello(piece) {
                    found = Some(index * chunk + at);
                    break;
                }
            }
            assert_eq!(found, Some(clean.len() + HEADER), "chunks of {chunk}");
        }
    }

    #[test]
    fn what_is_not_http_at_the_beginning_is_for_the_next_handshake() {
        for bytes in [message(HELLO, 1, &[3; 16]), [0; 32]] {
            assert_eq!(Frames::default().find_hello(&bytes), Some(HEADER));
        }
    }
}
