//! One pattern: an expression of ECMAScript, and what its groups mean.

use fancy_regex::{Error, Regex, RegexBuilder};

/// How many steps back an expression may take on one line, after which it counts as stuck. GitHub gives it a second;
/// this many take less.
const MOST_STEPS_BACK: usize = 1_000_000;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    File,
    Line,
    Column,
    Severity,
    Code,
    Message,
    FromPath,
}

impl Part {
    pub(super) const ALL: [Part; 7] =
        [Part::File, Part::Line, Part::Column, Part::Severity, Part::Code, Part::Message, Part::FromPath];

    /// The key in the file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Part::File => "file",
            Part::Line => "line",
            Part::Column => "column",
            Part::Severity => "severity",
            Part::Code => "code",
            Part::Message => "message",
            Part::FromPath => "fromPath",
        }
    }
}

/// What one line looks like.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// The groups of the parts, in the order of [`Part::ALL`].
    groups: [Option<usize>; Part::ALL.len()],
    /// It may match several lines in a row, each of which is a message.
    pub(super) loops: bool,
}

impl Pattern {
    pub(super) fn new(regexp: &str, loops: bool) -> Result<Pattern, Error> {
        let regex = RegexBuilder::new(&translate(regexp)).backtrack_limit(MOST_STEPS_BACK).build()?;
        Ok(Pattern { regex, groups: [None; Part::ALL.len()], loops })
    }

    /// How many groups the expression has, the whole match included.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len()
    }

    pub(super) fn group(&self, part: Part) -> Option<usize> {
        self.groups[part as usize]
    }

    pub(super) fn set(&mut self, part: Part, group: usize) {
        self.groups[part as usize] = Some(group);
    }

    /// The parts of the line, if it matches. A group that took no part in the match is an empty text.
    pub(super) fn parts(&self, line: &str) -> Result<Option<Parts>, Error> {
        let Some(captures) = self.regex.captures(line)? else { return Ok(None) };
        let text = |group| captures.get(group).map_or_else(String::new, |found| found.as_str().to_owned());
        Ok(Some(Parts { texts: self.groups.map(|group| group.map(text)) }))
    }
}

/// The parts of a message that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    texts: [Option<String>; Part::ALL.len()],
}

impl Parts {
    /// The text of a part that is not empty.
    pub(super) fn get(&self, part: Part) -> Option<&str> {
        self.texts[part as usize].as_deref().filter(|text| !text.trim().is_empty())
    }

    /// What `earlier` lines said goes before.
    pub(super) fn after(mut self, earlier: &Parts) -> Parts {
        for (own, earlier) in self.texts.iter_mut().zip(&earlier.texts) {
            if earlier.is_some() {
                own.clone_from(earlier);
            }
        }
        self
    }
}

/// An expression of ECMAScript in the words of Rust's engine: classes are of ASCII, and what is special there and not
/// here is escaped.
fn translate(regexp: &str) -> String {
    let mut out = String::with_capacity(regexp.len() + 8);
    let mut chars = regexp.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => escape(escaped, in_class, &mut out),
                None => out.push('\\'),
            },
            '[' if in_class => out.push_str("\\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '{' if !in_class && !is_repetition(chars.clone()) => out.push_str("\\{"),
            '}' if !in_class && !ends_repetition(&out) => out.push_str("\\}"),
            c => out.push(c),
        }
    }
    out
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    let class = match escaped {
        'd' => "0-9",
        'w' => "A-Za-z0-9_",
        's' => " \\t\\n\\x0B\\x0C\\r",
        'D' => "^0-9",
        'W' => "^A-Za-z0-9_",
        'S' => "^ \\t\\n\\x0B\\x0C\\r",
        // An escaped letter that means nothing is itself, and so are these two, which mean something here.
        '<' | '>' | 'a' | 'e' | 'z' | 'A' | 'Z' | 'G' | 'h' | 'H' | 'K' => return out.push(escaped),
        'b' if in_class => return out.push_str("\\x08"),
        other => {
            out.push('\\');
            return out.push(other);
        }
    };
    if in_class && !class.starts_with('^') {
        out.push_str(class);
    } else {
        out.push('[');
        out.push_str(class);
        out.push(']');
    }
}

/// Whether what follows `{` makes it a repetition: `3}`, `3,}`, `3,5}`.
fn is_repetition(rest: std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let inside: String = rest.take_while(|c| *c != '}').take(20).collect();
    let (least, most) = inside.split_once(',').unwrap_or((&inside, ""));
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

/// Whether a `}` after `out` ends a repetition or the name of a character.
fn ends_repetition(out: &str) -> bool {
    out.rfind('{').is_some_and(|at| !out[..at].ends_with('\\') && !out[at..].contains('}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(regexp: &str, line: &str) -> bool {
        let pattern = Pattern::new(regexp, false).unwrap_or_else(|error| panic!("{regexp}: {error}"));
        pattern.parts(line).expect("it is quick").is_some()
    }

    #[test]
    fn expressions_are_those_of_ecmascript() {
        for (regexp, line, want) in [
            (r"^\d+$", "42", true),
            (r"^\d+$", "٤٢", false),
            (r"^[\w.-]+$", "a_b-c.d", true),
            (r"^[^\s]+$", "ab", true),
            (r"^[\D]$", "x", true),
            (r"^[^[]+\[x\]$", "ab[x]", true),
            (r"^a\/b$", "a/b", true),
            (r"^{a}$", "{a}", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^(?:\s+(\d+):(\d+))?$", " 1:2", true),
            (r"^(?!ok)\w+$", "ok", false),
            (r"^(a|b)\1$", "bb", true),
            (r"^\<x\>$", "<x>", true),
            (r"^[a&&b~]+$", "a&b~", true),
            (r"^\u001b", "\u{1b}[0m", true),
        ] {
            assert_eq!(matches(regexp, line), want, "{regexp} on {line}");
        }
    }

    #[test]
    fn an_expression_that_gets_stuck_is_an_error() {
        let pattern = Pattern::new(r"^(a|a)*\1b$", false).expect("an expression");
        assert!(pattern.parts(&"a".repeat(40)).is_err());
    }
}
