//! One expression a line as JSON, for checking an implementation against known answers.

use super::allowed::Allowed;
use super::error::{ErrorKind, ExprError};
use super::eval::Scope;
use super::value::{Object, Value};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Case {
    expr: String,
    #[serde(default)]
    contexts: serde_json::Map<String, serde_json::Value>,
}

/// Evaluates one line `{"expr": "...", "contexts": {...}}` to `{"kind": "...", "value": ...}` or
/// `{"error": {"kind": "lexing|parsing|evaluation", "message": "..."}}`. Only the contexts of the
/// line may be named. Numbers that JSON cannot hold are the strings `NaN`, `Infinity`, `-Infinity`.
#[must_use]
pub fn batch_line(line: &str) -> String {
    let result = match serde_json::from_str::<Case>(line) {
        Ok(case) => evaluate(&case.expr, &Value::from(&serde_json::Value::Object(case.contexts))),
        Err(error) => Err(ExprError::plain(ErrorKind::Lexing, format!("the line is not a case: {error}"))),
    };
    answer(result).to_string()
}

/// Evaluates `expr` with `contexts` (an object) and nothing else.
///
/// # Errors
/// If the expression does not parse or cannot be evaluated.
pub fn evaluate(expr: &str, contexts: &Value) -> Result<Value, ExprError> {
    let empty = Object::new();
    let contexts = match contexts {
        Value::Obj(object) => object,
        _ => &empty,
    };
    let names: Vec<&str> = contexts.iter().map(|(name, _)| name).collect();
    match super::parse(expr, &Allowed::new(&names))? {
        Some(expr) => expr.evaluate(&Scope::of(contexts)),
        None => Ok(Value::Null),
    }
}

/// The JSON answer for a result.
#[must_use]
pub fn answer(result: Result<Value, ExprError>) -> serde_json::Value {
    match result {
        Ok(value) => json!({ "kind": value.kind().name(), "value": serde_json::Value::from(&value) }),
        Err(error) => json!({ "error": { "kind": error.kind.name(), "message": error.message } }),
    }
}
