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

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl Diagnostic {
    /// The finding for people: what, where, the line of `text` (the file) with a caret, and the hint.
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let mut out = format!("{}: {}\n", self.severity.name(), self.message);
        for call in &self.called_from {
            out.push_str(&format!("  {call}\n"));
        }
        let line = usize::try_from(self.line).unwrap_or(0);
        if line == 0 {
            out.push_str(&format!("  --> {}\n", self.file));
        } else {
            out.push_str(&format!("  --> {}:{}:{}\n", self.file, self.line, self.col));
        }
        if let Some(source) = line.checked_sub(1).and_then(|index| text.lines().nth(index)) {
            let number = self.line.to_string();
            let gap = " ".repeat(number.len());
            // A tab stays one, so that the caret stands below its character.
            let col = usize::try_from(self.col).unwrap_or(1).saturating_sub(1);
            let before = source.chars().take(col).map(|c| if c == '\t' { '\t' } else { ' ' });
            let before: String = before.collect();
            out.push_str(&format!("{gap} |\n{number} | {source}\n{gap} | {before}^\n"));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("  hint: {hint}\n"));
        }
        out
    }

    /// The finding as a workflow command, which GitHub shows as an annotation of the file.
    #[must_use]
    pub fn annotation(&self) -> String {
        let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
        let command = if self.severity == Severity::Info { "notice" } else { self.severity.name() };
        let mut place = format!("file={}", property(&self.file));
        if self.line > 0 {
            place.push_str(&format!(",line={},col={}", self.line, self.col));
        }
        format!("::{command} {place}::{}", escape(&self.message))
    }
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line() {
        let file: Arc<str> = Arc::from("w.yml");
        let text = "on: push\n\tjobs: x\n";
        let found =
            Diagnostic::error(&file, Span::new(2, 8), "A mapping was expected").with_hint("Write one");
        let expected = "\
error: A mapping was expected
  --> w.yml:2:8
  |
2 | \tjobs: x
  | \t      ^
  hint: Write one
";
        assert_eq!(found.render(text), expected);
        assert_eq!(found.annotation(), "::error file=w.yml,line=2,col=8::A mapping was expected");
        assert_eq!(found.to_string(), "w.yml (Line: 2, Col: 8): A mapping was expected");
    }
}
