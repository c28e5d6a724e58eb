//! Comparing strings without regard to case, as .NET's `OrdinalIgnoreCase` does: each character is
//! mapped to its simple upper case, then UTF-16 code units are compared.

use std::borrow::Cow;
use std::cmp::Ordering;

/// The simple (one to one) upper case of a character.
fn upper(c: char) -> char {
    match c {
        // .NET leaves these two alone, so that no Turkish or old letter equals an ASCII one.
        '\u{131}' | '\u{17f}' => c,
        // Greek with iota subscript: the full mapping has two letters, the simple one is the title case.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(c) + 8).unwrap_or(c)
        }
        '\u{1fb3}' => '\u{1fbc}',
        '\u{1fc3}' => '\u{1fcc}',
        '\u{1ff3}' => '\u{1ffc}',
        _ => {
            let mut mapped = c.to_uppercase();
            match (mapped.next(), mapped.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        }
    }
}

/// The text with every character in simple upper case.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            Cow::Owned(text.to_ascii_uppercase())
        } else {
            Cow::Borrowed(text)
        }
    } else {
        Cow::Owned(text.chars().map(upper).collect())
    }
}

/// Are the two equal but for case?
pub(crate) fn eq(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        return left.eq_ignore_ascii_case(right);
    }
    left.chars().map(upper).eq(right.chars().map(upper))
}

/// Orders the two by their upper-cased UTF-16 code units.
pub(crate) fn cmp(left: &str, right: &str) -> Ordering {
    if left.is_ascii() && right.is_ascii() {
        let upper = |b: u8| b.to_ascii_uppercase();
        return left.bytes().map(upper).cmp(right.bytes().map(upper));
    }
    let units = |text: &str| fold(text).encode_utf16().collect::<Vec<_>>();
    units(left).cmp(&units(right))
}

/// Is `needle` a part of `text`, but for case?
pub(crate) fn contains(text: &str, needle: &str) -> bool {
    fold(text).contains(fold(needle).as_ref())
}

/// Does `text` start with `prefix`, but for case?
pub(crate) fn starts_with(text: &str, prefix: &str) -> bool {
    fold(text).starts_with(fold(prefix).as_ref())
}

/// Does `text` end with `suffix`, but for case?
pub(crate) fn ends_with(text: &str, suffix: &str) -> bool {
    fold(text).ends_with(fold(suffix).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_simple_and_without_turkish() {
        assert!(eq("straße", "STRAßE"));
        assert!(!eq("ß", "SS"));
        assert!(!eq("ı", "I"));
        assert!(!eq("İ", "i"));
        assert!(eq("σ", "ς"));
        assert!(eq("\u{1f80}", "\u{1f88}"));
    }

    #[test]
    fn order_is_by_upper_case() {
        assert_eq!(cmp("a", "["), Ordering::Less);
        assert_eq!(cmp("B", "a"), Ordering::Greater);
        // A surrogate pair comes before U+FF5E, though its code point is higher.
        assert_eq!(cmp("\u{1f600}", "\u{ff5e}"), Ordering::Less);
    }
}
