//! Passes over text that cannot hold a secret, several bytes at a time.
//!
//! Every pattern has at least [`Sieve::window`] bytes, and a sample of [`GRAM`] bytes is taken so often that one falls
//! into the first `window` bytes of every occurrence. Where the sample is in no such window of any pattern, nothing
//! begins; the rest is left to the search itself. Sampling is what searches for many patterns have in common since Wu and
//! Manber, "A fast algorithm for multi-pattern searching" (TR-94-17, University of Arizona, 1994).

use std::ops::Range;

/// Bytes of a sample.
const GRAM: usize = 4;
/// Shorter patterns would be sampled so often that the search itself is as fast.
const MIN_WINDOW: usize = 6;
/// A longer window has more samples to be found by chance.
const MAX_WINDOW: usize = 12;
/// A Bloom filter of 32 KiB: 50 secrets in all their forms set one bit in fifty, and a sample needs two.
const WORDS_LOG2: u32 = 12;

/// What begins in text, as far as a sample shows.
#[derive(Clone)]
pub(super) struct Sieve {
    filter: Vec<u64>,
    window: usize,
    /// The longest pattern.
    longest: usize,
}

/// The samples are parts of secrets.
impl std::fmt::Debug for Sieve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sieve").field("window", &self.window).finish_non_exhaustive()
    }
}

impl Sieve {
    /// For these patterns; absent when one is too short.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Sieve> {
        let shortest = patterns.clone().map(<[u8]>::len).min().unwrap_or(0);
        let longest = patterns.clone().map(<[u8]>::len).max().unwrap_or(0);
        if shortest < MIN_WINDOW {
            return None;
        }
        let window = shortest.min(MAX_WINDOW);
        let mut filter = vec![0; 1 << WORDS_LOG2];
        for gram in patterns.flat_map(|pattern| pattern[..window].windows(GRAM)) {
            let (word, bits) = place(gram);
            filter[word] |= bits;
        }
        Some(Sieve { filter, window, longest })
    }

    /// The parts of the text that hold every occurrence of a pattern, in order, apart from each other.
    pub(super) fn parts(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        let step = self.window - GRAM + 1;
        for (number, gram) in text.windows(GRAM).step_by(step).enumerate() {
            let (word, bits) = place(gram);
            if self.filter[word] & bits != bits {
                continue;
            }
            let at = number * step;
            let part = at.saturating_sub(step - 1)..text.len().min(at + self.longest);
            match parts.last_mut() {
                Some(last) if part.start <= last.end => last.end = part.end,
                _ => parts.push(part),
            }
        }
        parts
    }
}

/// Where a sample is in the filter: a word and two of its bits.
fn place(gram: &[u8]) -> (usize, u64) {
    let gram = gram.try_into().map_or(0, u32::from_le_bytes);
    // Fibonacci hashing: the upper bits depend on all of the sample's.
    let hash = u64::from(gram).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let bit = |shift: u32| 1 << (hash >> shift & 63);
    let word = usize::try_from(hash >> (u64::BITS - WORDS_LOG2)).unwrap_or(0);
    (word, bit(46) | bit(40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sieve(patterns: &[&str]) -> Option<Sieve> {
        Sieve::new(patterns.iter().map(|pattern| pattern.as_bytes()))
    }

    #[test]
    fn text_without_a_secret_is_passed_over() {
        let sieve = sieve(&["S3cret-one", "another-long-secret"]).expect("long enough");
        assert!(sieve.parts(b"plain words as they stand in a log, one line after the next").is_empty());
        assert!(sieve.parts(b"").is_empty());
        assert!(sieve.parts(b"S3").is_empty());
    }

    #[test]
    fn short_secrets_have_none() {
        assert!(sieve(&["abcde", "another-long-secret"]).is_none());
        assert!(sieve(&[]).is_none());
    }

    proptest! {
        #[test]
        fn every_occurrence_is_in_a_part(
            patterns in prop::collection::vec("[ab]{6,20}", 1..5),
            text in "[abc]{0,200}",
        ) {
            let sieve = sieve(&patterns.iter().map(String::as_str).collect::<Vec<_>>()).expect("long enough");
            let parts = sieve.parts(text.as_bytes());
            prop_assert!(parts.windows(2).all(|two| two[0].end < two[1].start));
            for pattern in &patterns {
                for at in (0..text.len()).filter(|at| text[*at..].starts_with(pattern.as_str())) {
                    let end = at + pattern.len();
                    prop_assert!(parts.iter().any(|part| part.start <= at && end <= part.end), "{pattern} at {at}");
                }
            }
        }
    }
}
