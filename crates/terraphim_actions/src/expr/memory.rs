//! The account of how much memory an evaluation holds. The measure is GitHub's: a string is 26 bytes
//! and two for each UTF-16 unit, anything else 24.

use super::ast::Node;
use super::error::ExprError;
use super::value::Value;

const MIN_OBJECT: usize = 24;
const STRING_OVERHEAD: usize = 26;
/// An item of a filtered array.
pub(super) const ITEM: usize = 8;

/// The length of a text in UTF-16 units, as GitHub counts.
pub(crate) fn utf16_len(text: &str) -> usize {
    // Of ASCII text the bytes are the units, and finding that out is much cheaper than counting.
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

pub(super) fn string_bytes(text: &str) -> usize {
    STRING_OVERHEAD + 2 * utf16_len(text)
}

pub(super) fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Str(text) => string_bytes(text),
        _ => MIN_OBJECT,
    }
}

/// What every level of the tree holds at the moment.
pub(super) struct Memory {
    levels: Vec<usize>,
    total: usize,
    max: usize,
}

impl Memory {
    pub(super) fn new(max: usize) -> Self {
        Self { levels: Vec::new(), total: 0, max }
    }

    /// Books `bytes` at `level`. With `trim`, what deeper levels held is free again: it went into
    /// this result.
    pub(super) fn add(
        &mut self,
        level: usize,
        bytes: usize,
        trim: bool,
        root: &Node,
    ) -> Result<(), ExprError> {
        if trim && self.levels.len() > level + 1 {
            let freed: usize = self.levels.drain(level + 1..).sum();
            self.total -= freed;
        }
        if self.levels.len() <= level {
            self.levels.resize(level + 1, 0);
        }
        self.levels[level] += bytes;
        self.total += bytes;
        if self.total > self.max { Err(exceeded(root)) } else { Ok(()) }
    }

    /// An account of its own for the text one function builds.
    pub(super) fn counter<'a>(&self, node: &'a Node) -> Counter<'a> {
        Counter { bytes: 0, max: self.max, node }
    }
}

/// The bytes that one function has built so far.
pub(super) struct Counter<'a> {
    bytes: usize,
    max: usize,
    node: &'a Node,
}

impl Counter<'_> {
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), ExprError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max { Err(exceeded(self.node)) } else { Ok(()) }
    }

    pub(super) fn add_text(&mut self, text: &str) -> Result<(), ExprError> {
        self.add(string_bytes(text))
    }

    pub(super) fn add_object(&mut self) -> Result<(), ExprError> {
        self.add(MIN_OBJECT)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn exceeded(node: &Node) -> ExprError {
    ExprError::evaluation(format!(
        "The maximum allowed memory size was exceeded while evaluating the following expression: {node}"
    ))
}
