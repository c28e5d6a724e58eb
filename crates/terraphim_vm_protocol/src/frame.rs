//! The codec of the bodies of `POST /v1/exec`: `tag u8, length u32 big-endian, payload`.
//!
//! Bytes in, frames out; the same encoding is what a supervisor writes to an execution's output file.

use thiserror::Error;

/// The largest payload of one frame in bytes. A reader may hold one frame, never more.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes before each payload.
pub const HEADER: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tag {
    /// Host to guest, first: JSON [`ExecRequest`](crate::message::ExecRequest).
    Request = 1,
    /// Host to guest: bytes for standard input.
    Stdin = 2,
    /// Host to guest: standard input ends.
    StdinEnd = 3,
    /// Host to guest: one byte, the signal for the process group.
    Signal = 4,
    /// Host to guest: JSON [`TerminalSize`](crate::message::TerminalSize).
    Resize = 5,
    /// Guest to host, first: JSON [`ExecStarted`](crate::message::ExecStarted).
    Started = 16,
    /// Guest to host: bytes of standard output (or of the terminal).
    Stdout = 17,
    /// Guest to host: bytes of standard error.
    Stderr = 18,
    /// Guest to host: JSON [`FileHeader`](crate::message::FileHeader).
    File = 19,
    /// Guest to host: bytes of the file of the last `File` frame.
    FileData = 20,
    /// Guest to host, last: JSON [`ExecExited`](crate::message::ExecExited).
    Exited = 21,
    /// Guest to host, last: JSON [`ExecFailed`](crate::message::ExecFailed).
    Failed = 22,
    /// Written by a supervisor, last, when the VM ended before the process did: UTF-8 text.
    Lost = 23,
}

impl Tag {
    /// The tag with this number.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Tag> {
        use Tag::{
            Exited, Failed, File, FileData, Lost, Request, Resize, Signal, Started, Stderr, Stdin, StdinEnd,
            Stdout,
        };
        [
            Request, Stdin, StdinEnd, Signal, Resize, Started, Stdout, Stderr, File, FileData, Exited,
            Failed, Lost,
        ]
        .into_iter()
        .find(|tag| *tag as u8 == value)
    }

    /// Whether no frame follows this one in a response.
    #[must_use]
    pub fn is_last(self) -> bool {
        matches!(self, Tag::Exited | Tag::Failed | Tag::Lost)
    }
}

/// Bytes that are no frame. The stream is then unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The tag has no meaning in this generation.
    #[error("unknown frame tag {0}")]
    UnknownTag(u8),
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes is longer than the limit of {MAX_PAYLOAD}")]
    TooLong(usize),
}

/// The header of a frame with `length` bytes of payload (at most [`MAX_PAYLOAD`]).
///
/// # Panics
/// If `length` exceeds [`MAX_PAYLOAD`]: the caller splits.
#[must_use]
pub fn header(tag: Tag, length: usize) -> [u8; HEADER] {
    assert!(length <= MAX_PAYLOAD, "the caller splits payloads");
    let [a, b, c, d] = u32::try_from(length).expect("at most MAX_PAYLOAD").to_be_bytes();
    [tag as u8, a, b, c, d]
}

/// Appends one frame to `out`.
pub fn encode(tag: Tag, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(tag, payload.len()));
    out.extend_from_slice(payload);
}

/// Reads the header at the start of `bytes`: `None` until five bytes are there.
///
/// # Errors
/// An unknown tag or a payload over the limit.
pub fn parse_header(bytes: &[u8]) -> Result<Option<(Tag, usize)>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let tag = Tag::from_u8(head[0]).ok_or(FrameError::UnknownTag(head[0]))?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some((tag, length)))
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Adds bytes as they arrive. Call [`Decoder::next`] until it is `None` before adding more, so that the buffer
    /// stays within one frame and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    #[expect(clippy::should_implement_trait, reason = "lends from the buffer, which Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<(Tag, &[u8])>, FrameError> {
        let rest = &self.buffer[self.read..];
        let Some((tag, length)) = parse_header(rest)? else { return Ok(None) };
        if rest.len() < HEADER + length {
            return Ok(None);
        }
        let start = self.read + HEADER;
        self.read = start + length;
        Ok(Some((tag, &self.buffer[start..start + length])))
    }

    /// Whether the stream may end here: no partial frame is held.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.read == self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = Vec::new();
        encode(Tag::Stdout, b"hello", &mut bytes);
        encode(Tag::Stderr, b"", &mut bytes);
        encode(Tag::Exited, &[7; 300], &mut bytes);
        for chunk in 1..bytes.len() {
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.push(piece);
                while let Some((tag, payload)) = decoder.next().unwrap() {
                    seen.push((tag, payload.to_vec()));
                }
            }
            assert!(decoder.is_at_boundary());
            assert_eq!(
                seen,
                [(Tag::Stdout, b"hello".to_vec()), (Tag::Stderr, Vec::new()), (Tag::Exited, vec![7; 300])]
            );
        }
    }

    #[test]
    fn garbage_is_refused() {
        let mut decoder = Decoder::new();
        decoder.push(&[99, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(FrameError::UnknownTag(99)));
        let mut decoder = Decoder::new();
        decoder.push(&[17, 0xff, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong(0xff00_0000)));
    }

    #[test]
    fn a_partial_frame_is_no_boundary() {
        let mut decoder = Decoder::new();
        decoder.push(&[17, 0, 0, 0, 2, b'x']);
        assert_eq!(decoder.next(), Ok(None));
        assert!(!decoder.is_at_boundary());
    }
}
