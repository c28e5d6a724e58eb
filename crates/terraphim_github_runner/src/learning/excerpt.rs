//! The beginning and the end of an output, in bounded memory.

use std::collections::VecDeque;

/// Kept of the beginning.
const HEAD_BYTES: usize = 128 << 10;
/// Kept of the end.
const TAIL_BYTES: usize = 512 << 10;

/// What is kept of the output of one command until it is known how the command ended.
#[derive(Debug, Default)]
pub(super) struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    lines: u64,
}

impl Excerpt {
    pub(super) fn add(&mut self, text: &[u8]) {
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
        let (first, rest) = text.split_at(text.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(TAIL_BYTES)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// Lines in all.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn text(mut self) -> String {
        self.head.extend(self.tail);
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_keeps_its_ends() {
        let mut excerpt = Excerpt::default();
        excerpt.add(b"first\n");
        for _ in 0..100 {
            excerpt.add(&vec![b'x'; 100_000]);
        }
        excerpt.add("last é\n".as_bytes());
        assert_eq!(excerpt.lines(), 2);
        let text = excerpt.text();
        assert!(text.starts_with("first\n") && text.ends_with("last é\n"));
        assert!(text.len() <= HEAD_BYTES + TAIL_BYTES);
    }
}
