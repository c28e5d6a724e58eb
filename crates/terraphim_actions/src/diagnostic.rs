//! What is said about a workflow file: errors and warnings, each at its own place.

use crate::span::Span;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// GitHub refuses the file.
    Error,
    /// Legal, but surely not what was meant.
    Warning,
    /// Worth knowing.
    Info,
}

/// One finding about a workflow or action file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: Arc<str>,
    /// Line, from 1; 0 if the finding is about the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 if the finding is about the whole file.
    pub col: u32,
    /// GitHub's wording, without the place.
    pub message: String,
    /// What to do about it, if known.
    pub hint: Option<String>,
    /// For an error in a called workflow: the calls that led there, innermost first, in GitHub's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub called_from: Vec<String>,
}

impl Diagnostic {
    /// An error at `span` of `file`.
    pub fn error(file: &Arc<str>, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: Arc::clone(file),
            line: span.line,
            col: span.col,
            message: message.into(),
            hint: None,
            called_from: Vec::new(),
        }
    }

    /// The same finding with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is.
    #[must_use]
    pub fn span(&self) -> Span {
        Span::new(self.line, self.col)
    }
}

/// Prints GitHub's form: `path (Line: 3, Col: 5): text`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in self.called_from.iter().rev() {
            write!(f, "{call} ")?;
        }
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
        }
        if self.line > 0 {
            let gap = if self.file.is_empty() { "" } else { " " };
            write!(f, "{gap}(Line: {}, Col: {})", self.line, self.col)?;
        }
        if !self.file.is_empty() || self.line > 0 {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}
