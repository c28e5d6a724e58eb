//! An answer that arrives piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;

use super::client::{Call, HttpClient, message, retry_after};
use super::error::HttpError;

/// A refusal is a few sentences; more of it is not read.
const REFUSAL_LIMIT_BYTES: usize = 64 << 10;

/// An answer whose head has arrived.
#[derive(Debug)]
pub(crate) struct Streamed {
    url: String,
    body: Incoming,
    silence: Duration,
    /// The answer is server-sent events, and not one JSON value.
    pub(crate) is_events: bool,
}

impl HttpClient {
    /// Makes one call and returns its answer while it arrives. Here `call.limit` is the longest silence: before the
    /// head, and between two pieces.
    pub(crate) async fn stream(
        &self,
        call: &Call<'_>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Streamed, HttpError> {
        let url = format!("{}{}", self.base(), call.path);
        let mut request: Request<Full<Bytes>> = self.request(call, &url)?;
        let both = HeaderValue::from_static("text/event-stream, application/json");
        request.headers_mut().insert(ACCEPT, both);
        request.headers_mut().extend(headers.iter().cloned());
        let silence = call.limit;
        let response = tokio::time::timeout(silence, self.send(request, &url)).await;
        let response = response.map_err(|_| HttpError::TimedOut { url: url.clone(), after: silence })??;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_events = kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"));
        let mut streamed = Streamed { url, body: response.into_body(), silence, is_events };
        if status.is_success() {
            return Ok(streamed);
        }
        let message = message(&streamed.refusal().await);
        Err(HttpError::Status { url: streamed.url, status, message, retry_after })
    }
}

impl Streamed {
    /// The next piece; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = tokio::time::timeout(self.silence, self.body.frame()).await;
            match frame.map_err(|_| HttpError::TimedOut { url: self.url.clone(), after: self.silence })? {
                None => return Ok(None),
                Some(Err(source)) => {
                    return Err(HttpError::Broken { url: self.url.clone(), source: source.into() });
                }
                Some(Ok(frame)) => {
                    // Trailers say nothing here.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The JSON of a text that is a part of this answer.
    pub(crate) fn json(&self, text: &[u8]) -> Result<Value, HttpError> {
        serde_json::from_slice(text)
            .map_err(|source| HttpError::Malformed { url: self.url.clone(), source: source.into() })
    }

    /// The words of a refusal, as far as they arrive.
    async fn refusal(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < REFUSAL_LIMIT_BYTES {
            match self.piece().await {
                Ok(Some(piece)) => text.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        text
    }
}
