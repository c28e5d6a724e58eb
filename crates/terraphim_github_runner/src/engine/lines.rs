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
    cut(text, ends.chain(rest))
}

/// The same as GitHub's runner reads them (`StreamReader.ReadLine`): a carriage return by itself ends a line too.
pub(super) fn runner_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_end = move |at: &usize| text[*at] == b'\n' || text.get(at + 1) != Some(&b'\n');
    let ends = memchr::memchr2_iter(b'\n', b'\r', text).filter(is_end).map(|at| at + 1);
    let rest = text.last().is_some_and(|last| !matches!(last, b'\n' | b'\r')).then_some(text.len());
    cut(text, ends.chain(rest))
}

fn cut(text: &[u8], ends: impl Iterator<Item = usize>) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    ends.map(move |end| &text[std::mem::replace(&mut start, end)..end])
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
        while self.partial.len() > MAX_LINE {
            // A progress bar writes one line over the other. A return at the end may be half of a line end.
            match memrchr(b'\r', &self.partial[..self.partial.len() - 1]) {
                Some(last) => {
                    let lines = self.partial.split_to(last + 1).freeze();
                    self.hand_on(lines, &mut blocks);
                }
                None => {
                    self.is_cut = true;
                    blocks.push(Block::Piece(self.partial.split().freeze()));
                }
            }
        }
        blocks
    }

    /// The line that the stream ended in.
    pub(super) fn finish(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let rest = self.partial.split().freeze();
        self.hand_on(rest, &mut blocks);
        blocks
    }

    /// Hands on lines. The first of them may have begun in a piece.
    fn hand_on(&mut self, mut lines: Bytes, blocks: &mut Vec<Block>) {
        if std::mem::take(&mut self.is_cut) {
            let end = runner_lines(&lines).next().map_or(0, <[u8]>::len);
            if end > 0 {
                blocks.push(Block::Piece(lines.split_to(end)));
            }
        }
        if !lines.is_empty() {
            blocks.push(Block::Lines(lines));
        }
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

    fn blocks_of(text: &[u8], size: usize) -> Vec<Block> {
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
    fn a_return_by_itself_ends_a_line_for_the_runner() {
        for (text, want) in [
            ("a\rb\r\nc\n", vec!["a\r", "b\r\n", "c\n"]),
            ("\r\r\n\r", vec!["\r", "\r\n", "\r"]),
            ("a\rb", vec!["a\r", "b"]),
            ("", vec![]),
        ] {
            let lines = runner_lines(text.as_bytes()).map(|line| std::str::from_utf8(line).unwrap());
            assert_eq!(lines.collect::<Vec<_>>(), want, "{text:?}");
        }
    }

    #[test]
    fn a_long_progress_bar_is_lines_and_no_line_end_is_halved() {
        let text = "working ...\r".repeat(4 * MAX_LINE / 12) + "\n::debug::x\r\n";
        for size in [1000, 12, 65_536] {
            let blocks = blocks_of(text.as_bytes(), size);
            let mut all = Vec::new();
            for block in &blocks {
                let Block::Lines(lines) = block else { panic!("no line is long") };
                assert!(lines.len() <= MAX_LINE + size && !lines.starts_with(b"\n"), "cut at {size}");
                all.extend_from_slice(lines);
            }
            assert!(all == text.as_bytes(), "cut at {size}");
            assert!(blocks.len() > 3, "cut at {size}");
        }
    }

    #[test]
    fn a_return_ends_a_line_that_came_in_pieces() {
        let mut text = vec![b'x'; MAX_LINE + 1];
        text.extend_from_slice(b"end\r::debug::x\n");
        let blocks = blocks_of(&text, MAX_LINE + 1);
        assert!(matches!(&blocks[1], Block::Piece(piece) if *piece == "end\r"), "{:?}", blocks[1]);
        assert_eq!(blocks[2], Block::Lines(Bytes::from_static(b"::debug::x\n")));
    }

    #[test]
    fn any_cut_gives_whole_lines_and_loses_nothing() {
        let text = b"one\ntwo\r\n\n\nthree";
        for size in 1..=text.len() {
            let blocks = blocks_of(text, size);
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
        let blocks = blocks_of(&text, 10_000);
        let sizes: Vec<usize> = blocks.iter().map(|block| bytes(block).len()).collect();
        assert!(sizes.iter().all(|size| *size <= MAX_LINE + 10_000), "{sizes:?}");
        let all: Vec<u8> = blocks.iter().flat_map(|block| bytes(block).to_vec()).collect();
        assert!(all == text);
        let last: Vec<&Block> = blocks.iter().rev().take(2).rev().collect();
        assert!(matches!(last[0], Block::Piece(b) if b.ends_with(b"end\n")));
        assert_eq!(last[1], &Block::Lines(Bytes::from_static(b"next\n")));
    }
}
