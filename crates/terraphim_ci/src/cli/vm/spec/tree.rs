//! TOML and YAML as one kind of tree, whose nodes know their lines.

use std::path::Path;

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// Scalars are kept as they are written: what they must be depends on their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// A file that is no TOML or YAML: line and reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// So much of a line is quoted, in characters: one line may be the whole file.
const QUOTED: usize = 80;

impl SyntaxError {
    /// With what is written there: the readers do not name the key.
    fn at(line: usize, message: &str, text: &str) -> SyntaxError {
        let written = text.lines().nth(line.saturating_sub(1)).map(str::trim).filter(|line| !line.is_empty());
        let message = match written {
            Some(written) => match written.char_indices().nth(QUOTED) {
                Some((end, _)) => format!("{message}: `{}[...]`", &written[..end]),
                None => format!("{message}: `{written}`"),
            },
            None => message.to_owned(),
        };
        SyntaxError { line, message }
    }
}

/// Reads a file's text by the ending of its name.
pub(super) fn read(path: &Path, text: &str) -> Result<Node, Vec<SyntaxError>> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => toml(text),
        Some("yaml" | "yml") => yaml(text).map_err(|error| vec![error]),
        _ => {
            let message = "its name must end in .toml, .yaml or .yml".to_owned();
            Err(vec![SyntaxError { line: 1, message }])
        }
    }
}

fn toml(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    if errors.is_empty() {
        return Ok(Node { line: 1, value: toml_table(table.get_ref(), &line) });
    }
    let place = |error: &toml::de::Error| error.span().map_or(1, |span| line(span.start));
    let say = |error: toml::de::Error| SyntaxError::at(place(&error), error.message(), text);
    let mut errors: Vec<SyntaxError> = errors.into_iter().map(say).collect();
    errors.sort_by_key(|error| error.line);
    // What is nested too deep is told for each level.
    errors.dedup();
    Err(errors)
}

fn toml_table(table: &DeTable<'_>, line: &dyn Fn(usize) -> usize) -> Value {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        // A table's span is that of its header, which is where its key is.
        (
            key.get_ref().to_string(),
            Node { line: line(key.span().start), value: toml_value(value.get_ref(), line) },
        )
    };
    Value::Table(table.iter().map(entry).collect())
}

fn toml_value(value: &DeValue<'_>, line: &dyn Fn(usize) -> usize) -> Value {
    match value {
        DeValue::String(text) => Value::Scalar(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Scalar(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            Value::Scalar(number.map(|number| number.to_string()).unwrap_or_default())
        }
        DeValue::Float(number) => Value::Scalar(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Value::Scalar(truth.to_string()),
        DeValue::Datetime(time) => Value::Scalar(time.to_string()),
        DeValue::Array(all) => Value::List(
            all.iter()
                .map(|one| Node { line: line(one.span().start), value: toml_value(one.get_ref(), line) })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, line),
    }
}

fn yaml(text: &str) -> Result<Node, SyntaxError> {
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| SyntaxError::at(error.marker().line(), error.info(), text))?;
    match documents.as_slice() {
        [] => Ok(Node { line: 1, value: Value::Table(Vec::new()) }),
        [document] => yaml_node(document),
        [_, second, ..] => Err(SyntaxError {
            line: second.span.start.line(),
            message: "one document is expected".to_owned(),
        }),
    }
}

fn yaml_node(node: &MarkedYaml<'_>) -> Result<Node, SyntaxError> {
    let line = node.span.start.line();
    let wrong = |message: &str| SyntaxError { line, message: message.to_owned() };
    let value = match &node.data {
        YamlData::Value(scalar) => Value::Scalar(yaml_scalar(scalar)),
        YamlData::Sequence(all) => Value::List(all.iter().map(yaml_node).collect::<Result<_, _>>()?),
        YamlData::Mapping(all) => {
            let mut table = Vec::new();
            for (key, value) in all {
                let YamlData::Value(name) = &key.data else { return Err(wrong("a key must be a word")) };
                // The line of a collection is that of its first entry: the key's is where people look.
                let node = Node { line: key.span.start.line(), ..yaml_node(value)? };
                table.push((yaml_scalar(name), node));
            }
            Value::Table(table)
        }
        YamlData::Representation(text, ..) => Value::Scalar(text.to_string()),
        YamlData::Tagged(..) | YamlData::Alias(_) | YamlData::BadValue => {
            return Err(wrong("tags, anchors and aliases are not understood here"));
        }
    };
    Ok(Node { line, value })
}

fn yaml_scalar(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => String::new(),
        Scalar::Boolean(truth) => truth.to_string(),
        Scalar::Integer(number) => number.to_string(),
        Scalar::FloatingPoint(number) => number.to_string(),
        Scalar::String(text) => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(line: usize, text: &str) -> Node {
        Node { line, value: Value::Scalar(text.to_owned()) }
    }

    #[test]
    fn both_languages_make_the_same_tree() {
        let toml = "cpus = 2\nlist = [\n  'a',\n]\n[limits]\nmemory = '1G'\n";
        let yaml = "cpus: 2\nlist:\n- a\n\nlimits:\n  memory: 1G\n";
        for (name, text) in [("x.toml", toml), ("x.yaml", yaml)] {
            let Value::Table(table) = read(Path::new(name), text).unwrap().value else { panic!("{name}") };
            let get = |key: &str| table.iter().find(|(name, _)| name == key).unwrap().1.clone();
            assert_eq!(get("cpus"), scalar(1, "2"), "{name}");
            assert_eq!(get("list").value, Value::List(vec![scalar(3, "a")]), "{name}");
            let limits = get("limits");
            assert_eq!(limits.value, Value::Table(vec![("memory".to_owned(), scalar(6, "1G"))]), "{name}");
            assert_eq!(limits.line, 5, "{name}");
        }
    }

    #[test]
    fn what_is_no_tree_has_a_line() {
        let lines = |name: &str, text: &str| {
            let errors = read(Path::new(name), text).unwrap_err();
            errors.into_iter().map(|error| error.line).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(lines("x.toml", "a = 1\nb = \nc = 2\nd == 3\n"), [2, 4].into());
        assert_eq!(lines("x.yaml", "a: 1\nb: [\n").len(), 1);
        assert_eq!(lines("x.yaml", "a: 1\n---\nb: 2\n"), [3].into());
        assert_eq!(lines("x.yml", "a: &x 1\nb: *x\nc: !t 1\n").len(), 1);
        assert_eq!(lines("x.ini", ""), [1].into());
    }

    #[test]
    fn of_a_long_line_only_the_beginning_is_quoted() {
        let deep = "[".repeat(15_000);
        for (name, text) in [("x.toml", format!("cpus = {deep}")), ("x.yaml", format!("cpus: {deep}"))] {
            let errors = read(Path::new(name), &text).unwrap_err();
            let all: usize = errors.iter().map(|error| error.message.len()).sum();
            assert!(all < 2000 && errors[0].message.ends_with("[[[...]`"), "{all}: {:?}", errors[0]);
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for (name, text) in
            [("x.toml", "cpus = 2\nname = 'a'\ncpus = 3\n"), ("x.yaml", "cpus: 2\nname: a\ncpus: 3\n")]
        {
            let errors = read(Path::new(name), text).unwrap_err();
            assert!(errors[0].line == 3 && errors[0].message.contains("`cpus"), "{errors:?}");
            assert!(errors[0].message.contains("duplicate"), "{errors:?}");
        }
    }
}
