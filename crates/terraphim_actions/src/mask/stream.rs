//! Masking of output that comes in pieces.

use super::{MASK, Masker};
use std::ops::Range;

/// The end of one stream of output that may still turn out to be part of a secret.
#[derive(Clone, Default)]
pub struct MaskStream {
    held: Vec<u8>,
    /// So many bytes of `held` belong to a mask that is out already.
    covered: usize,
    /// Was a mask the last thing that went out?
    after_mask: bool,
}

/// What is held back may be a secret.
impl std::fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskStream").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl MaskStream {
    /// A stream that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of output and gives what may be shown. An end that may be the beginning
    /// of a secret is held back until more comes; it is never longer than the longest secret.
    #[must_use]
    pub fn push(&mut self, masker: &Masker, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let limit = self.held.len() - masker.pending(&self.held);
        self.emit(masker, limit)
    }

    /// Gives what was held back; the stream has ended, or a line has.
    #[must_use]
    pub fn finish(&mut self, masker: &Masker) -> Vec<u8> {
        self.emit(masker, self.held.len())
    }

    /// Gives the first `limit` bytes, masked.
    fn emit(&mut self, masker: &Masker, limit: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(limit);
        let mut at = 0;
        let mut covered = 0;
        for range in self.ranges(masker) {
            if range.start >= limit && !(range.start == 0 && self.after_mask) {
                break;
            }
            out.extend_from_slice(&self.held[at..range.start]);
            if !(range.start == 0 && self.after_mask) {
                out.extend_from_slice(MASK.as_bytes());
            }
            at = range.end.min(limit);
            covered = range.end.saturating_sub(limit);
        }
        out.extend_from_slice(&self.held[at..limit]);
        // `at` moves with masks only.
        if limit > 0 {
            self.after_mask = at == limit;
        }
        self.covered = covered;
        self.held.drain(..limit);
        out
    }

    /// Where secrets are in what is held, and what an earlier mask covers.
    fn ranges(&self, masker: &Masker) -> Vec<Range<usize>> {
        let mut ranges = masker.ranges(&self.held);
        if self.covered == 0 {
            return ranges;
        }
        let mut end = self.covered;
        ranges.retain(|range| {
            if range.start <= end {
                end = end.max(range.end);
            }
            range.start > end
        });
        ranges.insert(0, 0..end);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(masker: &Masker, text: &[u8], cuts: &[usize]) -> String {
        let mut stream = MaskStream::new();
        let mut out = Vec::new();
        let mut at = 0;
        for cut in cuts {
            let end = (at + cut).min(text.len());
            out.extend(stream.push(masker, &text[at..end]));
            at = end;
        }
        out.extend(stream.push(masker, &text[at..]));
        out.extend(stream.finish(masker));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_cut_secret_never_shows() {
        let mut masker = Masker::new();
        masker.add_all(["abcdef", "defghi"]).expect("secrets");
        for cut in 0..12 {
            assert_eq!(in_pieces(&masker, b"--abcdefghi--", &[cut]), "--***--", "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_not_held_back() {
        let mut masker = Masker::new();
        masker.add("secret").expect("a secret");
        let mut stream = MaskStream::new();
        assert_eq!(stream.push(&masker, b"plain text"), b"plain text");
        assert_eq!(stream.push(&masker, b"abc sec"), b"abc ");
        assert_eq!(stream.push(&masker, b"ond"), b"second");
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_as_the_whole(
            secrets in prop::collection::vec("[ab]{1,6}", 1..4),
            text in "[abc]{0,40}",
            cuts in prop::collection::vec(0_usize..7, 0..12),
        ) {
            let mut masker = Masker::new();
            masker.add_all(secrets.iter().map(String::as_str)).expect("secrets");
            prop_assert_eq!(in_pieces(&masker, text.as_bytes(), &cuts), masker.mask(&text));
        }
    }
}
