//! One question, one answer.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use terraphim_actions::mask::Masker;

use super::answer::Answer;
use super::config::{LlmConfig, LlmLimits};
use super::error::LlmError;
use super::sse::SseReader;
use super::{Progress, secrets_of};
use crate::http::{Backoff, Call, HttpClient, HttpError, Method, Streamed};

/// Rides out a full queue (a few seconds), and no more: somebody waits.
const BACKOFF: Backoff = Backoff {
    attempts: 4,
    first_pause: Duration::from_millis(500),
    // `Retry-After` is obeyed up to this.
    longest_pause: Duration::from_secs(20),
};

/// A client of one service.
#[derive(Clone, Debug)]
pub struct LlmClient {
    http: HttpClient,
    pub(super) model: String,
    pub(super) limits: LlmLimits,
    timeout: Duration,
    pub(super) backoff: Backoff,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) masker: Masker,
}

impl LlmClient {
    /// A client. No text that it sends holds a secret of `masker`, nor the service's own key.
    pub fn new(config: LlmConfig, limits: LlmLimits, mut masker: Masker) -> Self {
        // OpenRouter shows its users which program asked, by this header.
        let title = (HeaderName::from_static("x-title"), HeaderValue::from_static("Terraphim CI"));
        let headers = if config.is_open_router() { vec![title] } else { Vec::new() };
        // A key of a few letters protects nothing, and masking it would change every word.
        if let Some(key) = config.api_key.as_ref().map(|key| key.reveal()).filter(|key| key.trim().len() >= 6)
        {
            masker.add(key).expect("a key is short enough to search for, and not empty");
        }
        LlmClient {
            http: HttpClient::new(config.base_url, config.api_key),
            model: config.model,
            timeout: config.timeout,
            backoff: BACKOFF,
            limits,
            headers,
            masker,
        }
    }

    /// A client with the usual limits that hides the secrets of this process's environment.
    ///
    /// # Panics
    /// Never: an environment (2 MiB at most, execve(2)) can be searched for.
    #[must_use]
    pub fn with_environment(config: LlmConfig) -> Self {
        let masker =
            secrets_of(std::env::vars_os(), []).expect("an environment is small enough to search for");
        LlmClient::new(config, LlmLimits::default(), masker)
    }

    /// The model, by the service's name for it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Asks; tries again as long as no answer has begun.
    pub(super) async fn ask(&self, body: &Value, progress: Progress<'_>) -> Result<Answer, LlmError> {
        match tokio::time::timeout(self.timeout, self.exchange(body, progress)).await {
            Ok(result) => result,
            Err(_) => Err(LlmError::TimedOut { after: self.timeout }),
        }
    }

    async fn exchange(&self, body: &Value, progress: Progress<'_>) -> Result<Answer, LlmError> {
        let call = Call {
            method: Method::POST,
            path: "/chat/completions",
            body: Some(body),
            limit: self.limits.silence,
        };
        // Asking twice has no effect but its price.
        let asked = self.backoff.run(may_go_better, || self.http.stream(&call, &self.headers)).await;
        self.read(asked.map_err(LlmError::Service)?, progress).await
    }

    async fn read(&self, mut stream: Streamed, progress: Progress<'_>) -> Result<Answer, LlmError> {
        if !stream.is_events {
            return self.read_whole(stream).await;
        }
        let (mut reader, mut answer, mut bytes) = (SseReader::default(), Answer::default(), 0);
        let limit_bytes = self.limits.max_answer_bytes;
        loop {
            let Some(piece) = stream.piece().await.map_err(broken)? else {
                return if answer.is_finished() { Ok(answer) } else { Err(LlmError::Truncated) };
            };
            let events = reader.read(&piece).map_err(|_| LlmError::TooLong { limit_bytes })?;
            for event in events {
                if event == b"[DONE]" {
                    return Ok(answer);
                }
                bytes += event.len();
                answer.add(&stream.json(&event).map_err(LlmError::Service)?)?;
                self.bound(&answer, bytes)?;
                progress(answer.pieces);
            }
        }
    }

    /// A service may ignore what it was told, and a model may never stop. The JSON around a token is a few hundred bytes.
    fn bound(&self, answer: &Answer, bytes: usize) -> Result<(), LlmError> {
        let (limit, limit_bytes) = (self.limits.max_tokens, self.limits.max_answer_bytes);
        if answer.pieces > u64::from(limit) {
            return Err(LlmError::TooManyTokens { limit });
        }
        if answer.bytes() > limit_bytes || bytes > limit_bytes.saturating_mul(64) {
            return Err(LlmError::TooLong { limit_bytes });
        }
        Ok(())
    }

    /// The answer of a service that does not stream.
    async fn read_whole(&self, mut stream: Streamed) -> Result<Answer, LlmError> {
        let (mut text, limit_bytes) = (Vec::new(), self.limits.max_answer_bytes);
        while let Some(piece) = stream.piece().await.map_err(broken)? {
            text.extend_from_slice(&piece);
            if text.len() > limit_bytes {
                return Err(LlmError::TooLong { limit_bytes });
            }
        }
        let mut answer = Answer::default();
        answer.add(&stream.json(&text).map_err(LlmError::Service)?)?;
        Ok(answer)
    }
}

/// Nothing was answered yet, and the cause may pass. Silence is none: it has taken its time already.
fn may_go_better(error: &HttpError) -> bool {
    let is_servers = error.status().is_some_and(|status| status.is_server_error());
    is_servers || (error.is_transient() && !matches!(error, HttpError::TimedOut { .. }))
}

fn broken(error: HttpError) -> LlmError {
    LlmError::Broken(error)
}
