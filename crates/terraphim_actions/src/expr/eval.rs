//! Evaluation.

use super::ast::{Expr, Node};
use super::compare;
use super::error::ExprError;
use super::fold;
use super::format::{Piece, pieces};
use super::functions::{self, Function, Functions, NoFunctions};
use super::json;
use super::memory::{self, Memory};
use super::value::{Array, Object, Value};
use std::sync::Arc;

/// What an expression is evaluated with.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The contexts: `github`, `env`, ... A context that is not there is null.
    pub contexts: &'a Object,
    /// The functions that ask about the run.
    pub functions: &'a dyn Functions,
    /// The most memory an evaluation may hold, in bytes by GitHub's measure.
    pub max_memory: usize,
}

impl<'a> Scope<'a> {
    /// A scope of contexts and functions with the usual limit.
    #[must_use]
    pub fn new(contexts: &'a Object, functions: &'a dyn Functions) -> Self {
        Self { contexts, functions, max_memory: super::MAX_MEMORY }
    }

    /// A scope of contexts only.
    #[must_use]
    pub fn of(contexts: &'a Object) -> Self {
        Self::new(contexts, &NoFunctions)
    }
}

impl Expr {
    /// The value of the expression.
    ///
    /// # Errors
    /// If a function refuses its arguments or the value takes more memory than allowed.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, ExprError> {
        let mut evaluator = Evaluator { scope, memory: Memory::new(scope.max_memory), root: &self.root };
        let value = evaluator.node(&self.root, 0)?;
        Ok(match value {
            // Only inside an expression does an index apply to each item.
            Value::Arr(array) if array.filtered => Value::arr(array.items.clone()),
            value => value,
        })
    }
}

struct Evaluator<'a> {
    scope: &'a Scope<'a>,
    memory: Memory,
    root: &'a Node,
}

impl<'a> Evaluator<'a> {
    fn node(&mut self, node: &'a Node, level: usize) -> Result<Value, ExprError> {
        let mut bytes = None;
        let value = match node {
            Node::Literal(value) => value.clone(),
            Node::Named(name) => self.scope.contexts.get(name).cloned().unwrap_or_default(),
            Node::Wildcard => Value::str("*"),
            Node::Index(target, index) => {
                let (value, held) = self.index(node, target, index, level)?;
                bytes = held;
                value
            }
            Node::Not(operand) => Value::Bool(!self.node(operand, level + 1)?.is_truthy()),
            Node::Compare(comparison, left, right) => {
                let left = self.node(left, level + 1)?;
                let right = self.node(right, level + 1)?;
                Value::Bool(compare::holds(*comparison, &left, &right))
            }
            Node::And(operands) => self.chain(operands, level, false)?,
            Node::Or(operands) => self.chain(operands, level, true)?,
            Node::Call(function, _, args) => self.call(node, *function, args, level)?,
        };
        let bytes = bytes.unwrap_or_else(|| memory::value_bytes(&value));
        self.memory.add(level, bytes, value.is_primitive(), self.root)?;
        Ok(value)
    }

    /// `&&` and `||`: the first operand that decides, else the last.
    fn chain(&mut self, operands: &'a [Node], level: usize, stop_at: bool) -> Result<Value, ExprError> {
        let mut value = Value::Null;
        for operand in operands {
            value = self.node(operand, level + 1)?;
            if value.is_truthy() == stop_at {
                break;
            }
        }
        Ok(value)
    }

    /// An index, and the bytes of a filtered array that it made.
    fn index(
        &mut self,
        node: &'a Node,
        target: &'a Node,
        index: &'a Node,
        level: usize,
    ) -> Result<(Value, Option<usize>), ExprError> {
        let target = self.node(target, level + 1)?;
        let star = matches!(index, Node::Wildcard);
        if target.is_primitive() {
            return Ok((if star { filtered(Vec::new()) } else { Value::Null }, None));
        }
        let index = self.node(index, level + 1)?;
        let key = Key { index, star };
        let mut counter = self.memory.counter(node);
        match &target {
            Value::Arr(array) if array.filtered => {
                let mut items = Vec::new();
                for item in array.iter() {
                    key.each(item, &mut |value| {
                        items.push(value.clone());
                        counter.add(memory::ITEM)
                    })?;
                }
                Ok((filtered(items), Some(counter.bytes())))
            }
            _ if star => {
                let mut items = Vec::new();
                counter.add_object()?;
                key.each(&target, &mut |value| {
                    items.push(value.clone());
                    counter.add(memory::ITEM)
                })?;
                Ok((filtered(items), Some(counter.bytes())))
            }
            _ => {
                let mut found = Value::Null;
                key.each(&target, &mut |value| {
                    found = value.clone();
                    Ok(())
                })?;
                Ok((found, None))
            }
        }
    }

    fn call(
        &mut self,
        node: &'a Node,
        function: Function,
        args: &'a [Node],
        level: usize,
    ) -> Result<Value, ExprError> {
        match function {
            Function::Case => return self.case(args, level),
            Function::Format => return self.format(node, args, level),
            Function::Join => return self.join(node, args, level),
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.node(arg, level + 1)?);
        }
        match (function, values.as_slice()) {
            (Function::Contains, [text, item]) => Ok(Value::Bool(contains(text, item))),
            (Function::StartsWith, [text, part]) => {
                Ok(Value::Bool(match_texts(text, part, fold::starts_with)))
            }
            (Function::EndsWith, [text, part]) => Ok(Value::Bool(match_texts(text, part, fold::ends_with))),
            (Function::FromJson, [text]) => json::from_json(&text.to_text()),
            (Function::ToJson, [value]) => {
                json::to_json(value, &mut self.memory.counter(node)).map(Value::from)
            }
            (function, values) => functions::call(self.scope.functions, function, values),
        }
    }

    fn case(&mut self, args: &'a [Node], level: usize) -> Result<Value, ExprError> {
        let (pairs, default) = args.as_chunks::<2>();
        for [predicate, value] in pairs {
            match self.node(predicate, level + 1)? {
                Value::Bool(true) => return self.node(value, level + 1),
                Value::Bool(false) => {}
                _ => return Err(ExprError::evaluation("case predicate must evaluate to a boolean value")),
            }
        }
        match default {
            [default] => self.node(default, level + 1),
            _ => Err(ExprError::evaluation("case requires an odd number of arguments")),
        }
    }

    fn format(&mut self, node: &'a Node, args: &'a [Node], level: usize) -> Result<Value, ExprError> {
        let Some((template, args)) = args.split_first() else {
            return Err(ExprError::evaluation("format needs a format string"));
        };
        let template = self.node(template, level + 1)?;
        let mut counter = self.memory.counter(node);
        let mut values: Vec<Option<Value>> = vec![None; args.len()];
        let mut out = String::new();
        for piece in pieces(&template.to_text(), args.len())? {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Arg(index, specifiers) => {
                    // An argument is evaluated when it is first used, and not at all if it is not.
                    let value = match &values[index] {
                        Some(value) => value.clone(),
                        None => self.node(&args[index], level + 1)?,
                    };
                    values[index] = Some(value.clone());
                    if !specifiers.is_empty() {
                        return Err(bad_specifiers(&specifiers, &value));
                    }
                    value.to_text().into_owned()
                }
            };
            if !text.is_empty() {
                counter.add_text(&text)?;
                out.push_str(&text);
            }
        }
        Ok(Value::from(out))
    }

    fn join(&mut self, node: &'a Node, args: &'a [Node], level: usize) -> Result<Value, ExprError> {
        let Some((items, separator)) = args.split_first() else {
            return Err(ExprError::evaluation("join needs an array"));
        };
        let items = self.node(items, level + 1)?;
        let Value::Arr(items) = items else {
            let text = if items.is_primitive() { items.to_text().into_owned() } else { String::new() };
            return Ok(Value::from(text));
        };
        let mut separator_text = ",".to_owned();
        if let (Some(separator), true) = (separator.first(), items.len() > 1) {
            let value = self.node(separator, level + 1)?;
            if value.is_primitive() {
                separator_text = value.to_text().into_owned();
            }
        }
        let mut counter = self.memory.counter(node);
        let mut out = String::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                counter.add_text(&separator_text)?;
                out.push_str(&separator_text);
            }
            let text = item.to_text();
            counter.add_text(&text)?;
            out.push_str(&text);
        }
        Ok(Value::from(out))
    }
}

fn bad_specifiers(specifiers: &str, value: &Value) -> ExprError {
    ExprError::evaluation(format!(
        "The format specifiers '{specifiers}' are not valid for objects of type '{}'",
        value.kind().name()
    ))
}

/// An evaluated index.
struct Key {
    index: Value,
    star: bool,
}

impl Key {
    /// Calls `take` for what the index finds in one array or object.
    fn each(
        &self,
        target: &Value,
        take: &mut dyn FnMut(&Value) -> Result<(), ExprError>,
    ) -> Result<(), ExprError> {
        match target {
            Value::Obj(object) if self.star => object.values().try_for_each(take),
            Value::Arr(array) if self.star => array.iter().try_for_each(take),
            Value::Obj(object) if self.index.is_primitive() => {
                object.get(&self.index.to_text()).map_or(Ok(()), take)
            }
            Value::Arr(array) => self.position().and_then(|at| array.get(at)).map_or(Ok(()), take),
            _ => Ok(()),
        }
    }

    /// The index as a position in an array.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    fn position(&self) -> Option<usize> {
        let number = self.index.to_number().floor();
        (0.0..=f64::from(i32::MAX)).contains(&number).then_some(number as usize)
    }
}

fn filtered(items: Vec<Value>) -> Value {
    Value::Arr(Arc::new(Array { items, filtered: true }))
}

fn contains(text: &Value, item: &Value) -> bool {
    match text {
        Value::Arr(items) => items.iter().any(|candidate| compare::equal(item, candidate)),
        _ => match_texts(text, item, fold::contains),
    }
}

/// Applies `test` to two primitive values as strings; anything else does not match.
fn match_texts(text: &Value, part: &Value, test: fn(&str, &str) -> bool) -> bool {
    text.is_primitive() && part.is_primitive() && test(&text.to_text(), &part.to_text())
}
