//! Workflow commands in the output of a step: `::name key=value,key=value::data` and the older
//! `##[name key=value;]data`.

use indexmap::IndexMap;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The name as written; names are compared without regard to case.
    pub name: String,
    /// The properties, with keys in lower case.
    pub properties: IndexMap<String, String>,
    /// What follows the command.
    pub data: String,
}

/// The commands there are. A line that looks like another one is plain output.
pub const KNOWN: [&str; 16] = [
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "internal-set-repo-path",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
];

impl Command {
    /// A property by its key, without regard to case.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(&key.to_ascii_lowercase()).map(String::as_str)
    }

    /// Is it the command `name`?
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The command in a line of output, if there is one. White space before `::` does not matter;
/// `##[` may stand anywhere in the line. `stop_token` is the word that ends a time without commands:
/// it is a command too while it is set.
#[must_use]
pub fn parse(line: &str, stop_token: Option<&str>) -> Option<Command> {
    let known = |name: &str| {
        KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
            || stop_token.is_some_and(|token| token.eq_ignore_ascii_case(name))
    };
    parse_colons(line, &known).or_else(|| parse_brackets(line, &known))
}

fn parse_colons(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    let (name, properties) = split_head(head);
    known(name).then(|| Command {
        name: name.to_owned(),
        properties: read_properties(properties.trim(), ',', &PROPERTY_ESCAPES),
        data: unescape(data, &DATA_ESCAPES),
    })
}

fn parse_brackets(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    let (_, rest) = line.split_once("##[")?;
    let (head, data) = rest.split_once(']')?;
    let (name, properties) = split_head(head);
    known(name).then(|| Command {
        name: name.to_owned(),
        properties: read_properties(properties, ';', &BRACKET_ESCAPES),
        data: unescape(data, &BRACKET_ESCAPES),
    })
}

fn split_head(head: &str) -> (&str, &str) {
    head.split_once(' ').unwrap_or((head, ""))
}

fn read_properties(text: &str, separator: char, escapes: &[(&str, &str)]) -> IndexMap<String, String> {
    let pairs = text.split(separator).filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .map(|(key, value)| (key.to_ascii_lowercase(), unescape(value, escapes)))
        .collect()
}

// `%25` comes last everywhere: `%250A` is the text `%0A`, not a line break.
const DATA_ESCAPES: [(&str, &str); 3] = [("%0D", "\r"), ("%0A", "\n"), ("%25", "%")];
const PROPERTY_ESCAPES: [(&str, &str); 5] =
    [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
const BRACKET_ESCAPES: [(&str, &str); 5] =
    [("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%")];

fn unescape(text: &str, escapes: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (escape, character) in escapes {
        if text.contains(escape) {
            text = text.replace(escape, character);
        }
    }
    text
}

/// Is the token of `stop-commands` safe to use? One that is a command itself, or a word that other
/// programs print, would let them start commands again.
#[must_use]
pub fn is_valid_stop_token(token: &str) -> bool {
    !token.is_empty()
        && !token.eq_ignore_ascii_case("pause-logging")
        && !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        parse(line, None).expect("a command")
    }

    #[test]
    fn colons() {
        let found = command("  ::error file=a.rs,Line=3,title=x%2Cy%3A::a::b%0Ac");
        assert_eq!((found.name.as_str(), found.data.as_str()), ("error", "a::b\nc"));
        assert_eq!(found.property("line"), Some("3"));
        assert_eq!(found.property("TITLE"), Some("x,y:"));
        assert_eq!(command("::endgroup::").data, "");
        assert_eq!(command("::debug::%250A").data, "%0A");
    }

    #[test]
    fn brackets_stand_anywhere() {
        let found = command("12:00 ##[warning file=a;line=2]x%5Dy]z");
        assert_eq!((found.name.as_str(), found.data.as_str()), ("warning", "x]y]z"));
        assert_eq!(found.property("line"), Some("2"));
    }

    #[test]
    fn everything_else_is_output() {
        for line in
            ["", "::", "::error", "::nosuch::x", "x ::error::y", "##[error", "##[nosuch]x", "error::x"]
        {
            assert_eq!(parse(line, None), None, "{line}");
        }
    }

    #[test]
    fn a_stop_token_is_a_command_while_it_is_set() {
        assert!(parse("::my-token::", None).is_none());
        assert!(parse("::MY-token::", Some("my-token")).is_some());
        assert!(is_valid_stop_token("my-token"));
        for bad in ["", "debug", "Pause-Logging"] {
            assert!(!is_valid_stop_token(bad), "{bad}");
        }
    }
}
