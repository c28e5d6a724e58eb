//! Secrets of property tests, the ways in which they are written, and what of them nobody may see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

/// In how many ways [`encoded`] writes a secret.
pub(crate) const ENCODINGS: usize = 6;

/// A secret of one or more lines: `first` and `last` are the characters, as expressions have them in brackets, that may be
/// around what tells it from other texts. Shorter ones than this are parts of words, and show wherever those do.
pub(crate) fn secret(first: &str, last: &str) -> impl Strategy<Value = String> + use<> {
    let line = format!("[{first}]{{0,3}}[A-Z][0-9]{{4}}[a-z]{{4}}[{last}]{{0,6}}");
    let line = proptest::string::string_regex(&line).expect("a regular expression");
    proptest::collection::vec(line, 1..3).prop_map(|lines| lines.join("\n"))
}

/// The secret as programs write it.
pub(crate) fn encoded(secret: &str, how: usize) -> String {
    match how % ENCODINGS {
        0 => secret.to_owned(),
        1 => STANDARD.encode(secret),
        2 => STANDARD.encode(format!("x:{secret}")),
        3 => json(secret),
        4 => secret
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect(),
        _ => secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
    }
}

/// What of a secret nobody may see: each line without the blanks around it, as it is, as JSON has it, and as base64 of the
/// whole.
pub(crate) fn forbidden(secret: &str) -> Vec<String> {
    let lines = secret.lines().map(|line| line.trim().to_owned());
    let both = |line: String| {
        let quoted = json(&line);
        [quoted[1..quoted.len() - 1].to_owned(), line]
    };
    lines.flat_map(both).chain([STANDARD.encode(secret.trim())]).collect()
}

/// Secrets at many places of a text: each piece is the number of a secret, how it is written, and what stands before it.
pub(crate) fn text(secrets: &[String], pieces: &[(usize, usize, usize)], before: &[&str]) -> String {
    let mut text = String::new();
    for (secret, how, place) in pieces {
        text += before[place % before.len()];
        text += &encoded(&secrets[secret % secrets.len()], *how);
        text += if place % 3 == 0 { "::after\n" } else { " " };
    }
    text
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
