//! From a sentence to a workflow file, without a language model, and from a workflow file to sentences.
//!
//! ```text
//! sentence -> reader (words, phrases) -> parts (one file for each kind of phrase) -> Draft -> render -> checked text
//!                                                                 facts of the repository -'
//! ```
//!
//! Fixed phrases only: the same sentence in the same repository always gives the same file. What no phrase explains is
//! reported word by word and never guessed. To add a phrase: a pattern in the file of its kind, and a line in
//! `testdata/words/sentences.txt`.

mod commands;
mod deploy;
mod draft;
mod events;
mod explain;
mod facts;
mod intents;
mod options;
mod reader;
mod render;
mod schedule;
mod tasks;
mod toolchain;
mod tools;

pub use explain::{cron_in_words, explain};
pub use facts::{Language, RepositoryFacts};

use serde::Serialize;
use terraphim_actions::{
    diagnostic::{Diagnostic, Severity},
    workflow::Workflow,
};
use thiserror::Error;

use draft::Draft;
use reader::Reader;

use crate::{engine::plan_workflow, schedule::unknown_zones};

/// A sentence is far shorter.
const SENTENCE_LIMIT_BYTES: usize = 16 << 10;

/// A workflow file made of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Translation {
    /// The file. It passes the checker without errors and warnings.
    pub workflow: String,
    /// What was understood, in the order of the sentence.
    pub understood: Vec<Understood>,
    /// What was not, in the order of the sentence.
    pub not_understood: Vec<NotUnderstood>,
    /// What was decided without being asked for, and what the user should know.
    pub notes: Vec<String>,
}

/// A part of the sentence and what it became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Understood {
    /// The part as it is written.
    pub text: String,
    /// What it means.
    pub meaning: String,
}

/// A part of the sentence that no phrase explains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotUnderstood {
    /// The part as it is written.
    pub text: String,
    /// Its first byte in the sentence.
    pub start: usize,
}

/// Why a sentence did not become a workflow file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TranslateError {
    /// There is nothing to read, or far too much.
    #[error("a sentence has between 1 and {SENTENCE_LIMIT_BYTES} bytes, this one has {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// Nothing in it names something to run.
    #[error("nothing in it says what to run")]
    Nothing {
        /// What was not understood.
        not_understood: Vec<NotUnderstood>,
        /// Why, as far as it is known.
        notes: Vec<String>,
    },
    /// What was made of it does not pass the checker.
    #[error("what was made of it is no valid workflow file: {}", .0.first().map_or("", |first| first.message.as_str()))]
    Invalid(Vec<Diagnostic>),
}

/// Translates a sentence.
///
/// # Errors
/// It is empty or too long, nothing to run was understood, or the result does not pass the checker.
pub fn translate(sentence: &str, facts: &RepositoryFacts) -> Result<Translation, TranslateError> {
    let bytes = sentence.len();
    if sentence.trim().is_empty() || bytes > SENTENCE_LIMIT_BYTES {
        return Err(TranslateError::Length { bytes });
    }
    let mut reader = Reader::new(sentence);
    let mut draft = Draft::default();
    while !reader.is_at_end() {
        read_part(&mut reader, &mut draft, facts);
    }
    draft.finish(facts);
    let (understood, not_understood) = reader.into_parts();
    if draft.commands.is_empty() {
        return Err(TranslateError::Nothing { not_understood, notes: draft.notes });
    }
    let workflow = render::render(sentence, &mut draft, facts);
    validate(&workflow).map_err(TranslateError::Invalid)?;
    Ok(Translation { workflow, understood, not_understood, notes: draft.notes })
}

/// Reads what stands next: the first kind of phrase that explains it wins.
fn read_part(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) {
    let is_read = schedule::read(reader, draft)
        || events::read(reader, draft)
        || options::read(reader, draft, facts)
        || tasks::read(reader, draft, facts)
        || reader.filler();
    if !is_read {
        reader.give_up();
    }
}

/// Checks a workflow file that was made, as `tci check` does.
///
/// # Errors
/// Every error, and every warning: a file that we make has neither. Notes are none.
pub fn validate(workflow: &str) -> Result<(), Vec<Diagnostic>> {
    checked(workflow).map(|_| ())
}

/// Checks a workflow file in the same way, and that this version runs everything in it.
///
/// # Errors
/// As [`validate`]; keys that are not executed.
pub fn validate_to_run(workflow: &str) -> Result<(), Vec<Diagnostic>> {
    let parsed = checked(workflow)?;
    plan_workflow(&parsed).map(|_| ()).map_err(|invalid| invalid.diagnostics)
}

fn checked(workflow: &str) -> Result<Workflow, Vec<Diagnostic>> {
    let mut parsed = Workflow::parse(workflow, "workflow.yml")?;
    parsed.warnings.extend(unknown_zones(&parsed));
    let is_fault = |found: &&Diagnostic| found.severity != Severity::Info;
    let faults: Vec<Diagnostic> = parsed.warnings.iter().filter(is_fault).cloned().collect();
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

/// The commands that a phrase names by tool or activity; `None` unless every word of it is understood.
pub(crate) fn commands(phrase: &str) -> Option<Vec<String>> {
    let (mut reader, mut draft) = (Reader::new(phrase), Draft::default());
    let facts = RepositoryFacts::default();
    while !reader.is_at_end() {
        if !(tasks::read_plain(&mut reader, &mut draft, &facts) || reader.filler()) {
            return None;
        }
    }
    let (_, not_understood) = reader.into_parts();
    let commands: Vec<String> = draft.commands.into_iter().map(|command| command.text).collect();
    (not_understood.is_empty() && !commands.is_empty()).then_some(commands)
}

#[cfg(test)]
mod tests;
