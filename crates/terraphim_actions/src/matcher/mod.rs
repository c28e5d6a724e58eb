//! Problem matchers: patterns that find messages of tools in the output of a step.
//!
//! The format is that of `actions/runner`, docs/adrs/0276-problem-matchers.md: a JSON file with a list of matchers,
//! each with an owner, a default severity, and one pattern or several that match lines that follow each other.
//! [`parse`] reads such a file, [`Matchers`] looks at the lines of one step.

mod file;
mod lines;
mod pattern;

pub use file::{MatcherError, parse};
pub use lines::{Found, Look, Matchers, Severity};
pub use pattern::Pattern;

use std::sync::Arc;

/// A problem matcher.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Who it belongs to; a new one replaces those of the same owner, whatever the case.
    pub owner: String,
    /// What a message is that says nothing about it.
    pub severity: Option<String>,
    /// What lines that follow each other look like; at least one.
    pub patterns: Arc<[Pattern]>,
}
