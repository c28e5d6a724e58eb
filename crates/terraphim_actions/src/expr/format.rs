//! The `format` function: `{0}` stands for an argument, `{{` and `}}` for braces.

use super::error::ExprError;

/// A piece of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text.
    Text(String),
    /// The argument with this index, and what follows a colon in the braces.
    Arg(usize, String),
}

/// Cuts a format string to pieces; `args` is the number of arguments there are.
pub(crate) fn pieces(format: &str, args: usize) -> Result<Vec<Piece>, ExprError> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(brace) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(brace);
        let doubled = tail.starts_with("{{") || tail.starts_with("}}");
        if doubled {
            pieces.push(Piece::Text(format!("{text}{}", &tail[..1])));
            rest = &tail[2..];
            continue;
        }
        let Some((index, specifiers, after)) = read_arg(tail) else {
            return Err(invalid(format));
        };
        if index >= args {
            return Err(ExprError::evaluation(format!(
                "The following format string references more arguments than were supplied: {format}"
            )));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        pieces.push(Piece::Arg(index, specifiers));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn invalid(format: &str) -> ExprError {
    ExprError::evaluation(format!("The following format string is invalid: {format}"))
}

/// Reads `{index}` or `{index:specifiers}` at the start of `text`.
fn read_arg(text: &str) -> Option<(usize, String, &str)> {
    let inner = text.strip_prefix('{')?;
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let index: u8 = inner[..digits].parse().ok()?;
    let tail = &inner[digits..];
    if let Some(after) = tail.strip_prefix('}') {
        return Some((usize::from(index), String::new(), after));
    }
    let mut specifiers = String::new();
    let mut rest = tail.strip_prefix(':')?;
    loop {
        let end = rest.find('}')?;
        specifiers.push_str(&rest[..end]);
        match rest[end + 1..].strip_prefix('}') {
            Some(after) => {
                specifiers.push('}');
                rest = after;
            }
            None => return Some((usize::from(index), specifiers, &rest[end + 1..])),
        }
    }
}
