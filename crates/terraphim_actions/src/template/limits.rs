//! Errors and limits while a file is read.

use super::{Node, Template};
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use std::sync::Arc;

/// The most errors that are reported.
const MAX_ERRORS: usize = 10;
/// The longest message, in characters.
const MAX_MESSAGE: usize = 500;
const MIN_OBJECT: usize = 24;
const STRING_OVERHEAD: usize = 26;

/// What stops the reading: nothing more can be said about the file.
#[derive(Clone, Debug)]
pub(crate) struct Fatal {
    pub(crate) message: String,
    pub(crate) span: Span,
    /// What to do about it, if known.
    pub(crate) hint: Option<&'static str>,
}

impl Fatal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Span::default(), hint: None }
    }
}

impl From<crate::yaml::YamlError> for Fatal {
    fn from(error: crate::yaml::YamlError) -> Self {
        Self { message: error.message, span: error.span, hint: error.hint }
    }
}

/// Names of the files, what was found in them, and what they have cost so far.
pub(crate) struct Limits {
    pub(crate) files: Vec<Arc<str>>,
    pub(crate) errors: Vec<Diagnostic>,
    bytes: usize,
    max_bytes: usize,
    depth: usize,
    max_depth: usize,
}

impl Limits {
    pub(crate) fn new(max_depth: usize, max_bytes: usize) -> Self {
        Self { files: Vec::new(), errors: Vec::new(), bytes: 0, max_bytes, depth: 0, max_depth }
    }

    /// The index of a file, adding it if it is new.
    pub(crate) fn file(&mut self, path: &str) -> Result<usize, Fatal> {
        if let Some(index) = self.files.iter().position(|file| file.eq_ignore_ascii_case(path)) {
            return Ok(index);
        }
        self.files.push(Arc::from(path));
        self.add_text(path)?;
        Ok(self.files.len() - 1)
    }

    pub(crate) fn error(&mut self, file: usize, span: Span, message: impl Into<String>) {
        self.error_with(file, span, message, None);
    }

    pub(crate) fn error_with(
        &mut self,
        file: usize,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let name = self.files.get(file).cloned().unwrap_or_else(|| Arc::from(""));
        let mut error = Diagnostic::error(&name, span, message);
        let place = error.to_string().chars().count() - error.message.chars().count();
        // The limit holds for the line as printed, place included.
        error.message = shorten(error.message, MAX_MESSAGE.saturating_sub(place));
        error.hint = hint;
        self.errors.push(error);
    }

    pub(crate) fn error_at(&mut self, template: &Template, message: impl Into<String>) {
        self.error(template.file, template.span, message);
    }

    pub(crate) fn fatal(&mut self, file: usize, fatal: Fatal) {
        self.error_with(file, fatal.span, fatal.message, fatal.hint.map(str::to_owned));
    }

    pub(crate) fn enter(&mut self) -> Result<(), Fatal> {
        self.depth += 1;
        if self.depth > self.max_depth { Err(Fatal::new("Maximum object depth exceeded")) } else { Ok(()) }
    }

    pub(crate) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn add_text(&mut self, text: &str) -> Result<(), Fatal> {
        self.add_bytes(STRING_OVERHEAD + 2 * crate::expr::memory::utf16_len(text))
    }

    fn add_bytes(&mut self, bytes: usize) -> Result<(), Fatal> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max_bytes { Err(Fatal::new("Maximum object size exceeded")) } else { Ok(()) }
    }

    /// Books a value by GitHub's measure.
    pub(crate) fn add(&mut self, node: &Node) -> Result<(), Fatal> {
        self.add_bytes(MIN_OBJECT)?;
        match node {
            Node::Str(text) => self.add_text(text),
            Node::Expr(expr) => self.add_text(expr.source()),
            _ => Ok(()),
        }
    }
}

/// Cuts a message that is too long.
fn shorten(message: String, max: usize) -> String {
    match message.char_indices().nth(max) {
        Some((end, _)) => format!("{}[...]", &message[..end]),
        None => message,
    }
}
