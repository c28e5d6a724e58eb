//! One answer, put together of its pieces.

use serde_json::Value;

use super::error::LlmError;
use crate::http::words;

/// How much of a service's or a model's own words goes into an error.
const WORDS_LIMIT_CHARS: usize = 300;

/// What has arrived of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    text: String,
    refusal: String,
    finish_reason: Option<String>,
    /// Pieces with text: about one for each token.
    pub(super) pieces: u64,
    /// The service's count of what was sent and answered.
    pub(super) tokens: Option<(u64, u64)>,
    /// What the service says that it cost.
    pub(super) cost: Option<f64>,
}

impl Answer {
    /// Adds a piece of a stream, or a whole answer of a service that does not stream.
    pub(super) fn add(&mut self, piece: &Value) -> Result<(), LlmError> {
        // OpenRouter also has errors that concern one choice of several in that choice.
        let of_choice = || piece.pointer("/choices/0").and_then(words::of_error);
        if let Some(message) = words::of_error(piece).or_else(of_choice) {
            return Err(LlmError::Failed { message: shortened(&message) });
        }
        if let Some(usage) = piece.get("usage").filter(|usage| usage.is_object()) {
            let count = |name: &str| usage.get(name).and_then(Value::as_u64);
            self.tokens = count("prompt_tokens").zip(count("completion_tokens"));
            self.cost = usage.get("cost").and_then(Value::as_f64).filter(|cost| *cost >= 0.0);
        }
        let Some(choice) = piece.pointer("/choices/0") else { return Ok(()) };
        let said = choice.get("delta").or_else(|| choice.get("message"));
        let part = |name: &str| said.and_then(|said| said.get(name)).and_then(Value::as_str).unwrap_or("");
        self.text.push_str(part("content"));
        self.refusal.push_str(part("refusal"));
        // A model that thinks aloud sends its thoughts elsewhere; they are tokens all the same.
        if !["content", "refusal", "reasoning", "reasoning_content"].iter().all(|name| part(name).is_empty())
        {
            self.pieces += 1;
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(())
    }

    /// How long the text is.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.refusal.len()
    }

    /// Whether the model said that it is done.
    pub(super) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The text of a whole answer; `limit` is how many tokens it could have.
    pub(super) fn text(self, limit: u32) -> Result<String, LlmError> {
        if !self.refusal.trim().is_empty() {
            return Err(LlmError::Refused { message: shortened(&self.refusal) });
        }
        match self.finish_reason.as_deref() {
            None | Some("stop" | "eos") => {}
            Some("length") => return Err(LlmError::TooManyTokens { limit }),
            Some("content_filter") => return Err(LlmError::Filtered),
            Some(reason) => return Err(LlmError::CutOff { reason: shortened(reason) }),
        }
        if self.text.trim().is_empty() { Err(LlmError::NoContent) } else { Ok(self.text) }
    }
}

/// One line of at most so many characters, without control characters.
pub(super) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(WORDS_LIMIT_CHARS).collect()
}
