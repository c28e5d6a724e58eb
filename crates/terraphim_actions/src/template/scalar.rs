//! Texts with `${{ }}` in them.

use super::Node;
use crate::expr::{self, Allowed, Expr, ExprError};
use std::fmt::Write;
use std::sync::Arc;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A piece of a text.
enum Segment<'a> {
    Text(&'a str),
    /// An expression, trimmed.
    Expr(Arc<Expr>),
    Insert,
}

/// A text of a file as literal or expression. Text around expressions becomes a call of `format`,
/// so that there is one expression in the end.
///
/// # Errors
/// GitHub's message.
pub(super) fn parse(raw: &str, allowed: &Allowed) -> Result<Node, String> {
    if !raw.contains(OPEN) {
        return Ok(Node::Str(Arc::from(raw)));
    }
    let mut segments = split(raw, allowed)?;
    if segments.len() == 1 {
        match segments.remove(0) {
            Segment::Expr(expr) => {
                return Ok(match string_literal(expr.source()) {
                    Some(text) => Node::Str(Arc::from(text)),
                    None => Node::Expr(expr),
                });
            }
            Segment::Insert => return Ok(Node::Insert),
            Segment::Text(text) => return Ok(Node::Str(Arc::from(text))),
        }
    }
    join(&segments, allowed)
}

fn split<'a>(raw: &'a str, allowed: &Allowed) -> Result<Vec<Segment<'a>>, String> {
    let mut segments = Vec::new();
    let mut rest = raw;
    while let Some(start) = rest.find(OPEN) {
        if start > 0 {
            segments.push(Segment::Text(&rest[..start]));
        }
        let inner = &rest[start + OPEN.len()..];
        let end = closing(inner).ok_or(
            "The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found.",
        )?;
        rest = &inner[end + CLOSE.len()..];
        let text = inner[..end].trim();
        let segment = match known(&segments, text) {
            Some(expr) => Segment::Expr(expr),
            None => segment(text, allowed)?,
        };
        if matches!(segment, Segment::Insert) && !(segments.is_empty() && rest.is_empty()) {
            return Err("The directive 'insert' is not allowed in this context. Directives are not supported for \
                 expressions that are embedded within a string. Directives are only supported when the entire value \
                 is an expression."
                .to_owned());
        }
        segments.push(segment);
    }
    if !rest.is_empty() {
        segments.push(Segment::Text(rest));
    }
    Ok(segments)
}

/// The same expression a little before in the same text: scripts repeat theirs, and parsing is most of reading a file.
fn known(segments: &[Segment<'_>], text: &str) -> Option<Arc<Expr>> {
    const NEAR: usize = 16;
    segments.iter().rev().take(NEAR).find_map(|segment| match segment {
        Segment::Expr(expr) if expr.source() == text => Some(Arc::clone(expr)),
        _ => None,
    })
}

/// Where the `}}` is that closes an expression; one inside a string literal does not.
fn closing(text: &str) -> Option<usize> {
    let mut in_string = false;
    let mut previous = None;
    for (index, byte) in text.bytes().enumerate() {
        if byte == b'\'' {
            in_string = !in_string;
        } else if !in_string && byte == b'}' && previous == Some(b'}') {
            return Some(index - 1);
        }
        previous = Some(byte);
    }
    None
}

fn segment<'a>(text: &str, allowed: &Allowed) -> Result<Segment<'a>, String> {
    if text.is_empty() {
        return Err("An expression was expected".to_owned());
    }
    if let Some(rest) = text.strip_prefix("insert")
        && (rest.is_empty() || rest.starts_with(char::is_whitespace))
    {
        return match rest.split_whitespace().count() {
            0 => Ok(Segment::Insert),
            count => Err(format!(
                "Exactly 0 parameter(s) were expected following the directive 'insert'. Actual parameter count: {count}"
            )),
        };
    }
    checked(text, allowed).map(Segment::Expr)
}

fn checked(text: &str, allowed: &Allowed) -> Result<Arc<Expr>, String> {
    match expr::parse(text, allowed).map_err(|error: ExprError| error.message)? {
        Some(expr) => Ok(Arc::new(expr)),
        None => Err("An expression was expected".to_owned()),
    }
}

/// The value of an expression that is one string literal, such as `'{{ kept }}'`.
fn string_literal(source: &str) -> Option<String> {
    let inner = source.strip_prefix('\'')?.strip_suffix('\'')?;
    let unescaped = inner.replace("''", "");
    if unescaped.contains('\'') { None } else { Some(inner.replace("''", "'")) }
}

/// One `format` call for all segments.
fn join(segments: &[Segment<'_>], allowed: &Allowed) -> Result<Node, String> {
    /// The most arguments of `format`, beside its template.
    const MAX_ARGS: usize = 254;
    let mut template = String::new();
    let mut args = Vec::new();
    for segment in segments {
        match segment {
            Segment::Text(text) => template.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Segment::Expr(expr) => {
                // Writing to a string cannot fail.
                let _ = write!(template, "{{{}}}", args.len());
                args.push(Arc::clone(expr));
            }
            Segment::Insert => {}
        }
    }
    let mut source = format!("format({}", expr::quote(&template));
    for arg in &args {
        source.push_str(", ");
        source.push_str(arg.source());
    }
    source.push(')');
    let call = if args.len() <= MAX_ARGS { Expr::format_call(&template, &args, &source) } else { None };
    match call {
        Some(call) => Ok(Node::Expr(Arc::new(call))),
        // Parsing it says what is wrong.
        None => checked(&source, allowed).map(Node::Expr),
    }
}
