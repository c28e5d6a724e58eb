//! A question, its answer, and the corrections.

use std::fmt::Display;

use serde_json::{Value, json};

use super::answer::Answer;
use super::client::LlmClient;
use super::error::LlmError;
use super::{Progress, Usage};
use crate::http::HttpError;

/// How often errors are sent back. Who does not get it right by then does not get it right.
pub const CORRECTIONS: u32 = 3;

/// An answer of fewer tokens is no proposal, so money for fewer buys nothing.
const LEAST_TOKENS: u32 = 64;

/// A long list of errors says no more than its beginning.
const PROBLEM_LIMIT_BYTES: usize = 4 << 10;

/// English has about four bytes for a token; code and other languages have less.
const BYTES_PER_TOKEN: u64 = 3;

/// What a model is asked for.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) instruction: String,
    pub(crate) question: String,
    /// The name of the schema, and the schema.
    pub(crate) form: (&'static str, Value),
}

/// Parameters that not every service takes. Each is left out once a service refuses it by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    ResponseFormat,
    StreamOptions,
    Temperature,
    MaxTokens,
}

impl Parameter {
    const ALL: [Parameter; 4] =
        [Parameter::ResponseFormat, Parameter::StreamOptions, Parameter::Temperature, Parameter::MaxTokens];

    fn name(self) -> &'static str {
        match self {
            Parameter::ResponseFormat => "response_format",
            Parameter::StreamOptions => "stream_options",
            Parameter::Temperature => "temperature",
            Parameter::MaxTokens => "max_tokens",
        }
    }

    fn note(self) -> &'static str {
        match self {
            Parameter::ResponseFormat => {
                "the service does not take `response_format`: the form of the answer is only asked for in words"
            }
            Parameter::StreamOptions => "the service does not take `stream_options`: tokens are estimated",
            Parameter::Temperature => {
                "the service does not take `temperature`: answers differ from time to time"
            }
            Parameter::MaxTokens => {
                "the service does not take `max_tokens`, and is told `max_completion_tokens`"
            }
        }
    }
}

/// What was said so far.
#[derive(Debug)]
pub(crate) struct Conversation<'a> {
    client: &'a LlmClient,
    task: Task,
    /// After the question: answers and corrections in turn.
    messages: Vec<Value>,
    refused: Vec<Parameter>,
    usage: Usage,
}

/// A proposal that passed its check, and what it took.
#[derive(Debug)]
pub(crate) struct Proposed<T> {
    pub(crate) proposal: T,
    pub(crate) usage: Usage,
    pub(crate) notes: Vec<String>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(client: &'a LlmClient, task: Task) -> Self {
        Conversation { client, task, messages: Vec::new(), refused: Vec::new(), usage: Usage::default() }
    }

    /// Asks until `read` takes the answer, at most once and [`CORRECTIONS`] times more; then the last error is it.
    pub(crate) async fn propose<T, E: Problem>(
        mut self,
        mut read: impl FnMut(&str) -> Result<T, E>,
        progress: Progress<'_>,
    ) -> Result<Proposed<T>, E> {
        let mut corrections = 0;
        loop {
            let text = self.ask(progress).await?;
            match read(&text) {
                Ok(proposal) => {
                    let notes = self.refused.iter().map(|one| one.note().to_owned()).collect();
                    return Ok(Proposed { proposal, usage: self.usage, notes });
                }
                Err(error) if corrections < CORRECTIONS => {
                    corrections += 1;
                    self.correct(&text, &error.told());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn correct(&mut self, answer: &str, problem: &str) {
        let masker = &self.client.masker;
        self.messages.push(message("assistant", &masker.mask(answer)));
        // Before the cut: half a secret is not recognised.
        let problem = masker.mask(problem);
        let problem = &problem[..problem.floor_char_boundary(PROBLEM_LIMIT_BYTES)];
        let text = format!(
            "That was not accepted:\n{problem}\nAnswer again, the whole of it, without these errors."
        );
        self.messages.push(message("user", &text));
    }

    /// Asks, without the parameters that the service refuses.
    async fn ask(&mut self, progress: Progress<'_>) -> Result<String, LlmError> {
        loop {
            let (body, limit) = self.body()?;
            match self.client.ask(&body, progress).await {
                Ok(answer) => {
                    self.count(&body, &answer);
                    return answer.text(limit);
                }
                Err(LlmError::Service(error)) => match self.refused_by(&error) {
                    Some(parameter) => self.refused.push(parameter),
                    None => return Err(LlmError::Service(error)),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// The parameter that the service does not take, if it was sent.
    fn refused_by(&self, error: &HttpError) -> Option<Parameter> {
        let HttpError::Status { status, message, .. } = error else { return None };
        // OpenAI: 400; services that check bodies by a schema of their own: 422.
        let is_refusal = matches!(status.as_u16(), 400 | 422);
        let names = |one: &Parameter| !self.refused.contains(one) && message.contains(one.name());
        Parameter::ALL.into_iter().find(|one| is_refusal && names(one))
    }

    /// The request, and how many tokens its answer may have.
    fn body(&self) -> Result<(Value, u32), LlmError> {
        let takes = |one| !self.refused.contains(&one);
        let (name, schema) = &self.task.form;
        let mut instruction = self.task.instruction.clone();
        if !takes(Parameter::ResponseFormat) {
            instruction.push_str(&format!("\nThe JSON schema of the answer: {schema}"));
        }
        let masker = &self.client.masker;
        let mut messages = vec![
            message("system", &masker.mask(&instruction)),
            message("user", &masker.mask(&self.task.question)),
        ];
        messages.extend(self.messages.iter().cloned());
        let limit = self.affordable(&messages)?;
        let mut body = json!({ "model": self.client.model, "messages": messages, "stream": true });
        if takes(Parameter::StreamOptions) {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if takes(Parameter::Temperature) {
            body["temperature"] = json!(0);
        }
        let max_tokens = if takes(Parameter::MaxTokens) { "max_tokens" } else { "max_completion_tokens" };
        body[max_tokens] = json!(limit);
        if takes(Parameter::ResponseFormat) {
            body["response_format"] = json!({
                "type": "json_schema",
                "json_schema": { "name": name, "strict": true, "schema": schema },
            });
        }
        Ok((body, limit))
    }

    /// As many tokens as are allowed and can be paid for.
    fn affordable(&self, messages: &[Value]) -> Result<u32, LlmError> {
        let limits = &self.client.limits;
        let Some((price, limit)) = limits.price.zip(limits.cost_limit) else { return Ok(limits.max_tokens) };
        let spent = self.usage.cost.unwrap_or(0.0);
        let affords = price.affords(limit - spent, estimate(messages)).unwrap_or(limits.max_tokens);
        if affords < LEAST_TOKENS.min(limits.max_tokens) {
            return Err(LlmError::Cost { spent, limit });
        }
        Ok(affords.min(limits.max_tokens))
    }

    fn count(&mut self, body: &Value, answer: &Answer) {
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let (prompt, completion) = answer.tokens.unwrap_or_else(|| (estimate(messages), answer.pieces));
        self.usage.add(prompt, completion, answer.cost, self.client.limits.price);
    }
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn estimate(messages: &[Value]) -> u64 {
    let bytes =
        messages.iter().filter_map(|message| message["content"].as_str()).map(str::len).sum::<usize>();
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN)
}

/// What is wrong with a proposal, in words that help to correct it.
pub(crate) trait Problem: Display + From<LlmError> {
    /// All that is wrong.
    fn told(&self) -> String;
}
