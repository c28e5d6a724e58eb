//! Output as a person would see it: without what only a terminal reads.

use std::borrow::Cow;

/// A line without escape sequences and control characters; of text that was overwritten by a carriage return, what
/// stayed.
pub(in crate::learning) fn clean_line(line: &str) -> Cow<'_, str> {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    if !line.chars().any(char::is_control) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.peek() {
                // CSI: parameters, then a letter or one of `@~`.
                Some('[') => {
                    chars.next();
                    let _ = chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
                // OSC (titles, links): up to BEL or ESC \.
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            chars.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                _ => {
                    chars.next();
                }
            },
            c if c.is_control() => clean.push(' '),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// What log writers put before a line: times and levels.
pub(in crate::learning) fn without_prefix(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some(inner) = rest.strip_prefix('[') {
        let Some((tag, after)) = inner.split_once(']') else { break };
        let is_time = tag.starts_with(|c: char| c.is_ascii_digit());
        if tag.len() > 40 || !(is_time || ["ERROR", "error", "ERR", "FATAL"].contains(&tag)) {
            break;
        }
        rest = after.trim_start();
    }
    let stamp = rest.split(' ').next().unwrap_or("");
    let looks_like_time =
        stamp.len() >= 8 && stamp.starts_with(|c: char| c.is_ascii_digit()) && stamp.contains(':');
    if looks_like_time { rest[stamp.len()..].trim_start() } else { rest }
}
