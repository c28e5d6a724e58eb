//! Bodies of calls: bounded reading, and writing no faster than the host takes it.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use terraphim_vm_protocol::{
    call,
    frame::{self, Tag},
};

/// The longest JSON body that is read.
const JSON_MAX: usize = 1 << 20;

/// A call that failed before its answer began.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

/// The host is no longer interested in this stream, or no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Gone {
        Gone
    }
}

/// Reads a whole JSON body.
pub(crate) async fn read_json<T: DeserializeOwned>(body: &mut RecvStream) -> Result<T, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| Refusal::bad_request(format!("cannot read the body: {error}")))?;
        release(body, chunk.len());
        if bytes.len() + chunk.len() > JSON_MAX {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad_request(format!("cannot understand the body: {error}")))
}

/// Lets the host send `count` more bytes.
pub(crate) fn release(body: &mut RecvStream, count: usize) {
    // Fails only for more than was received, which no caller does, and then the stream is closed anyway.
    let _ = body.flow_control().release_capacity(count);
}

/// Sends a whole answer. A host that left does not get it.
pub(crate) async fn answer(mut respond: SendResponse<Bytes>, status: StatusCode, body: Vec<u8>) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let Ok(stream) = respond.send_response(response, body.is_empty()) else { return };
    if !body.is_empty() {
        // The host may have left meanwhile.
        let _ = BodyWriter::new(stream).send_last(body.into()).await;
    }
}

/// The body of an answer as it is made.
pub(crate) struct BodyWriter {
    stream: SendStream<Bytes>,
}

impl BodyWriter {
    pub(crate) fn new(stream: SendStream<Bytes>) -> BodyWriter {
        BodyWriter { stream }
    }

    /// Queues all of `data`, waiting for the host as long as it takes. Not cancel safe.
    pub(crate) async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let mut room = self.stream.capacity();
            while room == 0 {
                room = poll_fn(|ctx| self.stream.poll_capacity(ctx)).await.ok_or(Gone)??;
            }
            let piece = data.split_to(room.min(data.len()));
            self.stream.send_data(piece, false)?;
        }
        Ok(())
    }

    /// Queues all of `data` as the end of the body.
    pub(crate) async fn send_last(mut self, data: Bytes) -> Result<(), Gone> {
        // A body of less than a window goes in one piece with its end.
        self.stream.reserve_capacity(data.len());
        if self.stream.capacity() >= data.len() {
            return Ok(self.stream.send_data(data, true)?);
        }
        self.send(data).await?;
        self.finish();
        Ok(())
    }

    /// Queues one frame.
    pub(crate) async fn send_frame(&mut self, tag: Tag, payload: &[u8]) -> Result<(), Gone> {
        let mut bytes = Vec::with_capacity(frame::HEADER + payload.len());
        frame::encode(tag, payload, &mut bytes);
        self.send(bytes.into()).await
    }

    /// Returns when the host cancelled the call or left.
    pub(crate) async fn cancelled(&mut self) {
        let _ = poll_fn(|ctx| self.stream.poll_reset(ctx)).await;
    }

    /// The body is complete.
    pub(crate) fn finish(mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
    }

    /// The body cannot be completed, and the host takes a trailer that says why.
    pub(crate) fn break_off(mut self, why: &str) {
        let why: String = why.chars().take(call::BROKEN_OFF_MAX).collect();
        let value = HeaderValue::try_from(call::encode(&why)).expect("percent-encoded text is ASCII");
        let trailers = HeaderMap::from_iter([(HeaderName::from_static(call::BROKEN_OFF), value)]);
        // A host that left does not want to know it.
        let _ = self.stream.send_trailers(trailers);
    }

    /// The body cannot be completed.
    pub(crate) fn abort(mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

/// One frame of JSON.
pub(crate) fn json_frame(tag: Tag, message: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(message).expect("messages have string keys and finite numbers");
    let mut bytes = Vec::with_capacity(frame::HEADER + json.len());
    frame::encode(tag, &json, &mut bytes);
    bytes.into()
}
