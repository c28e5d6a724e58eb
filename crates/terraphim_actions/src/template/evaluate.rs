//! Templates to values.

use super::{Node, Template};
use crate::expr::{Array, ExprError, Object, Scope, Value, fold};
use crate::span::Span;
use indexmap::IndexMap;

/// The most memory the evaluation of one key of a workflow may hold.
const MAX_MEMORY: usize = 10 * 1024 * 1024;

/// Why a value of a workflow could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("(Line: {}, Col: {}): {message}", span.line, span.col)]
pub struct TemplateError {
    /// The file: an index into [`crate::workflow::Workflow::files`].
    pub file: usize,
    /// Where the value is.
    pub span: Span,
    /// GitHub's text.
    pub message: String,
    /// The value is not known yet: ask again when the host function has its answer.
    pub pending: bool,
}

impl Template {
    pub(crate) fn fail(&self, message: impl Into<String>) -> TemplateError {
        TemplateError { file: self.file, span: self.span, message: message.into(), pending: false }
    }

    fn fail_expr(&self, error: ExprError) -> TemplateError {
        TemplateError { pending: error.pending, ..self.fail(error.message) }
    }

    /// The value, whatever its kind. Expressions in sequences that give a sequence are spliced in,
    /// the entries of `${{ insert }}` too.
    ///
    /// # Errors
    /// If an expression cannot be evaluated.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, TemplateError> {
        Ok(match &self.node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Num(number) => Value::Num(*number),
            Node::Str(text) => Value::Str(std::sync::Arc::clone(text)),
            Node::Expr(expr) => {
                let scope = Scope { max_memory: scope.max_memory.max(MAX_MEMORY), ..*scope };
                expr.evaluate(&scope).map_err(|error| self.fail_expr(error))?
            }
            Node::Insert => {
                return Err(self.fail("The expression directive 'insert' is not supported in this context"));
            }
            Node::Seq(items) => self.sequence(items, scope)?,
            Node::Map(_) => {
                let mut object = Object::new();
                for (_, key, value) in self.evaluated_entries(scope)? {
                    if object.contains_key(&key) {
                        return Err(self.fail(format!("'{key}' is already defined")));
                    }
                    object.insert(&key, value);
                }
                Value::from(object)
            }
        })
    }

    fn sequence(&self, items: &[Template], scope: &Scope<'_>) -> Result<Value, TemplateError> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match (item.evaluate(scope)?, &item.node) {
                (Value::Arr(spliced), Node::Expr(_)) => {
                    let spliced: &Array = &spliced;
                    values.extend(spliced.iter().cloned());
                }
                (value, _) => values.push(value),
            }
        }
        Ok(Value::arr(values))
    }

    /// The entries of a mapping with `insert` resolved: the value's template, the key, the value.
    fn evaluated_entries(&self, scope: &Scope<'_>) -> Result<Vec<(&Template, String, Value)>, TemplateError> {
        let mut entries = Vec::new();
        for (key, value) in self.entries() {
            let evaluated = value.evaluate(scope)?;
            match (&key.node, evaluated) {
                (Node::Insert, Value::Obj(object)) => {
                    entries.extend(object.iter().map(|(key, inner)| (value, key.to_owned(), inner.clone())));
                }
                (Node::Insert, Value::Null) => {}
                (Node::Insert, _) => return Err(value.fail("Expected a mapping")),
                (_, evaluated) => entries.push((value, key.text_value(scope)?, evaluated)),
            }
        }
        Ok(entries)
    }

    /// The value as a text. Null is the empty text.
    ///
    /// # Errors
    /// If an expression cannot be evaluated or the value is a sequence or a mapping.
    pub fn text_value(&self, scope: &Scope<'_>) -> Result<String, TemplateError> {
        let value = self.evaluate(scope)?;
        self.as_text(&value)
    }

    fn as_text(&self, value: &Value) -> Result<String, TemplateError> {
        match value {
            Value::Arr(_) => Err(self.fail("A sequence was not expected")),
            Value::Obj(_) => Err(self.fail("A mapping was not expected")),
            _ => Ok(value.to_text().into_owned()),
        }
    }

    /// The value as a boolean.
    ///
    /// # Errors
    /// If an expression cannot be evaluated or the value is no boolean.
    pub fn bool_value(&self, scope: &Scope<'_>) -> Result<bool, TemplateError> {
        match self.evaluate(scope)? {
            Value::Bool(value) => Ok(value),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The value as a number.
    ///
    /// # Errors
    /// If an expression cannot be evaluated or the value is no number.
    pub fn number_value(&self, scope: &Scope<'_>) -> Result<f64, TemplateError> {
        match self.evaluate(scope)? {
            Value::Num(number) => Ok(number),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The value as a map of texts, such as `env` and `with`. With `ignore_case`, a key that differs
    /// from an earlier one only by case is an error, as GitHub has it everywhere.
    ///
    /// # Errors
    /// If an expression cannot be evaluated, the value is no mapping or holds other than texts.
    pub fn text_map(&self, scope: &Scope<'_>) -> Result<IndexMap<String, String>, TemplateError> {
        let mut map = IndexMap::new();
        let mut seen = std::collections::HashSet::new();
        if let Node::Map(_) = &self.node {
            for (template, key, value) in self.evaluated_entries(scope)? {
                if !seen.insert(fold::fold(&key).into_owned()) {
                    return Err(template.fail(format!("'{key}' is already defined")));
                }
                map.insert(key, template.as_text(&value)?);
            }
            return Ok(map);
        }
        match self.evaluate(scope)? {
            Value::Obj(object) => {
                for (key, value) in object.iter() {
                    map.insert(key.to_owned(), self.as_text(value)?);
                }
                Ok(map)
            }
            Value::Null => Ok(map),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The value as a list of texts; a single text is a list of one.
    ///
    /// # Errors
    /// If an expression cannot be evaluated or the value holds other than texts.
    pub fn text_list(&self, scope: &Scope<'_>) -> Result<Vec<String>, TemplateError> {
        match self.evaluate(scope)? {
            Value::Arr(items) => items.iter().map(|item| self.as_text(item)).collect(),
            Value::Null => Ok(Vec::new()),
            value => Ok(vec![self.as_text(&value)?]),
        }
    }

    fn unexpected(&self, value: &Value) -> TemplateError {
        match value {
            Value::Arr(_) => self.fail("A sequence was not expected"),
            Value::Obj(_) => self.fail("A mapping was not expected"),
            _ => self.fail(format!("Unexpected value '{}'", value.to_text())),
        }
    }
}

impl Template {
    /// The same value with every expression replaced by its result; places stay.
    ///
    /// # Errors
    /// If an expression cannot be evaluated.
    pub fn resolve(&self, scope: &Scope<'_>) -> Result<Template, TemplateError> {
        let node = match &self.node {
            Node::Expr(_) => return Ok(self.literal(&self.evaluate(scope)?)),
            Node::Insert => {
                return Err(self.fail("The expression directive 'insert' is not supported in this context"));
            }
            Node::Seq(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for item in items {
                    match (item.resolve(scope)?, item.is_expression()) {
                        (Template { node: Node::Seq(spliced), .. }, true) => resolved.extend(spliced),
                        (item, _) => resolved.push(item),
                    }
                }
                Node::Seq(resolved)
            }
            Node::Map(entries) => Node::Map(self.resolve_entries(entries, scope)?),
            literal => literal.clone(),
        };
        Ok(Template { node, ..*self })
    }

    fn resolve_entries(
        &self,
        entries: &[(Template, Template)],
        scope: &Scope<'_>,
    ) -> Result<Vec<(Template, Template)>, TemplateError> {
        let mut resolved: Vec<(Template, Template)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let value = value.resolve(scope)?;
            match (&key.node, value.node) {
                (Node::Insert, Node::Map(inserted)) => resolved.extend(inserted),
                (Node::Insert, Node::Null) => {}
                (Node::Insert, _) => return Err(key.fail("Expected a mapping")),
                (_, node) => {
                    let name = Node::Str(key.text_value(scope)?.into());
                    resolved.push((Template { node: name, ..*key }, Template { node, ..value }));
                }
            }
        }
        Ok(resolved)
    }

    /// A value as a template at the place of this one.
    fn literal(&self, value: &Value) -> Template {
        let node = match value {
            Value::Null => Node::Null,
            Value::Bool(value) => Node::Bool(*value),
            Value::Num(number) => Node::Num(*number),
            Value::Str(text) => Node::Str(std::sync::Arc::clone(text)),
            Value::Arr(items) => Node::Seq(items.iter().map(|item| self.literal(item)).collect()),
            Value::Obj(object) => Node::Map(
                object
                    .iter()
                    .map(|(key, value)| {
                        (Template { node: Node::Str(key.into()), ..*self }, self.literal(value))
                    })
                    .collect(),
            ),
        };
        Template { node, ..*self }
    }
}
