//! The host's frames: the request, then standard input, signals and sizes.
//!
//! Standard input that the process does not read yet stays within the stream's window (its bytes are released when
//! written), so signals sent after it still arrive.

use std::{collections::VecDeque, os::fd::OwnedFd};

use h2::RecvStream;
use http::StatusCode;
use rustix::process::Signal;
use terraphim_vm_protocol::{
    frame::{self, Decoder, Tag},
    message::{ExecRequest, TerminalSize},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{output::write_some, spawn::set_size};
use crate::{
    body::{Refusal, release},
    tree::Tree,
    watch::watch,
};

/// Ctrl-D: what ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;

/// The host left, or sent what makes no sense; [`Input::is_malformed`] tells which.
pub(super) struct InputEnd;

/// The request body.
pub(super) struct Input {
    body: RecvStream,
    decoder: Decoder,
    is_malformed: bool,
    has_ended: bool,
}

enum Frame {
    Stdin(Vec<u8>),
    StdinEnd,
    Signal(Signal),
    Resize(TerminalSize),
}

impl Input {
    pub(super) fn new(body: RecvStream) -> Input {
        Input { body, decoder: Decoder::new(), is_malformed: false, has_ended: false }
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// The first frame.
    pub(super) async fn request(&mut self) -> Result<ExecRequest, Refusal> {
        loop {
            match self.decoder.next() {
                Ok(Some((Tag::Request, payload))) => {
                    let used = frame::HEADER + payload.len();
                    let request = serde_json::from_slice(payload).map_err(|error| {
                        Refusal::bad_request(format!("cannot understand the request: {error}"))
                    });
                    release(&mut self.body, used);
                    return request;
                }
                Ok(Some((tag, _))) => {
                    return Err(Refusal::bad_request(format!(
                        "the first frame is {tag:?} instead of Request"
                    )));
                }
                Ok(None) => {}
                Err(error) => return Err(Refusal::bad_request(error.to_string())),
            }
            match self.body.data().await {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                Some(Err(error)) => return Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
                None => return Err(Refusal::bad_request("the body ends within the request")),
            }
        }
    }

    /// The next frame; `None` when the host will send no more. Cancel safe.
    async fn next(&mut self) -> Result<Option<Frame>, InputEnd> {
        loop {
            match self.decoder.next() {
                Ok(Some((tag, payload))) => {
                    let used = frame::HEADER + payload.len();
                    let Some(frame) = understand(tag, payload) else { break };
                    if !matches!(frame, Frame::Stdin(_)) {
                        release(&mut self.body, used);
                    }
                    return Ok(Some(frame));
                }
                Ok(None) => {}
                Err(_) => break,
            }
            match self.body.data().await {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                None if self.decoder.is_at_boundary() => return Ok(None),
                None => break,
                Some(Err(_)) => return Err(InputEnd),
            }
        }
        self.is_malformed = true;
        Err(InputEnd)
    }

    /// Serves the process until the host leaves; never returns while all is well.
    pub(super) async fn control(
        &mut self,
        stdin: &mut Option<OwnedFd>,
        terminal: Option<&OwnedFd>,
        tree: &Tree,
    ) -> InputEnd {
        let mut stdin = Stdin::new(stdin.take(), terminal.is_some());
        loop {
            let frame = tokio::select! {
                frame = self.next(), if !self.has_ended => frame,
                released = stdin.write() => {
                    release(&mut self.body, released);
                    continue;
                }
            };
            match frame {
                Ok(Some(Frame::Stdin(bytes))) => stdin.queue.push_back((bytes, 0)),
                Ok(Some(Frame::StdinEnd)) => stdin.end(),
                // Whoever takes this one wants an end, of everything.
                Ok(Some(Frame::Signal(Signal::KILL))) => tree.kill(),
                Ok(Some(Frame::Signal(signal))) => {
                    // Who is asked to end leaves nothing running.
                    tree.condemn();
                    tree.signal(signal);
                }
                Ok(Some(Frame::Resize(size))) => {
                    if let Some(terminal) = terminal {
                        // A terminal whose process has ended has no size to change.
                        let _ = set_size(terminal, size);
                    }
                }
                Ok(None) => {
                    self.has_ended = true;
                    stdin.end();
                }
                Err(end) => return end,
            }
        }
    }
}

fn understand(tag: Tag, payload: &[u8]) -> Option<Frame> {
    match (tag, payload) {
        (Tag::Stdin, bytes) => Some(Frame::Stdin(bytes.to_vec())),
        (Tag::StdinEnd, []) => Some(Frame::StdinEnd),
        (Tag::Signal, [number]) => Signal::from_named_raw((*number).into()).map(Frame::Signal),
        (Tag::Resize, json) => serde_json::from_slice(json).ok().map(Frame::Resize),
        _ => None,
    }
}

/// The agent's end of standard input, and what waits to be written.
struct Stdin {
    file: Option<AsyncFd<OwnedFd>>,
    /// Frames and how much of each is written.
    queue: VecDeque<(Vec<u8>, usize)>,
    has_ended: bool,
    is_terminal: bool,
}

impl Stdin {
    fn new(file: Option<OwnedFd>, is_terminal: bool) -> Stdin {
        let file = file.and_then(|file| watch(file, Interest::WRITABLE).ok());
        Stdin { file, queue: VecDeque::new(), has_ended: false, is_terminal }
    }

    fn end(&mut self) {
        if self.is_terminal && !self.has_ended && self.file.is_some() {
            self.queue.push_back((vec![END_OF_TRANSMISSION], 0));
        }
        self.has_ended = true;
    }

    /// Writes the next piece; how many bytes of the host's window that frees. Cancel safe.
    async fn write(&mut self) -> usize {
        let Some((bytes, written)) = self.queue.front_mut() else {
            if self.has_ended {
                self.file = None;
            }
            return std::future::pending().await;
        };
        if let Some(file) = &self.file
            && *written < bytes.len()
        {
            match write_some(file, &bytes[*written..]).await {
                Ok(count) => *written += count,
                // The process has closed its input: what still comes is thrown away.
                Err(_) => self.file = None,
            }
            if self.file.is_some() && *written < bytes.len() {
                return 0;
            }
        }
        let (bytes, _) = self.queue.pop_front().unwrap_or_default();
        let is_own = self.is_terminal && self.has_ended && self.queue.is_empty();
        if is_own { 0 } else { frame::HEADER + bytes.len() }
    }
}
