//! Errors of expressions.

use std::fmt;

/// In which stage an expression failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text holds something that is no token.
    Lexing,
    /// The tokens make no expression, or name what is not there.
    Parsing,
    /// The expression is fine, its values are not.
    Evaluation,
}

impl ErrorKind {
    /// The word for it: `lexing`, `parsing` or `evaluation`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lexing => "lexing",
            Self::Parsing => "parsing",
            Self::Evaluation => "evaluation",
        }
    }
}

/// Why an expression could not be parsed or evaluated. Prints GitHub's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ExprError {
    /// The stage.
    pub kind: ErrorKind,
    /// GitHub's text, with the position where it gives one.
    pub message: String,
    /// Where in the expression, in UTF-16 units from 1, as GitHub counts.
    pub position: Option<usize>,
    /// Set if the error is that a value is not known yet (see [`super::Functions::hash_files`]).
    pub pending: bool,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ExprError {
    /// An error of evaluation.
    pub fn evaluation(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Evaluation, message: message.into(), position: None, pending: false }
    }

    /// The value that a function stands for is not known yet; ask again later.
    #[must_use]
    pub fn not_known_yet(what: &str) -> Self {
        Self { pending: true, ..Self::evaluation(format!("{what} is not known yet")) }
    }

    pub(super) fn plain(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None, pending: false }
    }

    /// An error about the text `raw` at byte `at` of `source`.
    pub(super) fn at(kind: ErrorKind, what: &str, raw: &str, at: usize, source: &str) -> Self {
        let position = source[..at].encode_utf16().count() + 1;
        Self {
            kind,
            message: format!("{what}: '{raw}'. Located at position {position} within expression: {source}"),
            position: Some(position),
            pending: false,
        }
    }
}
