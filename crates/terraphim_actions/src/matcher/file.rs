//! Reading a file of problem matchers.

use super::Matcher;
use super::pattern::{Part, Pattern};
use serde::Deserialize;
use std::collections::HashMap;

/// Why a file of problem matchers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatcherError {
    /// It is not what such a file looks like.
    #[error("it is no file of problem matchers: {0}")]
    Json(#[from] serde_json::Error),
    /// A matcher has no owner.
    #[error("a matcher has no owner")]
    NoOwner,
    /// Two matchers have the same owner.
    #[error("two matchers have the owner '{0}'")]
    SameOwner(String),
    /// A severity that there is not.
    #[error("the matcher '{owner}' has the severity '{severity}'; it may be error, warning or notice")]
    Severity {
        /// The matcher.
        owner: String,
        /// Its severity.
        severity: String,
    },
    /// A matcher without a pattern.
    #[error("the matcher '{0}' has no pattern")]
    NoPattern(String),
    /// No pattern has the message.
    #[error("no pattern of the matcher '{0}' sets 'message'")]
    NoMessage(String),
    /// Only the last of several patterns may loop.
    #[error(
        "of the matcher '{0}' only the last of several patterns may set 'loop', and it must set 'message'"
    )]
    Loop(String),
    /// Two patterns have the same part.
    #[error("two patterns of the matcher '{owner}' set '{part}'")]
    SetTwice {
        /// The matcher.
        owner: String,
        /// The part of a message.
        part: &'static str,
    },
    /// A part names a group that there is not.
    #[error("'{part}' of the matcher '{owner}' is group {group}, but the expression has {groups}")]
    Group {
        /// The matcher.
        owner: String,
        /// The part of a message.
        part: &'static str,
        /// The group.
        group: i64,
        /// How many groups the expression has, the whole match included.
        groups: usize,
    },
    /// An expression that cannot be read.
    #[error("the expression {regexp:?} of the matcher '{owner}' cannot be read")]
    Expression {
        /// The matcher.
        owner: String,
        /// The expression.
        regexp: String,
        /// What is wrong.
        #[source]
        source: Box<fancy_regex::Error>,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "problemMatcher", default)]
    matchers: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    pattern: Vec<WrittenPattern>,
}

#[derive(Deserialize)]
struct WrittenPattern {
    #[serde(default)]
    regexp: String,
    #[serde(default, rename = "loop")]
    loops: bool,
    #[serde(flatten)]
    rest: HashMap<String, serde_json::Value>,
}

/// Reads a file of problem matchers.
///
/// # Errors
/// If the file is not as it must be; see [`MatcherError`].
pub fn parse(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let file: File = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let mut matchers: Vec<Matcher> = Vec::with_capacity(file.matchers.len());
    for written in file.matchers {
        let matcher = matcher(written)?;
        if matchers.iter().any(|known| known.owner.eq_ignore_ascii_case(&matcher.owner)) {
            return Err(MatcherError::SameOwner(matcher.owner));
        }
        matchers.push(matcher);
    }
    Ok(matchers)
}

fn matcher(written: Written) -> Result<Matcher, MatcherError> {
    let Written { owner, severity, pattern: patterns } = written;
    if owner.is_empty() {
        return Err(MatcherError::NoOwner);
    }
    let severity = severity.filter(|severity| !severity.is_empty());
    if let Some(severity) = &severity
        && super::Severity::from_word(severity).is_none()
    {
        return Err(MatcherError::Severity { owner, severity: severity.clone() });
    }
    let last = patterns.len().checked_sub(1).ok_or_else(|| MatcherError::NoPattern(owner.clone()))?;
    let mut read = Vec::with_capacity(patterns.len());
    let mut is_set = [false; Part::ALL.len()];
    for (index, pattern) in patterns.into_iter().enumerate() {
        let pattern = one(&owner, pattern)?;
        for (part, is_set) in Part::ALL.into_iter().zip(&mut is_set) {
            if pattern.group(part).is_some() && std::mem::replace(is_set, true) {
                return Err(MatcherError::SetTwice { owner, part: part.name() });
            }
        }
        let may_loop = index == last && index > 0 && pattern.group(Part::Message).is_some();
        if pattern.loops && !may_loop {
            return Err(MatcherError::Loop(owner));
        }
        read.push(pattern);
    }
    if !read.iter().any(|pattern: &Pattern| pattern.group(Part::Message).is_some()) {
        return Err(MatcherError::NoMessage(owner));
    }
    Ok(Matcher { owner, severity, patterns: read.into() })
}

fn one(owner: &str, written: WrittenPattern) -> Result<Pattern, MatcherError> {
    let WrittenPattern { regexp, loops, rest } = written;
    let mut pattern = Pattern::new(&regexp, loops).map_err(|source| MatcherError::Expression {
        owner: owner.to_owned(),
        regexp: regexp.clone(),
        source: Box::new(source),
    })?;
    for part in Part::ALL {
        let Some(group) = rest.get(part.name()).and_then(serde_json::Value::as_i64) else { continue };
        let groups = pattern.groups();
        let index = usize::try_from(group).ok().filter(|group| *group < groups);
        let index = index.ok_or_else(|| MatcherError::Group {
            owner: owner.to_owned(),
            part: part.name(),
            group,
            groups,
        })?;
        pattern.set(part, index);
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    fn with(matcher: &str) -> String {
        error(&format!(r#"{{"problemMatcher": [{matcher}]}}"#))
    }

    #[test]
    fn a_file_is_read() {
        let text = r#"{"problemMatcher": [{"owner": "x", "severity": "Warning", "pattern": [
            {"regexp": "^(.+):$", "file": 1}, {"regexp": "^ (\\d+) (.*)$", "line": 1, "message": 2, "loop": true}]}]}"#;
        let matchers = parse(text).expect("a file");
        assert_eq!((matchers.len(), matchers[0].owner.as_str(), matchers[0].patterns.len()), (1, "x", 2));
        assert!(parse("{}").expect("a file").is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error("[").starts_with("it is no file of problem matchers: "));
        for (matcher, message) in [
            (r#"{"pattern": []}"#, "a matcher has no owner"),
            (r#"{"owner": "x"}"#, "the matcher 'x' has no pattern"),
            (
                r#"{"owner": "x", "severity": "fatal"}"#,
                "the matcher 'x' has the severity 'fatal'; it may be error, warning or notice",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "a", "file": 0}]}"#,
                "no pattern of the matcher 'x' sets 'message'",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "(a)", "message": 2}]}"#,
                "'message' of the matcher 'x' is group 2, but the expression has 2",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "a", "message": 0, "loop": true}]}"#,
                "of the matcher 'x' only the last of several patterns may set 'loop', and it must set 'message'",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "a", "message": 0}, {"regexp": "b", "message": 0}]}"#,
                "two patterns of the matcher 'x' set 'message'",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "(", "message": 0}]}"#,
                "the expression \"(\" of the matcher 'x' cannot be read",
            ),
            (
                r#"{"owner": "x", "pattern": [{"regexp": "a", "message": 0}]}, {"owner": "X", "pattern": [{"regexp": "a", "message": 0}]}"#,
                "two matchers have the owner 'X'",
            ),
        ] {
            assert_eq!(with(matcher), message, "{matcher}");
        }
    }
}
