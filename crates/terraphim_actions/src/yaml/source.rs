//! The text of a file by lines, for the places that the scanner does not tell as GitHub does.

use crate::span::Span;

/// A text and where its lines start.
pub(super) struct Source<'a> {
    text: &'a str,
    /// Byte offsets.
    lines: Vec<usize>,
    /// The number of characters, if the text does not end with a line break.
    unended: Option<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let unended = (!text.ends_with(['\n', '\r'])).then(|| text.chars().count());
        Self { text, lines: std::iter::once(0).chain(starts).collect(), unended }
    }

    /// The text from a place on.
    fn from(&self, span: Span) -> &'a str {
        let line = usize::try_from(span.line).unwrap_or(0).saturating_sub(1);
        let rest = self.lines.get(line).and_then(|start| self.text.get(*start..)).unwrap_or_default();
        let skip = usize::try_from(span.col).unwrap_or(0).saturating_sub(1);
        rest.char_indices().nth(skip).map(|(at, _)| &rest[at..]).unwrap_or_default()
    }

    /// Where an empty value is: after the sign that announces it.
    pub(super) fn empty_value(&self, span: Span) -> Span {
        if self.from(span).starts_with([':', '-', '?']) { Span::new(span.line, span.col + 1) } else { span }
    }

    /// Where a block text is: at its header (or at the tag before it), not at its first line. It is
    /// the first thing after `previous` that is no comment and no sign of a collection.
    pub(super) fn block_header(&self, previous: Span, content: Span) -> Span {
        let mut place = previous;
        let mut in_comment = false;
        let mut chars = self.from(previous).chars().peekable();
        while let Some(c) = chars.next() {
            let before_space = chars.peek().is_none_or(|next| next.is_whitespace());
            match c {
                '\n' => {
                    in_comment = false;
                    place = Span::new(place.line + 1, 1);
                    continue;
                }
                '#' => in_comment = true,
                _ if in_comment || c.is_whitespace() => {}
                ':' | '-' | '?' if before_space => {}
                '"' | '\'' if place == previous => {}
                _ => return place,
            }
            if place > content {
                break;
            }
            place.col += 1;
        }
        content
    }

    /// Does a text that ends at this character end with the file, in a line without line break?
    pub(super) fn ends_unended(&self, index: usize) -> bool {
        self.unended.is_some_and(|chars| index >= chars)
    }
}
