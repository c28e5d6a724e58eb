//! Equality and order of values: JavaScript's abstract comparison, but strings without regard to
//! case, and arrays and objects only equal to themselves.

use super::ast::Comparison;
use super::fold;
use super::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

/// Compares two values as an operator does.
pub(super) fn holds(comparison: Comparison, left: &Value, right: &Value) -> bool {
    match comparison {
        Comparison::Equal => equal(left, right),
        Comparison::NotEqual => !equal(left, right),
        Comparison::Less => order(left, right) == Some(Ordering::Less),
        Comparison::Greater => order(left, right) == Some(Ordering::Greater),
        Comparison::LessEqual => equal(left, right) || order(left, right) == Some(Ordering::Less),
        Comparison::GreaterEqual => equal(left, right) || order(left, right) == Some(Ordering::Greater),
    }
}

/// The `==` of expressions.
#[must_use]
pub fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Str(left), Value::Str(right)) => fold::eq(left, right),
        (Value::Arr(left), Value::Arr(right)) => Arc::ptr_eq(left, right),
        (Value::Obj(left), Value::Obj(right)) => Arc::ptr_eq(left, right),
        (Value::Arr(_) | Value::Obj(_), _) | (_, Value::Arr(_) | Value::Obj(_)) => false,
        _ => left.to_number() == right.to_number(),
    }
}

/// The order of two values, if they have one.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => None,
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Str(left), Value::Str(right)) => Some(fold::cmp(left, right)),
        (Value::Arr(_) | Value::Obj(_), _) | (_, Value::Arr(_) | Value::Obj(_)) => None,
        _ => left.to_number().partial_cmp(&right.to_number()),
    }
}
