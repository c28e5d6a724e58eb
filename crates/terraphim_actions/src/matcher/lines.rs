//! Looking at the lines of a step.

use super::Matcher;
use super::pattern::{Part, Parts};
use std::borrow::Cow;

/// The longest line that is looked at, in bytes: tools' messages are short, and the time for a line grows with it.
const LONGEST: usize = 16 * 1024;

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `error`, or nothing.
    Error,
    /// `warning`
    Warning,
    /// `notice`
    Notice,
}

impl Severity {
    /// The severity that a word means, whatever its case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Severity> {
        let words = [("error", Self::Error), ("warning", Self::Warning), ("notice", Self::Notice)];
        words.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, severity)| severity)
    }
}

/// A message of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How important it is.
    pub severity: Severity,
    /// What it says.
    pub message: String,
    /// The file, as the tool names it; relative to the directory of `fromPath` if there is one.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// The tool's code for it.
    pub code: Option<String>,
}

/// What a look at a line gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The message in it.
    pub found: Option<Found>,
    /// The owners of matchers that got stuck on it and were removed.
    pub stuck: Vec<String>,
}

/// The matchers of one step and what each has seen of a message so far.
#[derive(Clone, Debug, Default)]
pub struct Matchers {
    running: Vec<Running>,
}

#[derive(Clone, Debug)]
struct Running {
    matcher: Matcher,
    /// What the patterns but the last one matched, if the lines so far did.
    seen: Vec<Option<Parts>>,
}

impl Matchers {
    /// Is there nothing to look for?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds a matcher before the others; those of the same owner go.
    pub fn add(&mut self, matcher: Matcher) {
        self.remove(&matcher.owner);
        let seen = vec![None; matcher.patterns.len() - 1];
        self.running.insert(0, Running { matcher, seen });
    }

    /// Removes the matcher of an owner.
    pub fn remove(&mut self, owner: &str) {
        self.running.retain(|running| !running.matcher.owner.eq_ignore_ascii_case(owner));
    }

    /// Looks at the next line, given without its end.
    pub fn look(&mut self, line: &str) -> Look {
        let mut look = Look::default();
        if line.len() > LONGEST {
            return look;
        }
        let line = without_colours(line);
        let mut at = 0;
        while at < self.running.len() {
            match self.running[at].look(&line) {
                // It would get stuck again: unlike a clock, the limit of steps is the same at every attempt.
                Err(()) => {
                    look.stuck.push(self.running.remove(at).matcher.owner);
                    continue;
                }
                Ok(None) => {}
                Ok(Some(parts)) => {
                    let severity = self.running[at].matcher.severity.clone();
                    for (_, other) in self.running.iter_mut().enumerate().filter(|(index, _)| *index != at) {
                        other.forget();
                    }
                    look.found = found(&parts, severity.as_deref());
                    if look.found.is_some() {
                        return look;
                    }
                }
            }
            at += 1;
        }
        look
    }
}

impl Running {
    fn forget(&mut self) {
        self.seen.fill(None);
    }

    /// The parts of a message that ends in this line.
    fn look(&mut self, line: &str) -> Result<Option<Parts>, ()> {
        let patterns = std::sync::Arc::clone(&self.matcher.patterns);
        let last = patterns.len() - 1;
        for at in (0..=last).rev() {
            let earlier = match at.checked_sub(1).map(|before| &self.seen[before]) {
                None => None,
                Some(Some(earlier)) => Some(earlier.clone()),
                Some(None) => continue,
            };
            let parts = patterns[at].parts(line).map_err(drop)?;
            let parts = parts.map(|parts| match &earlier {
                Some(earlier) => parts.after(earlier),
                None => parts,
            });
            if at < last {
                self.seen[at] = parts;
            } else if parts.is_some() {
                self.forget();
                if patterns[at].loops {
                    self.seen[at - 1] = earlier;
                }
                return Ok(parts);
            } else if at > 0 {
                self.seen[at - 1] = None;
            }
        }
        Ok(None)
    }
}

/// A message out of its parts; `None` if it says nothing or has a severity that there is not.
fn found(parts: &Parts, default: Option<&str>) -> Option<Found> {
    let number = |part| parts.get(part).and_then(|text| text.parse().ok());
    let file = parts.get(Part::File).map(|file| match parts.get(Part::FromPath) {
        Some(from) if !file.starts_with('/') => match from.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{file}"),
            None => file.to_owned(),
        },
        _ => file.to_owned(),
    });
    Some(Found {
        severity: match parts.get(Part::Severity).or(default) {
            Some(word) => Severity::from_word(word)?,
            None => Severity::Error,
        },
        message: parts.get(Part::Message)?.to_owned(),
        file,
        line: number(Part::Line),
        column: number(Part::Column),
        code: parts.get(Part::Code).map(|code| code.trim().to_owned()),
    })
}

/// The line without the escape sequences that colour it.
fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains("\u{1b}[") {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn matchers(text: &str) -> Matchers {
        let mut matchers = Matchers::default();
        for matcher in parse(text).expect("a file") {
            matchers.add(matcher);
        }
        matchers
    }

    fn messages(matchers: &mut Matchers, lines: &[&str]) -> Vec<String> {
        let show = |found: Found| {
            let place = format!("{}:{}", found.file.unwrap_or_default(), found.line.unwrap_or_default());
            format!("{:?} {place} {}", found.severity, found.message)
        };
        lines.iter().filter_map(|line| matchers.look(line).found).map(show).collect()
    }

    const ESLINT: &str = r#"{"problemMatcher": [{"owner": "eslint", "pattern": [
        {"regexp": "^([^\\s].*)$", "file": 1},
        {"regexp": "^\\s+(\\d+):(\\d+)\\s+(error|warning|info)\\s+(.*)$",
         "line": 1, "column": 2, "severity": 3, "message": 4, "loop": true}]}]}"#;

    #[test]
    fn several_lines_make_a_message_and_the_last_may_loop() {
        let mut matchers = matchers(ESLINT);
        let lines = [
            "a.js",
            "  1:2  error  first",
            "  3:4  warning  second",
            "",
            "  5:6  error  belongs to nothing",
            "b.js",
            "\u{1b}[31m  7:8\u{1b}[0m  info  no severity of ours",
            "  9:1  error  third",
        ];
        assert_eq!(
            messages(&mut matchers, &lines),
            ["Error a.js:1 first", "Warning a.js:3 second", "Error b.js:9 third"]
        );
    }

    #[test]
    fn one_line_is_enough_and_paths_start_at_the_project() {
        let text = r#"{"problemMatcher": [{"owner": "cs", "severity": "notice", "pattern": [{
            "regexp": "^(.+)\\((\\d+)\\): (?:(warning|error) )?(\\w+): (.*) \\[(.+)\\]$",
            "file": 1, "line": 2, "severity": 3, "code": 4, "message": 5, "fromPath": 6}]}]}"#;
        let mut matchers = matchers(text);
        let lines = [
            "a/b.cs(3): warning CS1: odd [src/p/x.proj]",
            "/abs.cs(4): CS2: plain [src/p/x.proj]",
            "nothing",
        ];
        assert_eq!(messages(&mut matchers, &lines), ["Warning src/p/a/b.cs:3 odd", "Notice /abs.cs:4 plain"]);
    }

    #[test]
    fn the_newest_looks_first_and_an_owner_has_one() {
        let one = |owner: &str, severity: &str| {
            format!(
                r#"{{"problemMatcher": [{{"owner": "{owner}", "severity": "{severity}",
                    "pattern": [{{"regexp": "^bad (.*)$", "message": 1}}]}}]}}"#
            )
        };
        let mut all = matchers(&one("a", "error"));
        for matcher in parse(&one("b", "warning")).expect("a file") {
            all.add(matcher);
        }
        assert_eq!(messages(&mut all, &["bad x"]), ["Warning :0 x"]);
        for matcher in parse(&one("B", "notice")).expect("a file") {
            all.add(matcher);
        }
        assert_eq!(messages(&mut all, &["bad x"]), ["Notice :0 x"]);
        all.remove("b");
        assert_eq!(messages(&mut all, &["bad x"]), ["Error :0 x"]);
        all.remove("A");
        assert!(all.is_empty());
    }

    #[test]
    fn one_that_gets_stuck_goes() {
        let mut all = matchers(
            r#"{"problemMatcher": [{"owner": "slow", "pattern": [{"regexp": "^(a|a)*\\1b$", "message": 1}]}]}"#,
        );
        assert_eq!(all.look(&"a".repeat(40)).stuck, ["slow"]);
        assert!(all.is_empty());
    }
}
