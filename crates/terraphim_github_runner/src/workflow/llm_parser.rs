//! From a description to a [`ParsedWorkflow`]: by fixed patterns, or by a language model whose proposal is
//! checked.
//!
//! With a language model configured, the model answers or the parser fails; it never falls back to patterns,
//! as nobody would notice the difference.

use super::file;
use super::parser::ParsedWorkflow;
use super::patterns;
use super::proposal;
use crate::error::Result;
use crate::llm::{Conversation, LlmClient, Task};
pub use crate::llm::{LlmConfig, LlmError};

/// A workflow file or a page of prose is far shorter; more is not a description.
const DESCRIPTION_LIMIT_BYTES: usize = 256 << 10;

/// Makes workflows of descriptions.
#[derive(Clone, Debug, Default)]
pub struct WorkflowParser {
    llm: Option<LlmClient>,
}

impl WorkflowParser {
    /// A parser that knows fixed patterns only: the same description always gives the same workflow.
    #[must_use]
    pub fn new() -> Self {
        WorkflowParser::default()
    }

    /// A parser that asks a language model. Secrets of this process's environment are not sent.
    #[must_use]
    pub fn with_llm(config: LlmConfig) -> Self {
        WorkflowParser::with_client(LlmClient::with_environment(config))
    }

    /// The same with limits and secrets of one's own.
    #[must_use]
    pub fn with_client(client: LlmClient) -> Self {
        WorkflowParser { llm: Some(client) }
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
            Some(llm) => return ask(llm, description).await,
            None if file::is_workflow_file(description) => {
                file::parse(description).map_err(LlmError::from)?
            }
            None => patterns::parse(description)?,
        };
        workflow.check()?;
        Ok(workflow)
    }
}

async fn ask(llm: &LlmClient, description: &str) -> Result<ParsedWorkflow> {
    let task = Task {
        instruction: proposal::INSTRUCTION.to_owned(),
        question: description.to_owned(),
        form: ("workflow", proposal::schema()),
    };
    let read = |answer: &str| -> Result<ParsedWorkflow> {
        let workflow = proposal::read(answer).map_err(LlmError::from)?;
        workflow.check()?;
        Ok(workflow)
    };
    Ok(Conversation::new(llm, task).propose(read, &|_| ()).await?.proposal)
}

#[cfg(test)]
#[path = "llm_parser_tests.rs"]
mod tests;
