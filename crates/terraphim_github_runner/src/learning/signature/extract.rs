//! The signature of an output.

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::clean::{clean_line, without_prefix};
use super::lexicon::{self, From, Rank};
use crate::learning::command::short_hash;
use crate::learning::mask;
use crate::learning::outcomes;

/// Programs say at the end why they stopped; compilers say it once, before much that follows.
const TAIL_BYTES: usize = 512 << 10;
/// And some say it at the very beginning.
const HEAD_BYTES: usize = 64 << 10;
/// Longer lines are data rather than a reason.
const SIGNATURE_CHARS: usize = 200;
/// Looked at of one line.
const LINE_CHARS: usize = 2000;
/// More names than these are not shown; they still count.
const NAMED_TESTS: usize = 5;

/// Why a command failed, without what changes from run to run. Equal signatures have the same cause.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FailureSignature {
    /// What kind of cause.
    pub cause: Cause,
    /// The line that tells it, masked.
    pub text: String,
}

impl FailureSignature {
    /// The signature of what a failed command wrote.
    #[must_use]
    pub fn of(output: &str) -> FailureSignature {
        FailureSignature::with_exit(output, None)
    }

    /// The same, with the exit code for outputs that say nothing: 137 is a process that was killed (128 + SIGKILL),
    /// 124 what `timeout` ends with, 127 a missing program (POSIX, "Exit status for commands").
    #[must_use]
    pub fn with_exit(output: &str, exit_code: Option<i32>) -> FailureSignature {
        let text = window(output);
        let best = most_telling(&text);
        let by_code = exit_code.and_then(of_exit_code);
        // A process that was killed did not get to say why: what it had said before is no cause.
        let needed = if matches!(exit_code, Some(137 | 124)) { Rank::Machine } else { Rank::Telling };
        match (best, by_code) {
            (Some(found), Some(_)) if found.rank >= needed => found.signature,
            (_, Some(code)) => code,
            (Some(found), None) => found.signature,
            (None, None) => failed_tests(&text).unwrap_or_else(|| last_line(&text)),
        }
    }

    /// A short stable id: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        short_hash(&format!("{} {}", self.cause.name(), self.text))
    }
}

struct Found {
    rank: Rank,
    signature: FailureSignature,
}

/// The beginning and the end of a long output, cut between characters.
fn window(output: &str) -> std::borrow::Cow<'_, str> {
    if output.len() <= HEAD_BYTES + TAIL_BYTES {
        return output.into();
    }
    let head = output.floor_char_boundary(HEAD_BYTES);
    let tail = output.ceil_char_boundary(output.len() - TAIL_BYTES);
    format!("{}\n{}", &output[..head], &output[tail..]).into()
}

/// Of lines that are equally telling the first is the cause; only of Java's `Caused by:` it is the last.
fn most_telling(text: &str) -> Option<Found> {
    let mut best: Option<(Rank, Cause, String)> = None;
    for line in text.split('\n') {
        let line = clean_line(line);
        let line = line.get(..line.floor_char_boundary(LINE_CHARS)).unwrap_or(&line);
        let Some((entry, at)) = lexicon::look_up(line) else { continue };
        let is_deeper = line.trim_start().starts_with("Caused by:");
        let is_better = match &best {
            None => true,
            Some((rank, _, known)) => {
                entry.rank > *rank || (entry.rank == *rank && is_deeper && known.starts_with("Caused by:"))
            }
        };
        if is_better {
            let from = if entry.from == From::Phrase { &line[at..] } else { line };
            best = Some((entry.rank, entry.cause, from.trim().to_owned()));
        }
    }
    let (rank, cause, line) = best?;
    // Named tests are more telling than the panic of one of them, and less than a machine without memory.
    if rank < Rank::Machine
        && let Some(tests) = failed_tests(text)
    {
        return Some(Found { rank: Rank::Precise, signature: tests });
    }
    Some(Found {
        rank,
        signature: FailureSignature { cause, text: short(&mask::text(without_prefix(&line))) },
    })
}

fn failed_tests(text: &str) -> Option<FailureSignature> {
    let mut names: Vec<String> =
        outcomes::failed_tests(text).into_iter().map(|name| mask::text(&name)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    let hidden = names.len().saturating_sub(NAMED_TESTS);
    let mut text = names[..names.len() - hidden].join(", ");
    if hidden > 0 {
        // The hash tells apart sets that begin alike.
        text = format!("{text} and {hidden} more ({})", short_hash(&names.join("\n")));
    }
    Some(FailureSignature { cause: Cause::Test, text: short(&format!("failed: {text}")) })
}

fn of_exit_code(code: i32) -> Option<FailureSignature> {
    let (cause, text) = match code {
        137 => (Cause::OutOfMemory, "killed (exit code 137)"),
        124 => (Cause::Timeout, "out of time (exit code 124)"),
        127 => (Cause::NotFound, "command not found (exit code 127)"),
        139 => (Cause::Crash, "segmentation fault (exit code 139)"),
        134 => (Cause::Crash, "aborted (exit code 134)"),
        _ => return None,
    };
    Some(FailureSignature { cause, text: text.to_owned() })
}

fn last_line(text: &str) -> FailureSignature {
    let last = text.split('\n').rev().map(clean_line).find(|line| !line.trim().is_empty());
    let text = last.map_or_else(|| "no output".to_owned(), |line| short(&mask::text(line.trim())));
    FailureSignature { cause: Cause::Other, text }
}

fn short(text: &str) -> String {
    text.chars().take(SIGNATURE_CHARS).collect()
}
