//! The two halves of an execution.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::sync::Mutex as AsyncMutex;

use super::{AgentError, client::next_chunk};
use crate::protocol::{
    frame::{self, MAX_PAYLOAD, Tag},
    message::TerminalSize,
};

/// Standard input goes in frames of this size, so that a signal never waits long behind one.
const STDIN_FRAME: usize = 32 * 1024;
/// Window that standard input leaves free: signals and sizes get through also when the process does not read.
const CONTROL_RESERVE: usize = 16 * 1024;

/// The request's body.
#[derive(Debug)]
pub(super) struct Sender {
    // Std mutex: taken for the moment of a poll or a send.
    stream: Mutex<SendStream<Bytes>>,
    /// Whoever waits for room holds this: a stream wakes only one.
    turn: AsyncMutex<()>,
}

impl Sender {
    pub(super) fn new(stream: SendStream<Bytes>) -> Sender {
        Sender { stream: Mutex::new(stream), turn: AsyncMutex::new(()) }
    }

    /// Sends the first frame; a request is always accepted whole.
    pub(super) fn request(&self, json: &[u8]) -> Result<(), AgentError> {
        if json.len() > MAX_PAYLOAD {
            return Err(AgentError::Refused {
                call: "exec",
                status: 413,
                message: format!("the request has {} bytes, at most {MAX_PAYLOAD} are possible", json.len()),
            });
        }
        self.frame(Tag::Request, json)
    }

    fn frame(&self, tag: Tag, payload: &[u8]) -> Result<(), AgentError> {
        let mut bytes = Vec::with_capacity(frame::HEADER + payload.len());
        frame::encode(tag, payload, &mut bytes);
        self.lock().send_data(Bytes::from(bytes), false).map_err(|_| AgentError::InputClosed)
    }

    async fn stdin(&self, bytes: &[u8]) -> Result<(), AgentError> {
        let _turn = self.turn.lock().await;
        for piece in bytes.chunks(STDIN_FRAME) {
            let wanted = piece.len() + frame::HEADER + CONTROL_RESERVE;
            poll_fn(|context| {
                let mut stream = self.lock();
                stream.reserve_capacity(wanted);
                while stream.capacity() < wanted {
                    match stream.poll_capacity(context) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(AgentError::InputClosed)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Poll::Ready(Ok(()))
            })
            .await?;
            self.frame(Tag::Stdin, piece)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, SendStream<Bytes>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frames that a process causes, as they arrive. Dropping it before the last one kills the process's whole tree.
#[derive(Debug)]
pub struct AgentExec {
    body: RecvStream,
    sender: Arc<Sender>,
    has_ended: bool,
}

impl AgentExec {
    pub(super) fn new(body: RecvStream, sender: Arc<Sender>) -> AgentExec {
        AgentExec { body, sender, has_ended: false }
    }

    /// The next encoded bytes, cut anywhere; `None` after the last.
    ///
    /// # Errors
    /// The connection breaks.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, AgentError> {
        let chunk = next_chunk("exec", &mut self.body).await;
        self.has_ended = !matches!(chunk, Ok(Some(_)));
        chunk
    }
}

impl Drop for AgentExec {
    fn drop(&mut self) {
        // After the last frame the agent closes the other half of the stream. To do it from here too would interrupt an
        // emulated guest for half a millisecond, just when it is to get the next request.
        if !self.has_ended {
            self.sender.lock().send_reset(Reason::CANCEL);
        }
    }
}

/// What can be sent to a process.
#[derive(Clone, Debug)]
pub struct AgentInput {
    sender: Arc<Sender>,
}

impl AgentInput {
    pub(super) fn new(sender: Arc<Sender>) -> AgentInput {
        AgentInput { sender }
    }

    /// Appends to standard input; waits while the process does not read.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn write_stdin(&self, bytes: Bytes) -> Result<(), AgentError> {
        self.sender.stdin(&bytes).await
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn close_stdin(&self) -> Result<(), AgentError> {
        let _turn = self.sender.turn.lock().await;
        self.sender.frame(Tag::StdinEnd, &[])
    }

    /// Sends a signal to the process group, without waiting for standard input.
    ///
    /// # Errors
    /// The process has ended, or there is no such signal.
    pub async fn signal(&self, signal: i32) -> Result<(), AgentError> {
        let number = u8::try_from(signal).map_err(|_| AgentError::Refused {
            call: "signal",
            status: 400,
            message: format!("there is no signal {signal}"),
        })?;
        self.sender.frame(Tag::Signal, &[number])
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), AgentError> {
        let json = serde_json::to_vec(&size).expect("plain data is JSON");
        self.sender.frame(Tag::Resize, &json)
    }
}

/// Sends one chunk as fast as the other side takes it; false when it takes no more.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut chunk: Bytes) -> bool {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len());
        // Told only of changes: what is there already has to be asked for.
        let mut room = stream.capacity();
        while room == 0 {
            match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(more)) => room = more,
                _ => return false,
            }
        }
        let piece = chunk.split_to(room.min(chunk.len()));
        if stream.send_data(piece, false).is_err() {
            return false;
        }
    }
    true
}
