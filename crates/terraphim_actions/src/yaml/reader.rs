//! A cursor over the events of a document. An alias replays the events of its anchor, so that what
//! is said about them points at the anchor.

use super::scalar::{Scalar, Style, Written};
use super::source::Source;
use crate::span::Span;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::HashMap;

/// The most nodes read from one file, counting those that aliases repeat.
const MAX_NODES: usize = 50_000;

/// What stops the reading of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct YamlError {
    /// The text, with the place in GitHub's form where the scanner gives one.
    pub(crate) message: String,
    /// The place, where the scanner gives one.
    pub(crate) span: Span,
    /// What to do about it, if known.
    pub(crate) hint: Option<&'static str>,
}

impl YamlError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Span::default(), hint: None }
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar { text: String, style: Style, tag: Option<String> },
    SequenceStart,
    SequenceEnd,
    MappingStart,
    MappingEnd,
    Alias(usize),
    StreamStart,
    DocumentStart,
    DocumentEnd,
    StreamEnd,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    span: Span,
}

/// Where an alias is being replayed, and how deep inside its node.
struct Replay {
    index: usize,
    depth: usize,
}

/// The cursor.
pub(crate) struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    source: Source<'a>,
    /// Where the event before the next one ended.
    last_end: Span,
    events: Vec<Node>,
    anchors: HashMap<usize, usize>,
    replays: Vec<Replay>,
    current: Option<usize>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// A cursor before the first event of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        // A byte order mark is no content.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            parser: Parser::new_from_str(text),
            source: Source::new(text),
            last_end: Span::new(1, 1),
            events: Vec::new(),
            anchors: HashMap::new(),
            replays: Vec::new(),
            current: None,
            nodes: 0,
        }
    }

    /// Moves past the start of the document.
    pub(crate) fn start(&mut self) -> Result<(), YamlError> {
        self.advance()?;
        self.expect(|kind| matches!(kind, Kind::StreamStart), "Expected stream start parse event")?;
        if matches!(self.kind(), Some(Kind::StreamEnd)) {
            return Err(YamlError {
                message: "The file is empty, or all of it is comments".to_owned(),
                span: Span::new(1, 1),
                hint: Some("A workflow has `on` and `jobs`, an action has `name`, `description` and `runs`"),
            });
        }
        self.expect(|kind| matches!(kind, Kind::DocumentStart), "Expected document start parse event")
    }

    /// Checks that the document ends here and no other follows.
    pub(crate) fn end(&mut self) -> Result<(), YamlError> {
        self.expect(|kind| matches!(kind, Kind::DocumentEnd), "Expected document end parse event")?;
        match self.kind() {
            Some(Kind::StreamEnd) => Ok(()),
            Some(Kind::DocumentStart) => Err(YamlError {
                message: "The file has more than one YAML document".to_owned(),
                span: self.current.map(|index| self.events[index].span).unwrap_or_default(),
                hint: Some("Remove the line `---`, or make what follows it a file of its own"),
            }),
            _ => Err(YamlError::new("Expected stream end parse event")),
        }
    }

    /// Takes a scalar, if one is next.
    pub(crate) fn scalar(&mut self) -> Result<Option<(Scalar, Span)>, YamlError> {
        let Some(node) = self.current.map(|index| &self.events[index]) else { return Ok(None) };
        let Kind::Scalar { text, style, tag } = &node.kind else { return Ok(None) };
        let span = node.span;
        let written = Written { text, tag: tag.as_deref(), style: *style, line: span.line, col: span.col };
        let value = written.resolve().map_err(YamlError::new)?;
        self.advance()?;
        Ok(Some((value, span)))
    }

    /// Takes the start of a sequence, if it is next.
    pub(crate) fn sequence_start(&mut self) -> Result<Option<Span>, YamlError> {
        self.take(|kind| matches!(kind, Kind::SequenceStart))
    }

    /// Takes the end of a sequence, if it is next.
    pub(crate) fn sequence_end(&mut self) -> Result<bool, YamlError> {
        Ok(self.take(|kind| matches!(kind, Kind::SequenceEnd))?.is_some())
    }

    /// Takes the start of a mapping, if it is next.
    pub(crate) fn mapping_start(&mut self) -> Result<Option<Span>, YamlError> {
        self.take(|kind| matches!(kind, Kind::MappingStart))
    }

    /// Takes the end of a mapping, if it is next.
    pub(crate) fn mapping_end(&mut self) -> Result<bool, YamlError> {
        Ok(self.take(|kind| matches!(kind, Kind::MappingEnd))?.is_some())
    }

    fn kind(&self) -> Option<&Kind> {
        self.current.map(|index| &self.events[index].kind)
    }

    fn take(&mut self, is: impl Fn(&Kind) -> bool) -> Result<Option<Span>, YamlError> {
        let Some(index) = self.current.filter(|index| is(&self.events[*index].kind)) else {
            return Ok(None);
        };
        let span = self.events[index].span;
        self.advance()?;
        Ok(Some(span))
    }

    fn expect(&mut self, is: impl Fn(&Kind) -> bool, what: &str) -> Result<(), YamlError> {
        match self.take(is)? {
            Some(_) => Ok(()),
            None => Err(YamlError::new(what)),
        }
    }

    fn advance(&mut self) -> Result<(), YamlError> {
        self.leave_replay();
        let mut index = match self.replays.last_mut() {
            Some(replay) => {
                replay.index += 1;
                replay.index
            }
            None => self.parse_event()?,
        };
        if let Kind::Alias(anchor) = self.events[index].kind {
            let Some(target) = self.anchors.get(&anchor) else {
                return Err(YamlError::new("Unknown anchor"));
            };
            index = *target;
            self.replays.push(Replay { index, depth: 0 });
        }
        self.current = Some(index);
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(YamlError::new("Maximum YAML nodes exceeded")) } else { Ok(()) }
    }

    /// Before moving on: ends the replay whose node is complete with the current event.
    fn leave_replay(&mut self) {
        let Some(current) = self.current else { return };
        let Some(replay) = self.replays.last_mut() else { return };
        match self.events[current].kind {
            Kind::SequenceStart | Kind::MappingStart => replay.depth += 1,
            Kind::SequenceEnd | Kind::MappingEnd => {
                replay.depth = replay.depth.saturating_sub(1);
                if replay.depth == 0 {
                    self.replays.pop();
                }
            }
            Kind::Scalar { .. } if replay.depth == 0 => {
                self.replays.pop();
            }
            _ => {}
        }
    }

    /// Reads the next event of the text and keeps it for aliases.
    fn parse_event(&mut self) -> Result<usize, YamlError> {
        let (event, span) = match self.parser.next_event() {
            Some(Ok(found)) => found,
            Some(Err(error)) => return Err(scan_error(&error)),
            None => return Err(YamlError::new("Expected a parse event")),
        };
        let (mut kind, anchor) = convert(event)?;
        let mut place = place(span.start);
        if let Kind::Scalar { text, style, tag } = &mut kind {
            match style {
                Style::Plain if text.is_empty() && tag.is_none() && anchor == 0 => {
                    place = self.source.empty_value(place);
                }
                Style::Literal | Style::Folded => {
                    place = self.source.block_header(self.last_end, place);
                    if text.ends_with('\n') && self.source.ends_unended(span.end.index()) {
                        text.pop();
                    }
                }
                _ => {}
            }
        }
        self.last_end = self::place(span.end);
        let index = self.events.len();
        self.events.push(Node { kind, span: place });
        if anchor != 0 {
            self.anchors.insert(anchor, index);
        }
        Ok(index)
    }
}

fn place(marker: saphyr_parser::Marker) -> Span {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span::new(number(marker.line()), number(marker.col() + 1))
}

fn scan_error(error: &saphyr_parser::ScanError) -> YamlError {
    YamlError { message: error.info().to_owned(), span: place(*error.marker()), hint: None }
}

/// An event of the scanner as one of ours, and its anchor (0 for none).
fn convert(event: Event<'_>) -> Result<(Kind, usize), YamlError> {
    let tag_name = |tag: std::borrow::Cow<'_, Tag>| format!("{}{}", tag.handle, tag.suffix);
    Ok(match event {
        Event::Scalar(text, style, anchor, tag) => {
            let style = match style {
                ScalarStyle::Plain => Style::Plain,
                ScalarStyle::SingleQuoted => Style::SingleQuoted,
                ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                ScalarStyle::Literal => Style::Literal,
                ScalarStyle::Folded => Style::Folded,
            };
            (Kind::Scalar { text: text.into_owned(), style, tag: tag.map(tag_name) }, anchor)
        }
        Event::SequenceStart(anchor, _) => (Kind::SequenceStart, anchor),
        Event::MappingStart(anchor, _) => (Kind::MappingStart, anchor),
        Event::SequenceEnd => (Kind::SequenceEnd, 0),
        Event::MappingEnd => (Kind::MappingEnd, 0),
        Event::Alias(anchor) => (Kind::Alias(anchor), 0),
        Event::StreamStart => (Kind::StreamStart, 0),
        Event::StreamEnd => (Kind::StreamEnd, 0),
        Event::DocumentStart(_) => (Kind::DocumentStart, 0),
        Event::DocumentEnd => (Kind::DocumentEnd, 0),
        Event::Nothing => return Err(YamlError::new("Unexpected parsing event type: Nothing")),
    })
}
