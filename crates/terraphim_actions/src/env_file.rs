//! The files a step writes to talk to the runner: `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE`
//! (pairs) and `GITHUB_PATH` (lines).

/// What is wrong with a file; the texts are GitHub's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// `=value`
    #[error("Invalid format '{0}'. Name must not be empty")]
    NoName(String),
    /// `<<EOF` or `name<<`
    #[error("Invalid format '{0}'. Name must not be empty and delimiter must not be empty")]
    NoNameOrDelimiter(String),
    /// A line that is neither `name=value` nor `name<<delimiter`.
    #[error("Invalid format '{0}'")]
    NoPair(String),
    /// The delimiter does not come.
    #[error("Invalid value. Matching delimiter not found '{0}'")]
    NoDelimiter(String),
    /// The file ends in the middle of a value.
    #[error("Invalid value. EOF marker missing new line.")]
    NoNewLine,
}

/// Reads pairs in order. A line is `name=value`, or `name<<delimiter` followed by the lines of the
/// value and a line that is exactly the delimiter; which of the two it is says the sign that comes
/// first. Empty lines mean nothing.
///
/// What breaks these rules is the last item. The pairs before it count: GitHub's runner takes each over as it
/// reads it (`EnvFileKeyValuePairs` of its `FileCommandManager`).
pub fn parse_pairs(text: &str) -> Pairs<'_> {
    Pairs { rest: text }
}

/// The pairs of a file; see [`parse_pairs`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read before it is asked for"]
pub struct Pairs<'a> {
    rest: &'a str,
}

impl Iterator for Pairs<'_> {
    type Item = Result<(String, String), EnvFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        // An error ends the file: what follows it may be the rest of a value.
        let text = std::mem::take(&mut self.rest).trim_start_matches('\n');
        if text.is_empty() {
            return None;
        }
        let (line, _, tail) = take_line(text);
        Some(take_pair(line, tail).map(|(name, value, rest)| {
            self.rest = rest;
            (name.to_owned(), value.to_owned())
        }))
    }
}

/// The pair that begins with `line`, and what follows it.
fn take_pair<'a>(line: &'a str, tail: &'a str) -> Result<(&'a str, &'a str, &'a str), EnvFileError> {
    let equals = line.find('=').unwrap_or(usize::MAX);
    match line.split_once("<<") {
        Some((name, delimiter)) if name.len() < equals => {
            if name.is_empty() || delimiter.is_empty() {
                return Err(EnvFileError::NoNameOrDelimiter(line.to_owned()));
            }
            let (value, rest) = take_value(tail, delimiter)?;
            Ok((name, value, rest))
        }
        _ => {
            let (name, value) = line.split_once('=').ok_or_else(|| EnvFileError::NoPair(line.to_owned()))?;
            if name.is_empty() {
                return Err(EnvFileError::NoName(line.to_owned()));
            }
            Ok((name, value, tail))
        }
    }
}

/// The lines up to the delimiter, without the last line break, and what follows the delimiter.
fn take_value<'a>(text: &'a str, delimiter: &str) -> Result<(&'a str, &'a str), EnvFileError> {
    let mut end = 0;
    let mut rest = text;
    loop {
        if rest.is_empty() {
            return Err(EnvFileError::NoDelimiter(delimiter.to_owned()));
        }
        let (line, has_break, tail) = take_line(rest);
        if line == delimiter {
            return Ok((&text[..end], tail));
        }
        if !has_break {
            return Err(EnvFileError::NoNewLine);
        }
        end = text.len() - tail.len() - 1;
        rest = tail;
    }
}

/// The first line without its line break, whether it has one, and the rest. On Linux a carriage
/// return is part of the line.
fn take_line(text: &str) -> (&str, bool, &str) {
    match text.split_once('\n') {
        Some((line, rest)) => (line, true, rest),
        None => (text, false, ""),
    }
}

/// Adds the lines of a `GITHUB_PATH` file to `path`. The last one is the first to be searched, and a
/// directory is in the list once.
pub fn add_paths(path: &mut Vec<String>, text: &str) {
    for line in text.lines().filter(|line| !line.is_empty()) {
        path.retain(|known| known != line);
        path.push(line.to_owned());
    }
}

/// May a step set this variable for those that follow? `NODE_OPTIONS` could take over the actions
/// that run on node. It is all that GitHub's runner blocks (`_setEnvBlockList`), and no failure of the step.
#[must_use]
pub fn may_set_env(name: &str) -> bool {
    !name.eq_ignore_ascii_case("NODE_OPTIONS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse_pairs(text).collect::<Result<_, _>>().expect("pairs")
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_first_sign_decides() {
        assert_eq!(pairs("a=1<<2\n"), [pair("a", "1<<2")]);
        assert_eq!(pairs("a<<b=c\nx\nb=c\n"), [pair("a", "x")]);
        assert_eq!(pairs("a=\nb=x=y"), [pair("a", ""), pair("b", "x=y")]);
    }

    #[test]
    fn a_value_keeps_all_its_lines() {
        assert_eq!(
            pairs("a<<E\n\n one\n\ntwo\n\nE\n\nb=2\n"),
            [pair("a", "\n one\n\ntwo\n"), pair("b", "2")]
        );
        assert_eq!(pairs("a<<E\nE"), [pair("a", "")]);
        assert_eq!(pairs("a<<E\r\nx\r\nE\r\n"), [pair("a", "x\r")]);
        assert_eq!(pairs("a<<E\nE \n E\nE\n"), [pair("a", "E \n E")]);
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        use EnvFileError::*;
        for (text, error) in [
            ("=x\n", NoName("=x".into())),
            ("<<E\nE\n", NoNameOrDelimiter("<<E".into())),
            ("a<<\n", NoNameOrDelimiter("a<<".into())),
            ("a\n", NoPair("a".into())),
            ("a<<E\nx\n", NoDelimiter("E".into())),
            ("a<<E\n", NoDelimiter("E".into())),
            ("a<<E\nx", NoNewLine),
        ] {
            let read: Vec<_> = parse_pairs(text).collect();
            assert_eq!(read, [Err(error)], "{text:?}");
        }
    }

    #[test]
    fn pairs_before_a_wrong_line_count_and_those_after_it_do_not() {
        let mut read = parse_pairs("a=1\n\nb<<E\n2\nE\nbad\nc=3\n");
        assert_eq!(read.next(), Some(Ok(pair("a", "1"))));
        assert_eq!(read.next(), Some(Ok(pair("b", "2"))));
        assert_eq!(read.next(), Some(Err(EnvFileError::NoPair("bad".into()))));
        assert_eq!(read.next(), None);
    }

    #[test]
    fn the_last_path_wins_and_is_there_once() {
        let mut path = vec!["/a".to_owned(), "/b".to_owned()];
        add_paths(&mut path, "/a\n\n/c\n");
        assert_eq!(path, ["/b", "/a", "/c"]);
    }
}
