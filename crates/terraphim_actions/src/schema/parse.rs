//! Reads the schema files.

use super::{Definition, Key, Kind, Mapping, Schema};
use std::collections::HashMap;

/// What is wrong with a schema file.
#[derive(Debug, thiserror::Error)]
#[error("schema, definition '{definition}': {what}")]
pub(crate) struct SchemaError {
    definition: String,
    what: &'static str,
}

impl Schema {
    /// Reads a schema file.
    pub(super) fn parse(text: &str) -> Result<Self, SchemaError> {
        let mut schema = Self::default();
        schema.add_builtin();
        let mut contexts: HashMap<String, Vec<Box<str>>> = HashMap::new();
        for statement in statements(text) {
            let (name, kind) = statement.split_once('=').ok_or_else(|| error(&statement, "no '='"))?;
            let (name, kind) = (name.trim(), kind.trim());
            if let Some(list) = name.strip_prefix('@') {
                let names = kind.split_whitespace().map(Box::from).collect();
                contexts.insert(list.to_owned(), names);
                continue;
            }
            let (name, context) = match name.split_once('@') {
                Some((name, list)) => {
                    let list = contexts.get(list.trim()).ok_or_else(|| error(name, "unknown contexts"))?;
                    (name.trim(), list.clone())
                }
                None => (name, Vec::new()),
            };
            schema.define(name, kind, context)?;
        }
        schema.check()?;
        Ok(schema)
    }

    fn add_builtin(&mut self) {
        let kinds = [
            ("null", Kind::Null),
            ("bool", Kind::Bool),
            ("number", Kind::Num),
            ("string", Kind::Str),
            ("text", Kind::Text),
            ("sequence", Kind::Seq("any".into())),
            (
                "mapping",
                Kind::Map(Mapping { other: Some(("string".into(), "any".into())), ..Mapping::default() }),
            ),
            (
                "any",
                Kind::OneOf(
                    ["null", "bool", "number", "string", "sequence", "mapping"].map(Box::from).into(),
                ),
            ),
        ];
        for (name, kind) in kinds {
            self.definitions.insert(name.into(), Definition { context: Vec::new(), kind });
        }
    }

    fn define(&mut self, name: &str, kind: &str, context: Vec<Box<str>>) -> Result<(), SchemaError> {
        let kind = if let Some(body) = kind.strip_prefix("~{").or_else(|| kind.strip_prefix('{')) {
            let body = body.strip_suffix('}').ok_or_else(|| error(name, "no '}'"))?;
            Kind::Map(mapping(name, body, kind.starts_with('~'))?)
        } else if let Some(item) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Kind::Seq(item.trim().into())
        } else {
            self.alternatives(kind)
        };
        let old = self.definitions.insert(name.into(), Definition { context, kind });
        if old.is_some() { Err(error(name, "defined twice")) } else { Ok(()) }
    }

    /// `a | b | 'c'`, or a single one of them.
    fn alternatives(&mut self, kind: &str) -> Kind {
        let mut names: Vec<Box<str>> = Vec::new();
        for part in kind.split('|').map(str::trim) {
            if let Some(constant) = part.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
                let constant_name: Box<str> = part.into();
                self.definitions.insert(
                    constant_name.clone(),
                    Definition { context: Vec::new(), kind: Kind::Constant(constant.into()) },
                );
                names.push(constant_name);
                continue;
            }
            // What is one of several itself is taken apart, since a choice looks one level deep.
            match self.definitions.get(part).map(|definition| &definition.kind) {
                Some(Kind::OneOf(inner)) => names.extend(inner.iter().cloned()),
                _ => names.push(part.into()),
            }
        }
        if let [only] = names.as_slice() {
            match &**only {
                "null" => return Kind::Null,
                "bool" => return Kind::Bool,
                "number" => return Kind::Num,
                "string" => return Kind::Str,
                "text" => return Kind::Text,
                _ => {}
            }
        }
        Kind::OneOf(names)
    }

    /// Is every name defined?
    fn check(&self) -> Result<(), SchemaError> {
        for (name, definition) in &self.definitions {
            let mut names: Vec<&str> = Vec::new();
            match &definition.kind {
                Kind::Seq(item) => names.push(item),
                Kind::OneOf(list) => names.extend(list.iter().map(|name| &**name)),
                Kind::Map(mapping) => {
                    names.extend(mapping.keys.iter().map(|key| &*key.definition));
                    if let Some((key, value)) = &mapping.other {
                        names.extend([&**key, &**value]);
                    }
                }
                _ => {}
            }
            if names.iter().any(|name| self.get(name).is_none()) {
                return Err(error(name, "uses a name that is not defined"));
            }
        }
        Ok(())
    }
}

/// The keys of a mapping, without its braces.
fn mapping(name: &str, body: &str, quiet: bool) -> Result<Mapping, SchemaError> {
    let mut mapping = Mapping { quiet, ..Mapping::default() };
    for entry in body.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (key, definition) = entry.split_once(':').ok_or_else(|| error(name, "no ':' after a key"))?;
        let (key, definition) = (key.trim(), definition.trim());
        if let Some(any) = key.strip_prefix('*') {
            mapping.other = Some((any.into(), definition.into()));
            continue;
        }
        mapping.keys.push(Key {
            name: key.trim_end_matches('!').into(),
            definition: definition.into(),
            required: key.ends_with('!'),
        });
    }
    Ok(mapping)
}

fn error(definition: &str, what: &'static str) -> SchemaError {
    SchemaError { definition: definition.to_owned(), what }
}

/// Lines without comments; one that starts with white space continues the one before.
fn statements(text: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match statements.last_mut() {
            Some(last) if line.starts_with(char::is_whitespace) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => statements.push(line.trim().to_owned()),
        }
    }
    statements
}
