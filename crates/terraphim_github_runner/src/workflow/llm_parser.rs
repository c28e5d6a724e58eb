//! From a description to a [`ParsedWorkflow`]: by fixed patterns, or by a language model whose proposal is
//! checked.
//!
//! With a language model configured, the model answers or the parser fails; it never falls back to patterns,
//! as nobody would notice the difference.

use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use super::file;
use super::parser::ParsedWorkflow;
use super::patterns;
use super::proposal::{self, ProposalProblem};
use crate::engine::InvalidWorkflow;
use crate::error::Result;
use crate::http::{Backoff, Call, HttpClient, HttpError, Method, Token};

/// A workflow file or a page of prose is far shorter; more is not a description.
const DESCRIPTION_LIMIT_BYTES: usize = 256 << 10;

/// A large model on a loaded machine writes a workflow in less.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// OpenRouter chooses a model that is up.
const OPEN_ROUTER_MODEL: &str = "openrouter/auto";

/// A service with OpenAI's chat API: OpenRouter, Ollama, llama.cpp, vLLM and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmConfig {
    /// Up to and including `/v1`.
    pub base_url: String,
    /// The key, if the service wants one.
    pub api_key: Option<Token>,
    /// The model, by the service's name for it.
    pub model: String,
    /// How long to wait for the whole answer.
    pub timeout: Duration,
}

impl LlmConfig {
    /// A service at `base_url`, without a key.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        LlmConfig { base_url: base_url.into(), api_key: None, model: model.into(), timeout: ANSWER_LIMIT }
    }

    /// OpenRouter, which chooses the model.
    pub fn open_router(api_key: impl Into<String>) -> Self {
        let config = LlmConfig::new("https://openrouter.ai/api/v1", OPEN_ROUTER_MODEL);
        LlmConfig { api_key: Some(Token::new(api_key)), ..config }
    }

    /// Ollama at `url` (`http://127.0.0.1:11434`), through its OpenAI-compatible API.
    pub fn ollama(url: &str, model: impl Into<String>) -> Self {
        LlmConfig::new(format!("{}/v1", url.trim_end_matches('/')), model)
    }

    /// OpenRouter, when `OPENROUTER_API_KEY` is set.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        LlmConfig::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        variable("OPENROUTER_API_KEY").filter(|key| !key.trim().is_empty()).map(LlmConfig::open_router)
    }
}

/// Why a description did not become a workflow.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LlmError {
    /// There is nothing to parse, or far too much.
    #[error("a description has between 1 and {limit_bytes} bytes, this one has {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
        /// The longest accepted.
        limit_bytes: usize,
    },
    /// No pattern says what a part of the description means, and no language model is configured.
    #[error(
        "no pattern says what {sentence:?} means; put commands in `backticks`, or set OPENROUTER_API_KEY to have a \
         language model read the description"
    )]
    NotUnderstood {
        /// The part.
        sentence: String,
    },
    /// The description is a workflow file with an error, or with more in it than a list of commands can say.
    #[error(transparent)]
    File(#[from] InvalidWorkflow),
    /// The description names no command.
    #[error("the description names nothing to run")]
    NoSteps,
    /// The service did not answer, or not as its API says.
    #[error("the language model did not answer")]
    Service(#[source] HttpError),
    /// The model stopped in the middle.
    #[error("the language model's answer is cut off ({reason})")]
    CutOff {
        /// The service's `finish_reason`.
        reason: String,
    },
    /// The answer has no text.
    #[error("the language model's answer has no content")]
    NoContent,
    /// What the model proposes cannot be a workflow.
    #[error("the language model's proposal is not a workflow")]
    Proposal(#[from] ProposalProblem),
}

/// Makes workflows of descriptions.
#[derive(Clone, Debug, Default)]
pub struct WorkflowParser {
    llm: Option<Llm>,
}

#[derive(Clone, Debug)]
struct Llm {
    client: HttpClient,
    model: String,
    timeout: Duration,
    backoff: Backoff,
}

impl WorkflowParser {
    /// A parser that knows fixed patterns only: the same description always gives the same workflow.
    #[must_use]
    pub fn new() -> Self {
        WorkflowParser::default()
    }

    /// A parser that asks a language model.
    #[must_use]
    pub fn with_llm(config: LlmConfig) -> Self {
        let client = HttpClient::new(config.base_url, config.api_key);
        let (model, timeout) = (config.model, config.timeout);
        WorkflowParser { llm: Some(Llm { client, model, timeout, backoff: Backoff::default() }) }
    }

    /// A parser that asks OpenRouter when `OPENROUTER_API_KEY` is set, and knows fixed patterns otherwise.
    #[must_use]
    pub fn from_env() -> Self {
        LlmConfig::from_env().map_or_else(WorkflowParser::new, WorkflowParser::with_llm)
    }

    /// Makes a workflow of a description in words, or of a GitHub workflow file.
    ///
    /// The workflow was checked and can be executed. Nothing was executed.
    ///
    /// # Errors
    /// When the description is not understood, the language model fails, or what it proposes is no valid
    /// workflow.
    pub async fn parse(&self, description: &str) -> Result<ParsedWorkflow> {
        let bytes = description.len();
        if description.trim().is_empty() || bytes > DESCRIPTION_LIMIT_BYTES {
            return Err(LlmError::Length { bytes, limit_bytes: DESCRIPTION_LIMIT_BYTES }.into());
        }
        let workflow = match &self.llm {
            Some(llm) => proposal::read(&llm.ask(description).await?).map_err(LlmError::from)?,
            None if file::is_workflow_file(description) => {
                file::parse(description).map_err(LlmError::from)?
            }
            None => patterns::parse(description)?,
        };
        workflow.check()?;
        Ok(workflow)
    }
}

impl Llm {
    async fn ask(&self, description: &str) -> Result<String, LlmError> {
        let body = json!({
            "model": self.model,
            "temperature": 0,
            "messages": [
                { "role": "system", "content": proposal::INSTRUCTION },
                { "role": "user", "content": description },
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": { "name": "workflow", "strict": true, "schema": proposal::schema() },
            },
        });
        let call =
            Call { method: Method::POST, path: "/chat/completions", body: Some(&body), limit: self.timeout };
        // Asking twice has no effect but its price.
        let asked = self.backoff.run(HttpError::is_transient, || self.client.json(&call)).await;
        content(&asked.map_err(LlmError::Service)?)
    }
}

fn content(answer: &Value) -> Result<String, LlmError> {
    let choice = answer.pointer("/choices/0").ok_or(LlmError::NoContent)?;
    match choice.get("finish_reason").and_then(Value::as_str) {
        None | Some("stop") => {}
        Some(reason) => return Err(LlmError::CutOff { reason: reason.to_owned() }),
    }
    let text = choice.pointer("/message/content").and_then(Value::as_str).unwrap_or("");
    if text.trim().is_empty() { Err(LlmError::NoContent) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
#[path = "llm_parser_tests.rs"]
mod tests;
