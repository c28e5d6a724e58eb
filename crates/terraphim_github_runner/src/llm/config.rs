//! Which service, and how much it may take.

use std::time::Duration;

use crate::http::Token;

/// A large model on a loaded machine writes a workflow in less.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// A model that must be loaded from a slow disk first says nothing for most of a minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// A workflow file of a thousand lines has about ten thousand tokens; most have five hundred.
const MAX_TOKENS: u32 = 4096;

/// Four thousand tokens are about 16 KiB; a service that sends far more ignores what it was told.
const MAX_ANSWER_BYTES: usize = 256 << 10;

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

    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        variable("OPENROUTER_API_KEY").filter(|key| !key.trim().is_empty()).map(LlmConfig::open_router)
    }

    /// Whether the service is OpenRouter, the only one that the key of `OPENROUTER_API_KEY` is for.
    #[must_use]
    pub fn is_open_router(&self) -> bool {
        let host = self.base_url.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        host.is_some_and(|host| host == "openrouter.ai")
    }
}

/// How much one use of a model may take, all its corrections together.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmLimits {
    /// The longest silence: before an answer begins, and within it.
    pub silence: Duration,
    /// The most tokens of one answer.
    pub max_tokens: u32,
    /// The most bytes of one answer.
    pub max_answer_bytes: usize,
    /// What tokens cost.
    pub price: Option<Price>,
    /// The most that all answers together may cost, in the currency of `price`. Holds only with a price.
    pub cost_limit: Option<f64>,
}

impl Default for LlmLimits {
    fn default() -> Self {
        LlmLimits {
            silence: SILENCE_LIMIT,
            max_tokens: MAX_TOKENS,
            max_answer_bytes: MAX_ANSWER_BYTES,
            price: None,
            cost_limit: None,
        }
    }
}

/// What a million tokens cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of what is sent.
    pub input: f64,
    /// Of what is answered.
    pub output: f64,
}
