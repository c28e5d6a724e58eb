//! Replaces in a text what changes from run to run: times, numbers, hashes, ids, directories.
//!
//! The same text always gives the same result, and masking twice is masking once.

/// Units that follow a number; they change with its size (`900 ms`, `1.2 s`).
const UNITS: [&str; 31] = [
    "ns", "us", "µs", "ms", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes",
    "h", "hour", "hours", "b", "kb", "mb", "gb", "kib", "mib", "gib", "bytes", "byte", "k", "kbytes",
    "mbytes", "gbytes", "%",
];

/// Weekdays and months, which dates spell out.
const CALENDAR: [&str; 21] = [
    "mon", "tue", "wed", "thu", "fri", "sat", "sun", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug",
    "sep", "oct", "nov", "dec", "utc", "gmt",
];

/// One word of a command.
pub(super) fn word(word: &str) -> String {
    // A relative name is the same everywhere; its digits are what numbers a build.
    text(word)
}

/// A line of output.
pub(super) fn text(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let len = if let Some(len) = path(rest, before, &mut out) {
            len
        } else if first.is_ascii_digit() && !is_in_name(before) {
            number(rest, &mut out)
        } else if first.is_ascii_alphanumeric() {
            let len = word_len(rest);
            name(&rest[..len], &mut out);
            len
        } else {
            out.push(if first.is_whitespace() { ' ' } else { first });
            first.len_utf8()
        };
        before = rest[..len].chars().next_back().unwrap_or(before);
        rest = &rest[len..];
    }
    tidy(&out)
}

fn is_in_name(before: char) -> bool {
    before.is_ascii_alphabetic() || before == '_'
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len())
}

/// An absolute path: `<tmp>` below directories for temporary files, otherwise its last part after `<dir>/`.
fn path(text: &str, before: char, out: &mut String) -> Option<usize> {
    let windows = text.as_bytes().get(1..3).is_some_and(|two| two == b":\\") && !is_in_name(before);
    let starts = text.starts_with('/') && (before.is_whitespace() || "'\"`(=[{<,:;|@I".contains(before));
    // `//` begins the rest of an address, `/ ` is a division.
    if !windows && (!starts || text[1..].starts_with(['/', ' ']) || text.len() < 2) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || "'\"`:;,()<>[]{}|".contains(c);
    let skip = if windows { 2 } else { 0 };
    let len = text[skip..].find(ends).map_or(text.len(), |at| at + skip);
    let path = &text[..len];
    if !path[1..].contains(['/', '\\']) && !windows {
        // `/x` may be anything.
        out.push('/');
        return Some(1);
    }
    if ["/tmp/", "/var/tmp/", "/run/", "/var/folders/", "/dev/shm/", "/proc/"]
        .iter()
        .any(|dir| path.starts_with(dir))
    {
        out.push_str("<tmp>");
        return Some(len);
    }
    let last = path.rsplit(['/', '\\']).next().unwrap_or("");
    out.push_str("<dir>/");
    out.push_str(&self::text(last));
    Some(len)
}

/// A number with everything that belongs to it (`1.2`, `12:30:59`, `2026-11-25T10:00:00.5Z`, `0x7f`, `5 ms`) is `#`.
fn number(text: &str, out: &mut String) -> usize {
    let run = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    if is_id(&text[..run]) || text.starts_with("0x") {
        out.push_str("<id>");
        return run;
    }
    let mut len = 0;
    let bytes = text.as_bytes();
    while len < bytes.len() {
        let next_is_digit = bytes.get(len + 1).is_some_and(u8::is_ascii_digit);
        let is_part = match bytes[len] {
            b'0'..=b'9' => true,
            b'.' | b',' | b':' | b'-' | b'/' | b'+' | b'T' => next_is_digit,
            b'Z' => !bytes.get(len + 1).is_some_and(u8::is_ascii_alphanumeric),
            _ => false,
        };
        if !is_part {
            break;
        }
        len += 1;
    }
    out.push('#');
    len + unit(&text[len..])
}

/// The length of a unit, with the blank before it.
fn unit(text: &str) -> usize {
    let blank = usize::from(text.starts_with(' '));
    let rest = &text[blank..];
    let end = rest.find(|c: char| !(c.is_alphabetic() || c == '%' || c == 'µ')).unwrap_or(rest.len());
    let word = rest[..end].to_lowercase();
    let follows = rest[end..].chars().next();
    let is_unit = UNITS.contains(&word.as_str())
        && !follows.is_some_and(|c| c.is_ascii_digit() || c == '_' || c == '(');
    if is_unit { blank + end } else { 0 }
}

/// A word that starts with a letter.
fn name(word: &str, out: &mut String) {
    if is_id(word) {
        out.push_str("<id>");
        return;
    }
    let mut is_first = true;
    for part in word.split('-') {
        if !is_first {
            out.push('-');
        }
        is_first = false;
        if is_id(part) || is_scrambled(part) {
            out.push_str("<id>");
        } else if part.starts_with(|c: char| c.is_ascii_digit()) && !part.is_empty() {
            out.push('#');
            out.extend(part.chars().skip_while(char::is_ascii_digit));
        } else {
            out.push_str(part);
        }
    }
}

/// A hash, a UUID, or a long random text.
fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let is_hex = word.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    let is_hash = word.len() >= 7 && is_hex && digits > 0 && letters > 0;
    let is_random = word.len() >= 20 && digits >= 3 && letters >= 3 && !word.contains('-');
    is_hash || is_random
}

/// Letters and digits in turn, as generated names have them: `x7f3k2`.
fn is_scrambled(part: &str) -> bool {
    let mut groups = 0;
    let mut in_digits = false;
    for c in part.bytes() {
        if c.is_ascii_digit() && !in_digits {
            groups += 1;
        }
        in_digits = c.is_ascii_digit();
    }
    part.len() >= 5 && groups >= 2
}

/// One blank between words; dates that spell months out; numbers in a row are one.
fn tidy(text: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '#').to_ascii_lowercase();
        let is_calendar = CALENDAR.contains(&bare.as_str());
        let last = words.last().copied();
        if last == Some("#") && (is_calendar || word == "#") {
            continue;
        }
        if word == "#" {
            // `Wed Nov 25`: what leads up to a number goes with it.
            while words.last().is_some_and(|last| {
                let last = last.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
                CALENDAR[..19].contains(&last.as_str())
            }) {
                words.pop();
            }
        }
        words.push(word);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_from_run_to_run_is_replaced() {
        for (line, masked) in [
            ("timed out after 31 s", "timed out after #"),
            ("timed out after 1.25ms", "timed out after #"),
            ("at 2026-11-21T04:20:04.123Z sharp", "at # sharp"),
            ("[12:30:59] done", "[#] done"),
            ("Wed Nov 25 22:15:53 UTC 2026: x", "# #: x"),
            ("bad object 3f2a99c1b0", "bad object <id>"),
            ("job 550e8400-e29b-41d4-a716-446655440000", "job <id>"),
            ("at 0x7ffd12ab3c", "at <id>"),
            ("cannot open /tmp/tmp.Xa81/log: gone", "cannot open <tmp>: gone"),
            ("/home/ci/work/x/src/main.rs:12:5: error", "<dir>/main.rs:#: error"),
            ("src/main.rs:12:5", "src/main.rs:#"),
            ("error[E0432]: unresolved", "error[E0432]: unresolved"),
            ("worker-12 died", "worker-# died"),
            ("runner-x7f3k2 died", "runner-<id> died"),
            ("sha256 and utf8 on x86", "sha256 and utf8 on x86"),
            ("used 1,024 KiB of 12 GiB", "used # of #"),
            ("C:\\Users\\me\\a.c(12): bad", "<dir>/a.c(#): bad"),
            ("1 / 2", "# / #"),
            ("", ""),
        ] {
            assert_eq!(text(line), masked, "{line:?}");
        }
    }
}
