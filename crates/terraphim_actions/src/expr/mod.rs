//! The expressions inside `${{ }}`: parsing, checking, evaluating.
//!
//! [`parse`] turns text to an [`Expr`], refusing contexts and functions that its place does not
//! allow ([`Allowed`]). [`Expr::evaluate`] gives its [`Value`] in a [`Scope`] of contexts and
//! [`Functions`].

mod allowed;
mod ast;
mod batch;
mod compare;
mod error;
mod eval;
pub(crate) mod fold;
pub(crate) mod format;
mod functions;
mod json;
mod lexer;
pub(crate) mod memory;
pub(crate) mod number;
mod parser;
mod value;

pub use allowed::Allowed;
pub use ast::{Comparison, Expr, Node, quote};
pub use batch::{answer, batch_line, evaluate};
pub use compare::equal;
pub use error::{ErrorKind, ExprError};
pub use eval::Scope;
pub use functions::{Function, Functions, NoFunctions};
pub use json::from_json;
pub(crate) use lexer::is_keyword;
pub use value::{Array, Kind, Object, Value};

/// The deepest expression.
pub const MAX_DEPTH: usize = 50;
/// The longest expression, in UTF-16 units.
pub const MAX_LENGTH: usize = 21_000;
/// The most memory an evaluation may hold unless its [`Scope`] says otherwise.
pub const MAX_MEMORY: usize = 1_048_576;

/// Parses an expression; text without any token gives `None`.
///
/// # Errors
/// If the text is no expression, or names what `allowed` does not have.
pub fn parse(text: &str, allowed: &Allowed) -> Result<Option<Expr>, ExprError> {
    parser::parse(text, allowed)
}
