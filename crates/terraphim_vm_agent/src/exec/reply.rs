//! The answer to a call, whose beginning waits for what follows it.
//!
//! Each message interrupts the host and costs an emulated guest as much as a dozen system calls, and most processes of a
//! job end within milliseconds: the head, `Started`, the output and `Exited` of those are one message.

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::Response;
use serde::Serialize;
use terraphim_vm_protocol::frame::{self, Tag};

use crate::body::{BodyWriter, Gone, json_frame};

/// An answer.
pub(super) struct Reply {
    state: State,
    /// Frames that are not yet sent: each piece of a body costs an emulated guest as much as some system calls.
    held: Vec<u8>,
}

enum State {
    Unsent(SendResponse<Bytes>),
    Sent(BodyWriter),
    Gone,
}

impl Reply {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Reply {
        Reply { state: State::Unsent(respond), held: Vec::new() }
    }

    /// Keeps a frame until there is more to send.
    pub(super) fn hold_json(&mut self, tag: Tag, message: &impl Serialize) {
        self.held.extend_from_slice(&json_frame(tag, message));
    }

    /// The same for one that is no JSON.
    pub(super) fn hold(&mut self, tag: Tag, payload: &[u8]) {
        frame::encode(tag, payload, &mut self.held);
    }

    /// Bytes that wait to be sent.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Sends the head and what was kept; then the body can be written.
    pub(super) async fn writer(&mut self) -> Result<&mut BodyWriter, Gone> {
        let held = std::mem::take(&mut self.held);
        let writer = self.begun()?;
        writer.send(held.into()).await?;
        Ok(writer)
    }

    /// Sends the head.
    fn begun(&mut self) -> Result<&mut BodyWriter, Gone> {
        if matches!(self.state, State::Unsent(_))
            && let State::Unsent(mut respond) = std::mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Sent(BodyWriter::new(respond.send_response(Response::new(()), false)?));
        }
        let State::Sent(writer) = &mut self.state else { return Err(Gone) };
        Ok(writer)
    }

    /// Sends everything and the last frame. A host that left does not get it.
    pub(super) async fn finish(mut self, tag: Tag, message: &impl Serialize) {
        self.hold_json(tag, message);
        if self.begun().is_ok()
            && let State::Sent(writer) = self.state
        {
            let _ = writer.send_last(self.held.into()).await;
        }
    }

    /// Returns when the host cancelled the call or left.
    pub(super) async fn cancelled(&mut self) {
        match &mut self.state {
            State::Unsent(respond) => {
                let _ = std::future::poll_fn(|ctx| respond.poll_reset(ctx)).await;
            }
            State::Sent(writer) => writer.cancelled().await,
            State::Gone => {}
        }
    }

    /// The answer cannot be completed.
    pub(super) fn abort(self, reason: Reason) {
        match self.state {
            State::Unsent(mut respond) => respond.send_reset(reason),
            State::Sent(writer) => writer.abort(reason),
            State::Gone => {}
        }
    }
}
