//! What a workflow file and an action file may hold, as data.
//!
//! The data are the files `workflow.schema` and `action.schema` beside this one; a new key of
//! GitHub's is a line there. One definition is one line:
//!
//! ```text
//! name [@contexts] = kind
//! ```
//!
//! where a kind is one of
//!
//! - `null`, `bool`, `number`, `string`, `text` (a string that is not empty), `'constant'`
//! - `[definition]`: a sequence
//! - `{key: definition, key!: definition, *key: definition}`: a mapping; `!` marks a key that must
//!   be there, `*` what all other keys and their values must be. `~{` is a mapping whose keys are
//!   not offered when it is unclear which one was meant.
//! - `a | b | 'c'`: one of several
//!
//! and `@contexts = ...` names a list of contexts and functions.

mod data;
mod parse;

use crate::template::Node;
pub(crate) use data::{ACTION, WORKFLOW};
use std::collections::HashMap;

/// A set of definitions.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    definitions: HashMap<Box<str>, Definition>,
}

/// What may stand at a place.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The contexts and functions that expressions may use here and below.
    pub(crate) context: Vec<Box<str>>,
    pub(crate) kind: Kind,
}

/// The kind of a definition.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool,
    Num,
    /// Any text.
    Str,
    /// Any text but the empty one.
    Text,
    /// This text.
    Constant(Box<str>),
    /// A sequence of a definition.
    Seq(Box<str>),
    Map(Mapping),
    /// One of several definitions.
    OneOf(Vec<Box<str>>),
}

/// The keys of a mapping.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    pub(crate) keys: Vec<Key>,
    /// Definitions of any other key and its value.
    pub(crate) other: Option<(Box<str>, Box<str>)>,
    /// Its keys are not offered in messages.
    pub(crate) quiet: bool,
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: Box<str>,
    pub(crate) definition: Box<str>,
    pub(crate) required: bool,
}

impl Mapping {
    pub(crate) fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| &*key.name == name)
    }
}

impl Schema {
    pub(crate) fn get(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }

    /// All keys that have a name.
    #[cfg(test)]
    fn all_keys(&self) -> Vec<&str> {
        let mappings = self.definitions.values().filter_map(|definition| match &definition.kind {
            Kind::Map(mapping) => Some(mapping),
            _ => None,
        });
        mappings.flat_map(|mapping| mapping.keys.iter().map(|key| &*key.name)).collect()
    }

    /// The definition itself, or the ones it is one of.
    fn variants<'a>(&'a self, definition: &'a Definition) -> Vec<&'a Definition> {
        match &definition.kind {
            Kind::OneOf(names) => names.iter().filter_map(|name| self.get(name)).collect(),
            _ => vec![definition],
        }
    }

    /// The mappings that may stand here.
    pub(crate) fn mappings<'a>(&'a self, definition: &'a Definition) -> Vec<&'a Mapping> {
        let mappings = self.variants(definition).into_iter().filter_map(|variant| match &variant.kind {
            Kind::Map(mapping) => Some(mapping),
            _ => None,
        });
        mappings.collect()
    }

    /// The definition of the items, if a sequence may stand here.
    pub(crate) fn sequence<'a>(&'a self, definition: &'a Definition) -> Option<&'a str> {
        self.variants(definition).into_iter().find_map(|variant| match &variant.kind {
            Kind::Seq(item) => Some(&**item),
            _ => None,
        })
    }

    /// May this literal stand here?
    pub(crate) fn fits(&self, definition: &Definition, node: &Node) -> bool {
        self.variants(definition).into_iter().any(|variant| match (&variant.kind, node) {
            (Kind::Null, Node::Null)
            | (Kind::Bool, Node::Bool(_))
            | (Kind::Num, Node::Num(_))
            | (Kind::Str, Node::Str(_)) => true,
            (Kind::Text, Node::Str(text)) => !text.is_empty(),
            (Kind::Constant(constant), Node::Str(text)) => **constant == **text,
            _ => false,
        })
    }
}
