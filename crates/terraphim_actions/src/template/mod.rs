//! Values of a workflow file: literals, sequences, mappings and expressions, each with its place.
//!
//! A [`Template`] is what a key holds before its contexts are known; its methods turn it into a
//! [`crate::expr::Value`], a text, a number, a boolean or a map of texts.

mod conform;
mod evaluate;
mod hint;
mod limits;
mod reader;
mod scalar;

pub use evaluate::TemplateError;
pub(crate) use limits::{Fatal, Limits};
pub(crate) use reader::read;

use crate::expr::{self, Expr};
use crate::span::Span;
use std::borrow::Cow;
use std::sync::Arc;

/// A value of a workflow file and its place.
#[derive(Clone, Debug)]
pub struct Template {
    /// Where it starts.
    pub span: Span,
    /// The file it is in: an index into [`crate::workflow::Workflow::files`].
    pub file: usize,
    /// The value.
    pub node: Node,
}

/// The value of a [`Template`].
#[derive(Clone, Debug)]
pub enum Node {
    /// Nothing.
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Num(f64),
    /// A text without expressions.
    Str(Arc<str>),
    /// A sequence.
    Seq(Vec<Template>),
    /// A mapping in the order of the file. A key is a text, an expression or `insert`.
    Map(Vec<(Template, Template)>),
    /// An expression. Text around it has become a call of `format`.
    Expr(Arc<Expr>),
    /// The key `${{ insert }}`: the value is a mapping whose entries belong here.
    Insert,
}

impl Template {
    /// A value at a place of the first file.
    #[must_use]
    pub fn new(node: Node, span: Span) -> Self {
        Self { span, file: 0, node }
    }

    /// A text that stands at no place.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(Node::Str(Arc::from(text)), Span::default())
    }

    /// The text, if it is a literal one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.node {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The text of any literal but a collection: `true`, `1.5`, `''` for null.
    #[must_use]
    pub fn literal_text(&self) -> Option<Cow<'_, str>> {
        match &self.node {
            Node::Null => Some(Cow::Borrowed("")),
            Node::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Node::Num(number) => Some(Cow::Owned(expr::number::format(*number))),
            Node::Str(text) => Some(Cow::Borrowed(text)),
            Node::Seq(_) | Node::Map(_) | Node::Expr(_) | Node::Insert => None,
        }
    }

    /// The text as the file has it, also where it holds expressions: for people who look at it before its contexts are
    /// known. Nothing for a collection.
    #[must_use]
    pub fn written(&self) -> Cow<'_, str> {
        match &self.node {
            Node::Expr(expr) => Cow::Owned(expr.written()),
            _ => self.literal_text().unwrap_or_default(),
        }
    }

    /// Is it an expression (or `insert`) itself?
    #[must_use]
    pub const fn is_expression(&self) -> bool {
        matches!(self.node, Node::Expr(_) | Node::Insert)
    }

    /// Is there an expression in it or anywhere below?
    #[must_use]
    pub fn has_expression(&self) -> bool {
        let mut found = false;
        self.visit(&mut |template| found |= template.is_expression());
        found
    }

    /// Calls `each` for this value and all below it, keys too, in the order of the file.
    pub fn visit(&self, each: &mut impl FnMut(&Template)) {
        each(self);
        match &self.node {
            Node::Seq(items) => items.iter().for_each(|item| item.visit(each)),
            Node::Map(entries) => {
                for (key, value) in entries {
                    key.visit(each);
                    value.visit(each);
                }
            }
            _ => {}
        }
    }

    /// The value of the literal key `key`, if it is a mapping and has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Template> {
        self.entries().iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The entries of a mapping; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(Template, Template)] {
        match &self.node {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Template] {
        match &self.node {
            Node::Seq(items) => items,
            _ => &[],
        }
    }

    /// A short name of what it is, for messages.
    pub(crate) const fn kind_name(&self) -> &'static str {
        match self.node {
            Node::Null => "Null",
            Node::Bool(_) => "Boolean",
            Node::Num(_) => "Number",
            Node::Str(_) => "String",
            Node::Seq(_) => "Sequence",
            Node::Map(_) => "Mapping",
            Node::Expr(_) => "BasicExpression",
            Node::Insert => "InsertExpression",
        }
    }

    /// The value as GitHub shows it in messages.
    pub(crate) fn display(&self) -> Cow<'_, str> {
        match &self.node {
            Node::Expr(expr) => Cow::Owned(format!("${{{{ {} }}}}", expr.source())),
            Node::Insert => Cow::Borrowed("${{ insert }}"),
            Node::Seq(_) => Cow::Borrowed("sequence"),
            Node::Map(_) => Cow::Borrowed("mapping"),
            _ => self.literal_text().unwrap_or_default(),
        }
    }
}
