//! The forms a secret takes when programs print it.

use std::fmt::Write;

/// Every form of `secret` but itself.
pub(super) fn forms(secret: &str) -> Vec<String> {
    let mut forms = base64_forms(secret.as_bytes());
    forms.extend([
        secret.replace('"', "\\\""),
        secret.replace('\'', "''"),
        json(secret),
        uri(secret),
        xml(secret),
    ]);
    forms.extend(inside_quotes(secret).map(str::to_owned));
    forms.extend(powershell(secret));
    forms.retain(|form| !form.is_empty() && form != secret);
    forms
}

/// Base64 of the secret and of the secret without its first or first two bytes: one of the three is
/// part of the base64 of any text that holds the secret. Each is there as it stands alone and
/// without the end that depends on what follows.
fn base64_forms(bytes: &[u8]) -> Vec<String> {
    /// Shorter forms would mask ordinary words.
    const MIN_OPEN_END: usize = 8;
    let mut forms = Vec::new();
    for shift in 0..3 {
        let part = if bytes.len() > shift { &bytes[shift..] } else { bytes };
        forms.push(base64(part));
        let open_end = base64(&part[..part.len() / 3 * 3]);
        if open_end.len() >= MIN_OPEN_END {
            forms.push(open_end);
        }
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position <= group.len() {
                let index = bits >> (18 - 6 * position) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Percent encoding of everything but letters, digits and `-_.~`.
fn uri(secret: &str) -> String {
    let mut out = String::with_capacity(secret.len());
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn xml(secret: &str) -> String {
    secret
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&apos;")
}

/// What is inside the quotes of a secret that was stored with them.
fn inside_quotes(secret: &str) -> Option<&str> {
    /// Shorter ones would mask ordinary words.
    const MIN: usize = 8;
    let inner = secret.strip_prefix('"')?.strip_suffix('"')?;
    (secret.chars().count() > MIN).then_some(inner)
}

/// PowerShell prints a command it does not know in two parts around an `&`.
fn powershell(secret: &str) -> Vec<String> {
    /// Shorter parts would mask ordinary words.
    const MIN: usize = 6;
    let (before, after) = if let Some(at) = secret.find("&+") {
        let (before, after) = secret.split_at(at + 2);
        let mut rest = after.chars();
        // The first character of the second part is printed apart.
        rest.next();
        (before, rest.as_str())
    } else if let Some(at) = secret.rfind('&') {
        secret.split_at(at + 1)
    } else {
        return Vec::new();
    };
    [before, after].into_iter().filter(|part| part.chars().count() >= MIN).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_usual_one() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn forms_of_a_secret() {
        let forms = forms("\"a'b&c<d e\"");
        for form in [
            "\\\"a'b&c<d e\\\"",
            "\"a''b&c<d e\"",
            "%22a%27b%26c%3Cd%20e%22",
            "&quot;a&apos;b&amp;c&lt;d e&quot;",
            "a'b&c<d e",
        ] {
            assert!(forms.iter().any(|known| known == form), "{form}");
        }
        assert_eq!(powershell("part-one&part-two"), ["part-one&", "part-two"]);
        assert_eq!(powershell("part-one&+part-two"), ["part-one&+", "art-two"]);
    }
}
