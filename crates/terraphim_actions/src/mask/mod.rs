//! Hiding secrets in what is shown and stored.
//!
//! A [`Masker`] knows the secrets in all forms in which programs print them; a [`MaskStream`] masks
//! output that comes in pieces, so that a secret cut in two never shows.

mod encode;
mod sieve;
mod stream;

pub use stream::MaskStream;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::collections::HashSet;
use std::ops::Range;

use sieve::Sieve;

/// What a secret is replaced by.
pub const MASK: &str = "***";

/// Up to so many bytes of patterns are searched for with a table of all transitions, which is several times as fast as the
/// library's choice for more than a hundred patterns. The table has some 512 bytes for each byte of a pattern: 25 MB at
/// most, and for 50 secrets of 40 characters 10 MB that are made in some milliseconds.
const MAX_TABLE: usize = 48 << 10;

/// A set of secrets.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    patterns: Vec<Pattern>,
    known: HashSet<String>,
    automaton: Option<AhoCorasick>,
    sieve: Option<Sieve>,
}

#[derive(Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// For every length, the longest proper prefix of the pattern that ends there too.
    failure: Vec<usize>,
    /// The bytes of the pattern but its last: only after one of them can it be unfinished. Most
    /// output ends with a line break, which few secrets hold, so most patterns are out at once.
    inner: [u64; 4],
}

/// Secrets do not show up in debug output.
impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// Why a secret cannot be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Nothing but white space.
    #[error("Can't add secret mask for empty string in ##[add-mask] command.")]
    Empty,
    /// There are too many or too long secrets to search for.
    #[error("the secrets take too much memory to search for")]
    TooMany,
}

impl Masker {
    /// A masker without secrets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret: the text without the white space around it, and each of its lines likewise,
    /// all in every form.
    ///
    /// # Errors
    /// If the secret is empty, or there is too much to search for.
    pub fn add(&mut self, secret: &str) -> Result<(), MaskError> {
        self.add_all([secret])
    }

    /// Adds secrets at once; empty ones are an error only if there is no other.
    ///
    /// # Errors
    /// As [`Masker::add`].
    pub fn add_all<'a>(&mut self, secrets: impl IntoIterator<Item = &'a str>) -> Result<(), MaskError> {
        let before = self.patterns.len();
        let mut seen = false;
        for secret in secrets {
            let whole = secret.trim();
            for part in std::iter::once(whole).chain(whole.split(['\r', '\n']).map(str::trim)) {
                if !part.is_empty() {
                    seen = true;
                    self.add_part(part);
                }
            }
        }
        if !seen {
            return Err(MaskError::Empty);
        }
        if self.patterns.len() > before {
            let patterns = self.patterns.iter().map(|pattern| &pattern.bytes);
            let size: usize = patterns.clone().map(Vec::len).sum();
            let sieve = Sieve::new(patterns.clone().map(Vec::as_slice));
            let kind = (size <= MAX_TABLE).then_some(AhoCorasickKind::DFA);
            let automaton = AhoCorasick::builder().kind(kind).build(patterns);
            self.automaton = Some(automaton.map_err(|_| MaskError::TooMany)?);
            self.sieve = sieve;
        }
        Ok(())
    }

    fn add_part(&mut self, part: &str) {
        for form in std::iter::once(part.to_owned()).chain(encode::forms(part)) {
            if self.known.insert(form.clone()) {
                let bytes = form.into_bytes();
                self.patterns.push(Pattern::new(bytes));
            }
        }
    }

    /// Are there no secrets?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Is a secret in the text?
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| automaton.is_match(text))
    }

    /// The text with every secret replaced.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        self.mask_bytes(text.as_bytes(), |part| out.extend_from_slice(part));
        // A pattern is valid UTF-8, so it starts and ends at characters, and what is left is text.
        String::from_utf8(out).unwrap_or_default()
    }

    /// Hands the text to `write` part by part, in order, with every secret replaced. A secret that only begins in it is not
    /// seen: the text has to end where no secret can go on, as after whole lines.
    pub fn mask_bytes(&self, text: &[u8], mut write: impl FnMut(&[u8])) {
        let mut at = 0;
        for range in self.ranges(text) {
            write(&text[at..range.start]);
            write(MASK.as_bytes());
            at = range.end;
        }
        write(&text[at..]);
    }

    /// Where secrets are. Those that overlap or touch are one range: it becomes one mask, and no
    /// part of either shows.
    fn ranges(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<Range<usize>> = match &self.sieve {
            None => automaton.find_overlapping_iter(text).map(|found| found.range()).collect(),
            Some(sieve) => {
                let parts = sieve.parts(text).into_iter();
                let within = parts.flat_map(|part| {
                    let start = part.start;
                    let found = automaton.find_overlapping_iter(&text[part]);
                    found.map(move |found| start + found.start()..start + found.end())
                });
                within.collect()
            }
        };
        found.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// How many bytes at the end of `text` may be the beginning of a secret.
    fn pending(&self, text: &[u8]) -> usize {
        self.patterns.iter().map(|pattern| pattern.pending(text)).max().unwrap_or(0)
    }
}

impl Pattern {
    fn new(bytes: Vec<u8>) -> Self {
        let mut inner = [0; 4];
        for byte in &bytes[..bytes.len().saturating_sub(1)] {
            inner[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        Self { failure: failure(&bytes), bytes, inner }
    }

    /// The longest end of `text` that is a beginning of the pattern, but not all of it.
    fn pending(&self, text: &[u8]) -> usize {
        let Some(last) = text.last() else { return 0 };
        if self.inner[usize::from(last >> 6)] >> (last & 63) & 1 == 0 {
            return 0;
        }
        let tail = &text[text.len() - text.len().min(self.bytes.len().saturating_sub(1))..];
        let mut length = 0;
        for byte in tail {
            while length > 0 && self.bytes[length] != *byte {
                length = self.failure[length];
            }
            if self.bytes[length] == *byte {
                length += 1;
            }
        }
        length
    }
}

/// The failure function of Knuth, Morris and Pratt.
fn failure(pattern: &[u8]) -> Vec<usize> {
    let mut failure = vec![0; pattern.len() + 1];
    let mut length = 0;
    for index in 1..pattern.len() {
        while length > 0 && pattern[length] != pattern[index] {
            length = failure[length];
        }
        if pattern[length] == pattern[index] {
            length += 1;
        }
        failure[index + 1] = length;
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masker(secrets: &[&str]) -> Masker {
        let mut masker = Masker::new();
        masker.add_all(secrets.iter().copied()).expect("secrets");
        masker
    }

    #[test]
    fn secrets_and_their_forms_are_hidden() {
        let masker = masker(&["  hunter two ", "line one\nline two"]);
        assert_eq!(masker.mask("a hunter two b"), "a *** b");
        assert_eq!(masker.mask("x=hunter%20two"), "x=***");
        // base64 of "user:hunter two"
        assert_eq!(masker.mask("dXNlcjpodW50ZXIgdHdv"), "dXNlcjpo***");
        assert_eq!(masker.mask("only line two here"), "only *** here");
        assert_eq!(masker.mask("hunter"), "hunter");
    }

    #[test]
    fn overlapping_and_touching_secrets_are_one_mask() {
        let masker = masker(&["abcdef", "defghi", "xyz"]);
        assert_eq!(masker.mask("-abcdefghi-"), "-***-");
        assert_eq!(masker.mask("-xyzxyz-"), "-***-");
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert_eq!(Masker::new().add(" \n "), Err(MaskError::Empty));
    }

    #[test]
    fn debug_output_shows_nothing() {
        let text = format!("{:?}", masker(&["hunter2"]).patterns);
        assert!(!text.contains("hunter2"), "{text}");
    }

    proptest! {
        #[test]
        fn passing_over_text_changes_nothing(
            secrets in prop::collection::vec("[ab]{6,14}", 1..4),
            text in "[abc]{0,120}",
        ) {
            let mut masker = Masker::new();
            masker.add_all(secrets.iter().map(String::as_str)).expect("secrets");
            prop_assert!(masker.sieve.is_some());
            let masked = masker.mask(&text);
            masker.sieve = None;
            prop_assert_eq!(masked, masker.mask(&text));
        }
    }
}
