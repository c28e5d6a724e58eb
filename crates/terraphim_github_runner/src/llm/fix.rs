//! A change of the workflow file of a failed run that a model proposes.

use super::conversation::{Conversation, Proposed, Task};
use super::prompt::{ABOUT_DATA, DataBlocks};
use super::workflow::{WorkflowProposal, read, schema};
use super::{LlmClient, LlmError, Progress};

/// The end of a log tells the cause.
const LOG_LIMIT_BYTES: usize = 8 << 10;

/// As long as a file that a model may write.
const FILE_LIMIT_BYTES: usize = 64 << 10;

/// A few lines.
const ABOUT_LIMIT_BYTES: usize = 2 << 10;

const INSTRUCTION: &str = "\
A run of a GitHub Actions workflow failed. Change the workflow file so that the cause is gone. Answer with one JSON object \
{\"workflow\": \"<the whole changed file, YAML>\"} and nothing else. Change as few lines as possible and keep all others as \
they are. Never remove or skip a test, never ignore a failure, add no secret, no permission and no script from the internet.";

/// What is known of a failed step. All of it is data to the model.
#[derive(Clone, Debug)]
pub struct FixRequest<'a> {
    /// The workflow file as it ran.
    pub workflow: &'a str,
    /// Which job and step, how it ended, and what was learned about such failures.
    pub about: &'a str,
    /// What the step wrote.
    pub log: &'a str,
}

/// Asks a model for a changed file. Errors of the checker are sent back, at most [`super::CORRECTIONS`] times.
///
/// # Errors
/// The service or the model fails, or no proposal passes the checker and changes something.
pub async fn propose(
    client: &LlmClient,
    request: &FixRequest<'_>,
    progress: Progress<'_>,
) -> Result<WorkflowProposal, LlmError> {
    let bytes = request.workflow.len();
    if bytes > FILE_LIMIT_BYTES {
        return Err(LlmError::NotSent(format!(
            "it has {bytes} bytes, and at most {FILE_LIMIT_BYTES} are sent"
        )));
    }
    // A masked text would come back as asterisks and look like a change.
    if client.masker.finds(request.workflow) {
        return Err(LlmError::NotSent("it holds a secret".to_owned()));
    }
    let mut blocks = DataBlocks::new(&client.masker);
    blocks.beginning("workflow.yml", request.workflow, FILE_LIMIT_BYTES);
    blocks.beginning("failure", request.about, ABOUT_LIMIT_BYTES);
    blocks.end("log", request.log, LOG_LIMIT_BYTES);
    let task = Task {
        instruction: format!("{INSTRUCTION}\n{ABOUT_DATA}"),
        question: blocks.into_text(),
        form: ("workflow_file", schema()),
    };
    let old = request.workflow.trim_end();
    let changed = |answer: &str| {
        let file = read(answer)?;
        if file.trim_end() == old {
            return Err(LlmError::Form("the file is not changed".to_owned()));
        }
        Ok(file)
    };
    let Proposed { proposal, usage, notes } =
        Conversation::new(client, task).propose(changed, progress).await?;
    Ok(WorkflowProposal { workflow: proposal, model: client.model().to_owned(), usage, notes })
}
