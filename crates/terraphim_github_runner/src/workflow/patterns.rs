//! Descriptions in a few fixed forms, read without a language model.
//!
//! A clause (a line, a sentence, or what stands before "then") is understood or refused as a whole; nothing in it
//! is skipped in silence. It names commands in backticks, or activities and tools ("test with pytest", read by `words`), and may
//! say when ("first", "finally"), where ("in /workspace/app"), for how long ("within 10 minutes") and that failure
//! does not matter ("may fail"). "on push" and the like name the trigger, "name: ..." the workflow.

use super::llm_parser::LlmError;
use super::parser::{ParsedWorkflow, WorkflowStep};
use crate::words;

const DEFAULT_TIMEOUT_SECONDS: u64 = 300;

const TRIGGERS: &[(&[&str], &str)] = &[
    (&["on", "push"], "push"),
    (&["on", "every", "push"], "push"),
    (&["on", "pull", "request"], "pull_request"),
    (&["on", "pull", "requests"], "pull_request"),
    (&["on", "every", "pull", "request"], "pull_request"),
    (&["on", "demand"], "workflow_dispatch"),
    (&["by", "hand"], "workflow_dispatch"),
    (&["manually"], "workflow_dispatch"),
];

/// When the commands of a clause run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Setup,
    Step,
    Cleanup,
}

const SETUP: &[&str] = &["first", "setup", "before"];
const CLEANUP: &[&str] = &["finally", "cleanup", "afterwards", "always"];
const MAY_FAIL: &[&[&str]] = &[
    &["may", "fail"],
    &["can", "fail"],
    &["allowed", "to", "fail"],
    &["ignore", "failure"],
    &["ignoring", "failure"],
    &["ignore", "failures"],
    &["continue", "on", "error"],
];

/// Words that carry no meaning of their own in a clause with a command.
const FILLERS: &[&str] = &[
    "run",
    "execute",
    "call",
    "use",
    "using",
    "with",
    "and",
    "then",
    "the",
    "a",
    "an",
    "it",
    "this",
    "that",
    "please",
    "next",
    "now",
    "all",
    "by",
    "which",
    "to",
    "command",
    "commands",
    "script",
    "step",
    "is",
    "project",
    "code",
    "dependencies",
    "packages",
    "unit",
    "our",
    "my",
    "its",
    "check",
    "but",
    "everything",
    "also",
    "of",
    "program",
];

pub(super) fn parse(description: &str) -> Result<ParsedWorkflow, LlmError> {
    let mut workflow = ParsedWorkflow {
        name: "Workflow".to_owned(),
        trigger: "workflow_dispatch".to_owned(),
        environment: std::collections::HashMap::new(),
        setup_commands: Vec::new(),
        steps: Vec::new(),
        cleanup_commands: Vec::new(),
        cache_paths: Vec::new(),
    };
    for text in clauses(description) {
        if !read(&text, &mut workflow) {
            return Err(LlmError::NotUnderstood { sentence: text });
        }
    }
    if workflow.steps.is_empty() {
        return Err(LlmError::NoSteps);
    }
    Ok(workflow)
}

/// Splits at line ends, full stops, semicolons and "then", outside of backticks.
fn clauses(description: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut clause = String::new();
    let mut in_code = false;
    let mut chars = description.chars().peekable();
    while let Some(c) = chars.next() {
        in_code ^= c == '`';
        // The full stop of "1." numbers a line and ends nothing.
        let is_number = || !clause.trim().is_empty() && clause.trim().chars().all(|c| c.is_ascii_digit());
        let ends_sentence = c == '.' && chars.peek().is_none_or(|next| next.is_whitespace()) && !is_number();
        if !in_code && (matches!(c, '\n' | ';') || ends_sentence) {
            found.push(std::mem::take(&mut clause));
        } else {
            clause.push(c);
        }
    }
    found.push(clause);
    let split = found.iter().flat_map(|clause| split_at_then(clause));
    split.map(|clause| trim(&clause).to_owned()).filter(|clause| !clause.is_empty()).collect()
}

fn trim(clause: &str) -> &str {
    let clause = clause.trim().trim_start_matches(['-', '*', '•']).trim();
    let numbered = clause.trim_start_matches(|c: char| c.is_ascii_digit());
    let clause = if numbered.len() < clause.len() {
        numbered.strip_prefix([')', '.']).unwrap_or(clause)
    } else {
        clause
    };
    clause.trim().trim_end_matches([',', ':']).trim()
}

fn split_at_then(clause: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for (i, piece) in clause.split('`').enumerate() {
        let last = parts.len() - 1;
        if i % 2 == 1 {
            parts[last].push_str(&format!("`{piece}`"));
            continue;
        }
        let mut words = piece.split(" then ");
        parts[last].push_str(words.next().unwrap_or(""));
        parts.extend(words.map(str::to_owned));
    }
    parts
}

/// Whether the whole clause was understood.
fn read(clause: &str, workflow: &mut ParsedWorkflow) -> bool {
    for key in ["name:", "workflow:"] {
        if let Some(name) = strip_prefix_ignoring_case(clause, key) {
            name.trim().clone_into(&mut workflow.name);
            return !name.trim().is_empty();
        }
    }
    let (commands, mut words) = take_code(clause);
    if let Some((_, trigger)) = TRIGGERS.iter().find(|(phrase, _)| take_phrase(&mut words, phrase)) {
        (*trigger).clone_into(&mut workflow.trigger);
        let is_alone = words.iter().all(|word| FILLERS.contains(&word.as_str()));
        if is_alone && commands.is_empty() {
            return true;
        }
    }
    let when = when(&mut words);
    let continue_on_error = MAY_FAIL.iter().any(|phrase| take_phrase(&mut words, phrase));
    let Some(timeout_seconds) = take_timeout(&mut words) else { return false };
    let working_dir = take_directory(&mut words).unwrap_or_else(|| "/workspace".to_owned());
    let commands = if commands.is_empty() { take_activities(&mut words) } else { commands };
    if commands.is_empty() || words.iter().any(|word| !FILLERS.contains(&word.as_str())) {
        return false;
    }
    let is_plain =
        working_dir == "/workspace" && !continue_on_error && timeout_seconds == DEFAULT_TIMEOUT_SECONDS;
    for command in commands {
        match when {
            When::Step => workflow.steps.push(WorkflowStep {
                name: command.lines().next().unwrap_or("").chars().take(80).collect(),
                command,
                working_dir: working_dir.clone(),
                continue_on_error,
                timeout_seconds,
            }),
            // Setup and cleanup commands have no settings of their own.
            _ if !is_plain => return false,
            When::Setup => workflow.setup_commands.push(command),
            When::Cleanup => workflow.cleanup_commands.push(command),
        }
    }
    true
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The commands in backticks, and the other words in lower case without punctuation.
fn take_code(clause: &str) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut words) = (Vec::new(), Vec::new());
    for (i, piece) in clause.split('`').enumerate() {
        if i % 2 == 1 {
            commands.extend(Some(piece.trim().to_owned()).filter(|command| !command.is_empty()));
        } else {
            let clean = piece.split_whitespace().map(|w| w.trim_matches([',', ':', '(', ')', '"', '!']));
            words.extend(clean.filter(|w| !w.is_empty()).map(lower_unless_path));
        }
    }
    (commands, words)
}

fn lower_unless_path(word: &str) -> String {
    if word.contains('/') { word.to_owned() } else { word.to_lowercase() }
}

/// Removes a phrase from the words, if it is there.
fn take_phrase(words: &mut Vec<String>, phrase: &[&str]) -> bool {
    let at = words.windows(phrase.len()).position(|window| window.iter().eq(phrase.iter()));
    if let Some(at) = at {
        words.drain(at..at + phrase.len());
    }
    at.is_some()
}

fn when(words: &mut Vec<String>) -> When {
    for phrase in [["set", "up"], ["clean", "up"]] {
        if take_phrase(words, &phrase) {
            return if phrase[0] == "set" { When::Setup } else { When::Cleanup };
        }
    }
    match words.first().map(String::as_str) {
        Some(word) if SETUP.contains(&word) => {
            words.remove(0);
            When::Setup
        }
        Some(word) if CLEANUP.contains(&word) => {
            words.remove(0);
            When::Cleanup
        }
        _ => When::Step,
    }
}

/// "within 10 minutes", "timeout 30 s". `None` when there is one that makes no sense.
fn take_timeout(words: &mut Vec<String>) -> Option<u64> {
    let Some(at) = words.iter().position(|word| word == "within" || word == "timeout") else {
        return Some(DEFAULT_TIMEOUT_SECONDS);
    };
    let number: u64 = words.get(at + 1)?.parse().ok()?;
    let unit = match words.get(at + 2)?.as_str() {
        "s" | "second" | "seconds" => 1,
        "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        _ => return None,
    };
    words.drain(at..at + 3);
    number.checked_mul(unit).filter(|seconds| (1..=6 * 3600).contains(seconds))
}

/// "in /workspace/app".
fn take_directory(words: &mut Vec<String>) -> Option<String> {
    let at = words.windows(2).position(|pair| pair[0] == "in" && pair[1].starts_with('/'))?;
    words.drain(at..at + 2).next_back()
}

/// The commands of activities with tools, as [`words`] knows them; the words are taken when all are understood.
fn take_activities(words: &mut Vec<String>) -> Vec<String> {
    let Some(found) = words::commands(&words.join(" ")) else { return Vec::new() };
    words.clear();
    // No step sets Python up here, and where nobody did there is only `python3`.
    found
        .into_iter()
        .map(|text| text.strip_prefix("python -m").map_or(text.clone(), |rest| format!("python3 -m{rest}")))
        .collect()
}

#[cfg(test)]
#[path = "patterns_tests.rs"]
mod tests;
