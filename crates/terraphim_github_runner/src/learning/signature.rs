//! What two failures have in common although their output differs.

/// Only the end of an output is looked at: that is where programs say why they stopped.
const LOOKED_AT_BYTES: usize = 64 << 10;

/// Longer lines are data rather than a reason.
const SIGNATURE_CHARS: usize = 200;

/// Words of lines that say what went wrong.
const TELLING: [&str; 7] = ["error", "fatal", "panicked", "exception", "failed", "cannot", "not found"];

/// The reason of a failure without what changes from run to run: the first line that names an error, otherwise
/// the last line, with numbers, hashes and temporary paths replaced.
pub(super) fn signature(output: &str) -> String {
    let output = tail(output);
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines().find(|line| {
        let lower = line.to_ascii_lowercase();
        TELLING.iter().any(|word| lower.contains(word))
    });
    let line = telling.or_else(|| lines().next_back()).unwrap_or("no output");
    normalise(&without_escapes(line)).chars().take(SIGNATURE_CHARS).collect()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LOOKED_AT_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Without terminal escape sequences (`ESC [ ... letter`).
fn without_escapes(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                let _ = chars.by_ref().skip_while(|c| *c == '[').find(char::is_ascii_alphabetic);
            }
            c if c.is_control() => clean.push(' '),
            c => clean.push(c),
        }
    }
    clean
}

fn normalise(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let len = if let Some(len) = temporary_path(rest) {
            out.push_str("<tmp>");
            len
        } else if first.is_ascii_alphanumeric() {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
            word(&rest[..len], &mut out);
            len
        } else {
            out.push(if first.is_whitespace() { ' ' } else { first });
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    out.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The length of a path below a directory for temporary files, if the text starts with one.
fn temporary_path(text: &str) -> Option<usize> {
    let is_temporary = ["/tmp/", "/var/tmp/", "/run/"].iter().any(|prefix| text.starts_with(prefix));
    let ends = |c: char| c.is_whitespace() || "'\"`:;,()<>".contains(c);
    is_temporary.then(|| text.find(ends).unwrap_or(text.len()))
}

/// A hash or UUID becomes `<id>`, a number `#`; digits within a name (`E0432`) stay.
fn word(word: &str, out: &mut String) {
    let is_id = word.len() >= 7
        && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
        && word.contains(|c: char| c.is_ascii_digit());
    if is_id {
        out.push_str("<id>");
        return;
    }
    let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut before = '-';
    for c in word.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if is_name && before.is_ascii_alphabetic() {
            // A digit within a name; `before` stays a letter, so those that follow it stay too.
            out.push(c);
            continue;
        } else if !before.is_ascii_digit() {
            out.push('#');
        }
        before = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_has_the_same_signature() {
        for (a, b) in [
            ("error: timed out after 31 s", "error: timed out after 4 s"),
            ("Error at 2026-11-21T04:20:04Z", "Error at 2027-01-02T11:00:59Z"),
            ("fatal: bad object 3f2a99c1b0", "fatal: bad object 99aa77c"),
            ("cannot open /tmp/tmp.Xa81/log: gone", "cannot open /tmp/tmp.99/log: gone"),
            (
                "error: job 550e8400-e29b-41d4-a716-446655440000",
                "error: job 123e4567-e89b-12d3-a456-426614174000",
            ),
            ("\u{1b}[31merror\u{1b}[0m: no", "error: no"),
        ] {
            assert_eq!(signature(a), signature(b), "{a}");
        }
    }

    #[test]
    fn different_failures_differ() {
        assert_ne!(signature("error[E0432]: unresolved"), signature("error[E0433]: unresolved"));
        assert_ne!(signature("cannot find x"), signature("cannot find y"));
    }

    #[test]
    fn the_telling_line_is_found() {
        assert_eq!(
            signature("   Compiling x\nerror[E0432]: unresolved import\nnote: y\n"),
            "error[E0432]: unresolved import"
        );
        assert_eq!(signature("line one\nlast words\n\n"), "last words");
        assert_eq!(signature(" \n"), "no output");
    }

    #[test]
    fn any_output_gives_a_short_signature() {
        let long = format!("{}é", "ü".repeat(LOOKED_AT_BYTES));
        assert!(signature(&long).chars().count() <= SIGNATURE_CHARS);
        for odd in ["\u{1b}", "\u{1b}[", "\u{1b}[12", "/tmp/", "-7", "\0", "1-"] {
            let _ = signature(odd);
        }
    }
}
