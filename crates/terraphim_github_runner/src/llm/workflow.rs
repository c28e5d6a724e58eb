//! A workflow file that a model proposes for a sentence.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conversation::{Conversation, Proposed, Task};
use super::prompt::{ABOUT_DATA, DataBlocks};
use super::{LlmClient, LlmError, Progress, Usage};
use crate::words::{self, RepositoryFacts};

/// A sentence, or a page that says what is wanted.
const SENTENCE_LIMIT_BYTES: usize = 16 << 10;

/// The beginning of a README says what a project is and how it is built.
const README_LIMIT_BYTES: usize = 8 << 10;

/// Names of files, scripts and targets; a Makefile may have thousands.
const FACTS_LIMIT_BYTES: usize = 4 << 10;

/// The longest workflow file that people read before they use it.
const FILE_LIMIT_BYTES: usize = 64 << 10;

const INSTRUCTION: &str = "\
You write workflow files of GitHub Actions. Answer with one JSON object {\"workflow\": \"<the whole file, YAML>\"} and \
nothing else. The file has `on` and `jobs`, and `permissions: {contents: read}` unless the user wants more. Jobs run on \
ubuntu-latest. Use neither `container` nor `services`. Use only well-known actions, by their release tag. Do what the user \
asks for and no more: no deployment, publishing or secret that the user does not name, and no script from the internet.";

/// What a workflow file is asked for with.
#[derive(Clone, Debug)]
pub struct WorkflowRequest<'a> {
    /// What the user wants.
    pub sentence: &'a str,
    /// What the repository is written in.
    pub facts: &'a RepositoryFacts,
    /// Its README, if it has one.
    pub readme: Option<&'a str>,
}

/// A workflow file that a model wrote. It passes the checker; nothing of it was run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkflowProposal {
    /// The file, with a heading that says who wrote it.
    pub workflow: String,
    /// The model, by the service's name for it.
    pub model: String,
    /// What it took.
    pub usage: Usage,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Asks a model for a workflow file. Errors of the checker are sent back, at most [`super::CORRECTIONS`] times.
///
/// # Errors
/// The service or the model fails, or no proposal passes the checker.
pub async fn propose(
    client: &LlmClient,
    request: &WorkflowRequest<'_>,
    progress: Progress<'_>,
) -> Result<WorkflowProposal, LlmError> {
    let bytes = request.sentence.len();
    if request.sentence.trim().is_empty() || bytes > SENTENCE_LIMIT_BYTES {
        return Err(LlmError::Length { bytes, limit_bytes: SENTENCE_LIMIT_BYTES });
    }
    let task = Task {
        instruction: format!("{INSTRUCTION}\n{ABOUT_DATA}"),
        question: question(client, request),
        form: ("workflow_file", schema()),
    };
    let Proposed { proposal, usage, notes } = Conversation::new(client, task).propose(read, progress).await?;
    let heading = format!(
        "# A language model ({}) wrote this file. It passes `tci check` and was never run: read it before you use it.\n",
        super::answer::shortened(client.model())
    );
    Ok(WorkflowProposal { workflow: heading + &proposal, model: client.model().to_owned(), usage, notes })
}

fn question(client: &LlmClient, request: &WorkflowRequest<'_>) -> String {
    let mut blocks = DataBlocks::new(&client.masker);
    let facts = serde_json::to_string(request.facts).unwrap_or_default();
    blocks.beginning("repository", &facts, FACTS_LIMIT_BYTES);
    if let Some(readme) = request.readme {
        blocks.beginning("README", readme, README_LIMIT_BYTES);
    }
    format!("{}\nWrite a workflow file that does this: {}", blocks.into_text(), request.sentence.trim())
}

/// The form of an answer that is one file.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["workflow"],
        "properties": { "workflow": { "type": "string" } },
    })
}

/// The file of an answer, if it passes the checker.
pub(super) fn read(answer: &str) -> Result<String, LlmError> {
    let file = file_of(answer)?;
    if file.len() > FILE_LIMIT_BYTES {
        let message =
            format!("the file has {} bytes, and at most {FILE_LIMIT_BYTES} are accepted", file.len());
        return Err(LlmError::Form(message));
    }
    if file.chars().any(hides_something) {
        return Err(LlmError::Form("the file contains control or direction characters".to_owned()));
    }
    words::validate_to_run(&file).map_err(LlmError::Checker)?;
    Ok(file)
}

/// Control characters, and those that turn the direction of writing, show a reader something else than what runs.
fn hides_something(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    workflow: String,
}

/// The JSON that was asked for, or the one code block of a model without a schema.
fn file_of(answer: &str) -> Result<String, LlmError> {
    let (text, is_yaml) = unfenced(answer);
    if is_yaml {
        return Ok(text.to_owned() + "\n");
    }
    let file: File = serde_json::from_str(text)
        .map_err(|error| LlmError::Form(format!("not one JSON object {{\"workflow\": \"...\"}}: {error}")))?;
    Ok(file.workflow.trim_end().replace("\r\n", "\n") + "\n")
}

/// The inside of the only code block, and whether it is YAML; otherwise the whole text.
fn unfenced(answer: &str) -> (&str, bool) {
    let whole = (answer.trim(), false);
    let mut parts = answer.split("```");
    let (Some(_), Some(block), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return whole;
    };
    let Some((kind, text)) = block.split_once('\n') else { return whole };
    match kind.trim() {
        "yaml" | "yml" => (text.trim_end(), true),
        "json" | "" => (text.trim(), !text.trim_start().starts_with('{')),
        _ => whole,
    }
}
