//! Why a model's help did not come to anything.

use std::time::Duration;

use terraphim_actions::diagnostic::Diagnostic;
use thiserror::Error;

use super::conversation::Problem;
use crate::engine::InvalidWorkflow;
use crate::error::chain;
use crate::http::HttpError;
use crate::workflow::ProposalProblem;

/// Why a description did not become a workflow, or a model gave no proposal.
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
    /// The workflow file of a failed run is not shown to a model.
    #[error("the workflow file is not sent to the language model: {0}")]
    NotSent(String),
    /// The service did not answer, or not as its API says.
    #[error("the language model did not answer")]
    Service(#[source] HttpError),
    /// The answer began and stopped arriving.
    #[error("the language model's answer broke off")]
    Broken(#[source] HttpError),
    /// The connection ended before the answer did.
    #[error("the language model's answer ends in the middle: the server closed the connection")]
    Truncated,
    /// The whole exchange took too long.
    #[error("the language model did not finish within {after:?}; `timeout-seconds` of [llm] is the limit")]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The model stopped in the middle.
    #[error("the language model's answer is cut off ({reason})")]
    CutOff {
        /// The service's `finish_reason`.
        reason: String,
    },
    /// More tokens than it may answer with.
    #[error("the language model's answer is longer than {limit} tokens; `max-tokens` of [llm] is the limit")]
    TooManyTokens {
        /// The limit.
        limit: u32,
    },
    /// More bytes than any answer has.
    #[error("the language model's answer is longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// The service's filter stopped the answer.
    #[error("the service's content filter stopped the answer; say it in other words, or use another model")]
    Filtered,
    /// The model says that it will not.
    #[error("the language model refuses: {message}")]
    Refused {
        /// Its words, shortened.
        message: String,
    },
    /// The service reported a failure within the answer.
    #[error("the service failed while the language model answered: {message}")]
    Failed {
        /// Its words, shortened.
        message: String,
    },
    /// The answer has no text.
    #[error("the language model's answer has no content")]
    NoContent,
    /// The money is used up.
    #[error(
        "{spent:.4} of at most {limit:.4} is spent, which leaves too little for an answer; `cost-limit` of [llm] is the limit"
    )]
    Cost {
        /// What the answers so far cost.
        spent: f64,
        /// The most they may.
        limit: f64,
    },
    /// What the model proposes cannot be a workflow.
    #[error("the language model's proposal is not a workflow")]
    Proposal(#[from] ProposalProblem),
    /// The answer has not the form that was asked for.
    #[error("the language model's answer is no proposal: {0}")]
    Form(String),
    /// The workflow file that the model proposes does not pass the checker, after all corrections.
    #[error(
        "the workflow file that the language model proposes does not pass the checker: {}",
        .0.first().map_or_else(String::new, ToString::to_string)
    )]
    Checker(Vec<Diagnostic>),
}

impl Problem for LlmError {
    fn told(&self) -> String {
        match self {
            LlmError::Checker(found) => found.iter().map(|one| format!("- {one}\n")).collect(),
            other => chain(other),
        }
    }
}
