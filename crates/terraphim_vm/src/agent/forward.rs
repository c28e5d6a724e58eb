//! Connections from processes of the guest.

use std::io;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{AgentError, client::next_chunk, exec::send};
use crate::protocol::message::{ForwardAccepted, ForwardListening};

/// An announcement has some 30 bytes; an agent that sends longer lines is no agent.
const LINE_LIMIT: usize = 4096;
/// Read at once from the host's side of a connection: one frame of the guest.
const CHUNK: usize = 256 * 1024;

/// A port in the guest. Dropping it closes the port and every connection to it that was not taken up.
#[derive(Debug)]
pub struct AgentForward {
    lines: Lines,
    port: u16,
}

impl AgentForward {
    pub(super) async fn begin(body: RecvStream) -> Result<AgentForward, AgentError> {
        let mut forward = AgentForward { lines: Lines { body, buffer: Vec::new() }, port: 0 };
        let listening: Option<ForwardListening> = forward.lines.next().await?;
        forward.port = listening.ok_or_else(nothing)?.port;
        Ok(forward)
    }

    /// The port on 127.0.0.1 of the guest.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection, to be taken up with [`AgentClient::forwarded`](super::AgentClient::forwarded).
    ///
    /// # Errors
    /// The port is closed: the guest is gone or cannot accept connections any more.
    ///
    /// # Cancel safety
    /// No announcement is lost.
    pub async fn accepted(&mut self) -> Result<ForwardAccepted, AgentError> {
        self.lines.next().await?.ok_or_else(nothing)
    }
}

/// The agent ends an announcement stream only by breaking it.
fn nothing() -> AgentError {
    AgentError::Broken { call: "forward", source: h2::Error::from(Reason::INTERNAL_ERROR) }
}

#[derive(Debug)]
struct Lines {
    body: RecvStream,
    buffer: Vec<u8>,
}

impl Lines {
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, AgentError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let understood = serde_json::from_slice(&line);
                return understood.map(Some).map_err(|source| AgentError::Answer { call: "forward", source });
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(nothing());
            }
            match next_chunk("forward", &mut self.body).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// One connection of a process in the guest. Dropping it breaks the connection off.
#[derive(Debug)]
pub struct AgentConnection {
    receiver: RecvStream,
    sender: SendStream<Bytes>,
}

impl AgentConnection {
    pub(super) fn new(receiver: RecvStream, sender: SendStream<Bytes>) -> AgentConnection {
        AgentConnection { receiver, sender }
    }

    /// Carries bytes in both directions until both have ended, no faster than either side takes them.
    ///
    /// # Errors
    /// One side broke off; the other is broken off, too, as soon as `stream` is dropped.
    pub async fn relay(mut self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let AgentConnection { receiver, sender } = &mut self;
        let to_guest = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(CHUNK);
                if reader.read_buf(&mut buffer).await? == 0 {
                    return sender.send_data(Bytes::new(), true).map_err(io::Error::other);
                }
                if !send(sender, buffer.split().freeze()).await {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        };
        let to_host = async {
            while let Some(chunk) = next_chunk("forwarded", receiver).await.map_err(io::Error::other)? {
                writer.write_all(&chunk).await?;
            }
            writer.shutdown().await
        };
        // A stream that is dropped before both its directions have ended is cancelled by that.
        tokio::try_join!(to_guest, to_host).map(drop)
    }
}
