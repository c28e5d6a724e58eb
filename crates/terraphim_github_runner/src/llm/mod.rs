//! Language models: any service with OpenAI's chat API (OpenRouter, Ollama, llama.cpp, vLLM).
//!
//! ```text
//! request (workflow, fix) -> Conversation -> LlmClient -> server
//!    ^   checker's errors        |  ^          masks every text, bounds time, tokens, bytes, money
//!    '---------------------------'  '-- sse -> answer (pieces become one text)
//! ```
//!
//! What comes from a repository or a log is data between two marks that it cannot know (`prompt`). What comes back
//! is a proposal: it passes the checker, with at most three corrections (`conversation`), or it is an error. Nothing
//! here runs anything. To add a use: a file like [`workflow`] with an instruction, a schema and a check.

mod answer;
mod client;
mod config;
mod conversation;
mod error;
pub mod fix;
mod prompt;
mod secrets;
#[cfg(test)]
mod services_tests;
mod sse;
#[cfg(test)]
mod tests;
mod usage;
pub mod workflow;

pub use client::LlmClient;
pub use config::{LlmConfig, LlmLimits, Price};
pub use conversation::CORRECTIONS;
pub(crate) use conversation::{Conversation, Problem, Task};
pub use error::LlmError;
pub use secrets::secrets_of;
pub use usage::Usage;

/// Hears how many tokens of an answer have arrived.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);
