//! Cuts a stream of bytes into blocks of whole lines.

use bytes::{Bytes, BytesMut};
use memchr::memrchr;

/// The longest line that is held. A longer one is handed on in pieces of about this length, in order and with
/// nothing added between them.
pub(super) const MAX_LINE: usize = 256 * 1024;

/// The lines of a text with their ends; the last one may lack its own.
pub(crate) fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', text).map(|at| at + 1);
    let rest = text.last().is_some_and(|last| *last != b'\n').then_some(text.len());
    let mut start = 0;
    ends.chain(rest).map(move |end| &text[std::mem::replace(&mut start, end)..end])
}

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// One or more whole lines with their line ends; the last one of a stream may lack its own.
    Lines(Bytes),
    /// A piece of a line that is too long to be held: no command, whatever it looks like.
    Piece(Bytes),
}

/// Holds the line that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: BytesMut,
    /// The line in `partial` began in a piece that was handed on.
    is_cut: bool,
}

impl Lines {
    /// Takes bytes as they come; gives what became complete, in order.
    pub(super) fn push(&mut self, bytes: Bytes) -> Vec<Block> {
        let mut blocks = Vec::new();
        match memrchr(b'\n', &bytes) {
            None => self.partial.extend_from_slice(&bytes),
            Some(last) => self.complete(bytes, last + 1, &mut blocks),
        }
        if self.partial.len() > MAX_LINE {
            self.is_cut = true;
            blocks.push(Block::Piece(self.partial.split().freeze()));
        }
        blocks
    }

    /// The line that the stream ended in.
    pub(super) fn finish(&mut self) -> Option<Block> {
        let rest = self.partial.split().freeze();
        let is_cut = std::mem::take(&mut self.is_cut);
        (!rest.is_empty()).then(|| if is_cut { Block::Piece(rest) } else { Block::Lines(rest) })
    }

    fn complete(&mut self, bytes: Bytes, end: usize, blocks: &mut Vec<Block>) {
        let mut whole = bytes.slice(..end);
        if !self.partial.is_empty() || self.is_cut {
            let first = memchr::memchr(b'\n', &whole).map_or(whole.len(), |at| at + 1);
            self.partial.extend_from_slice(&whole.split_to(first));
            blocks.extend(self.finish());
        }
        if !whole.is_empty() {
            blocks.push(Block::Lines(whole));
        }
        self.partial.extend_from_slice(&bytes[end..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], size: usize) -> Vec<Block> {
        let mut lines = Lines::default();
        let mut blocks: Vec<Block> =
            text.chunks(size).flat_map(|chunk| lines.push(Bytes::copy_from_slice(chunk))).collect();
        blocks.extend(lines.finish());
        blocks
    }

    fn bytes(block: &Block) -> &Bytes {
        let (Block::Lines(bytes) | Block::Piece(bytes)) = block;
        bytes
    }

    #[test]
    fn lines_keep_their_ends() {
        for text in ["", "a", "a\n", "\n", "a\r\n\nb", "\n\n"] {
            let want: Vec<&[u8]> = text.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
            assert_eq!(split_lines(text.as_bytes()).collect::<Vec<_>>(), want, "{text:?}");
        }
    }

    #[test]
    fn any_cut_gives_whole_lines_and_loses_nothing() {
        let text = b"one\ntwo\r\n\n\nthree";
        for size in 1..=text.len() {
            let blocks = cut(text, size);
            let mut all = Vec::new();
            for (i, block) in blocks.iter().enumerate() {
                let Block::Lines(bytes) = block else { panic!("nothing here is long") };
                assert!(bytes.ends_with(b"\n") || i + 1 == blocks.len(), "{blocks:?}");
                all.extend_from_slice(bytes);
            }
            assert_eq!(all, text, "cut at {size}");
        }
    }

    #[test]
    fn a_long_line_comes_in_pieces_with_nothing_between() {
        let mut text = vec![b'x'; 3 * MAX_LINE];
        text.extend_from_slice(b"end\nnext\n");
        let blocks = cut(&text, 10_000);
        let sizes: Vec<usize> = blocks.iter().map(|block| bytes(block).len()).collect();
        assert!(sizes.iter().all(|size| *size <= MAX_LINE + 10_000), "{sizes:?}");
        let all: Vec<u8> = blocks.iter().flat_map(|block| bytes(block).to_vec()).collect();
        assert!(all == text);
        let last: Vec<&Block> = blocks.iter().rev().take(2).rev().collect();
        assert!(matches!(last[0], Block::Piece(b) if b.ends_with(b"end\n")));
        assert_eq!(last[1], &Block::Lines(Bytes::from_static(b"next\n")));
    }
}
