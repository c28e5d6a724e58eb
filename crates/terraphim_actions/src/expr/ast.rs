//! The tree of an expression, and its printed form.

use super::functions::Function;
use super::lexer::is_keyword;
use super::number;
use super::value::Value;
use std::fmt::{self, Display};
use std::sync::Arc;

/// A parsed expression. Its depth is at most [`super::MAX_DEPTH`].
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) root: Node,
    source: Arc<str>,
    depth: usize,
    /// What stood between texts in the file, if it is the `format` call that such a text becomes.
    parts: Vec<Arc<Expr>>,
}

/// A binary comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

impl Comparison {
    /// The operator as written.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub enum Node {
    /// A literal.
    Literal(Value),
    /// A context, such as `github`.
    Named(Box<str>),
    /// `*` as an index.
    Wildcard,
    /// `target.name`, `target[index]`, `target.*`.
    Index(Box<Node>, Box<Node>),
    /// A function call: the function, its name as written, its arguments.
    Call(Function, Box<str>, Vec<Node>),
    /// `!operand`
    Not(Box<Node>),
    /// A comparison.
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Two or more operands joined by `&&`.
    And(Vec<Node>),
    /// Two or more operands joined by `||`.
    Or(Vec<Node>),
}

impl Expr {
    pub(super) fn new(root: Node, source: Arc<str>, depth: usize) -> Self {
        Self { root, source, depth, parts: Vec::new() }
    }

    /// `format(template, args...)`, with the text it would be parsed from; `None` if it is beyond the
    /// limits of expressions.
    pub(crate) fn format_call(template: &str, args: &[Arc<Expr>], source: &str) -> Option<Self> {
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0).max(1) + 1;
        if depth > super::MAX_DEPTH || super::memory::utf16_len(source) > super::MAX_LENGTH {
            return None;
        }
        let literal = std::iter::once(Node::Literal(Value::str(template)));
        let nodes = literal.chain(args.iter().map(|arg| arg.root.clone())).collect();
        let call = Node::Call(Function::Format, "format".into(), nodes);
        Some(Self { parts: args.to_vec(), ..Self::new(call, Arc::from(source), depth) })
    }

    /// The text of the file that it was read from, for people: `Build ${{ matrix.os }}`. Spaces next to the braces are
    /// those of this example, whatever the file has.
    #[must_use]
    pub fn written(&self) -> String {
        let template = match &self.root {
            Node::Call(_, _, nodes) if !self.parts.is_empty() => nodes.first(),
            _ => None,
        };
        match template {
            Some(Node::Literal(Value::Str(template))) => self.unfolded(template),
            _ => in_braces(self.source()),
        }
    }

    /// The template of a `format` call with its parts in the places of their numbers.
    fn unfolded(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
            } else if let Some((number, after)) = rest.split_once('}') {
                let part = number.parse().ok().and_then(|number: usize| self.parts.get(number));
                text.push_str(&part.map_or_else(String::new, |part| in_braces(part.source())));
                rest = after;
            }
        }
        text + rest
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tree.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The literal, if the expression is nothing else.
    #[must_use]
    pub fn as_literal(&self) -> Option<&Value> {
        match &self.root {
            Node::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Is there a call of one of `success`, `failure`, `cancelled`, `always`?
    #[must_use]
    pub fn calls_status_function(&self) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |= matches!(node, Node::Call(function, ..) if function.is_status());
        });
        found
    }

    /// The paths that start at a context and whose steps are written out, such as
    /// `["needs", "build", "outputs"]`; a path ends at a `*` or a computed index.
    #[must_use]
    pub fn context_paths(&self) -> Vec<Vec<&str>> {
        let mut paths = Vec::new();
        collect_paths(&self.root, &mut paths);
        paths
    }
}

fn in_braces(source: &str) -> String {
    format!("${{{{ {source} }}}}")
}

impl Node {
    /// Calls `each` for this node and all below it, parents first.
    pub fn visit(&self, each: &mut impl FnMut(&Node)) {
        each(self);
        for child in self.children() {
            child.visit(each);
        }
    }

    fn children(&self) -> Vec<&Node> {
        match self {
            Self::Literal(_) | Self::Named(_) | Self::Wildcard => Vec::new(),
            Self::Index(target, index) => vec![target, index],
            Self::Call(_, _, nodes) | Self::And(nodes) | Self::Or(nodes) => nodes.iter().collect(),
            Self::Not(node) => vec![node],
            Self::Compare(_, left, right) => vec![left, right],
        }
    }

    /// The written-out path, if the node is one.
    fn path(&self) -> Option<Vec<&str>> {
        let mut path = Vec::new();
        let mut node = self;
        loop {
            match node {
                Self::Named(name) => {
                    path.push(&**name);
                    path.reverse();
                    return Some(path);
                }
                Self::Index(target, index) => match index.as_ref() {
                    Self::Literal(Value::Str(name)) => {
                        path.push(name);
                        node = target;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }
}

fn collect_paths<'a>(node: &'a Node, paths: &mut Vec<Vec<&'a str>>) {
    if let Some(path) = node.path() {
        paths.push(path);
        return;
    }
    for child in node.children() {
        collect_paths(child, paths);
    }
}

/// Prints the expression in canonical form: every operator in parentheses.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(value) => fmt_literal(value, f),
            Self::Named(name) => f.write_str(name),
            Self::Wildcard => f.write_str("*"),
            Self::Index(target, index) => match index.as_ref() {
                Self::Wildcard => write!(f, "{target}.*"),
                Self::Literal(Value::Str(name)) if is_keyword(name) => write!(f, "{target}.{name}"),
                _ => write!(f, "{target}[{index}]"),
            },
            Self::Call(_, name, args) => {
                write!(f, "{name}(")?;
                fmt_joined(args, ", ", f)?;
                f.write_str(")")
            }
            Self::Not(operand) => write!(f, "!{operand}"),
            Self::Compare(comparison, left, right) => {
                write!(f, "({left} {} {right})", comparison.symbol())
            }
            Self::And(operands) => fmt_group(operands, " && ", f),
            Self::Or(operands) => fmt_group(operands, " || ", f),
        }
    }
}

fn fmt_group(nodes: &[Node], separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("(")?;
    fmt_joined(nodes, separator, f)?;
    f.write_str(")")
}

fn fmt_joined(nodes: &[Node], separator: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        node.fmt(f)?;
    }
    Ok(())
}

fn fmt_literal(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::Null => f.write_str("null"),
        Value::Bool(value) => value.fmt(f),
        Value::Num(number) => f.write_str(&number::format(*number)),
        Value::Str(text) => f.write_str(&quote(text)),
        Value::Arr(_) | Value::Obj(_) => f.write_str(value.kind().name()),
    }
}

/// The text as a string literal of an expression.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
