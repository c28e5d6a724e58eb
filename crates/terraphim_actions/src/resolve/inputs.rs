//! The `inputs` context: of a workflow that was started by hand, and of one that was called.

use crate::expr::{Object, Scope, Value, fold, number};
use crate::template::{Template, TemplateError};
use crate::workflow::{DispatchInput, Trigger};
use indexmap::IndexMap;

/// Why inputs given by hand do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// There is no such input.
    #[error("the workflow has no input '{0}'")]
    Unknown(String),
    /// It must be given.
    #[error("the input '{0}' is required")]
    Missing(String),
    /// It is of another type.
    #[error("the input '{name}' must be {wanted}, not '{value}'")]
    Value {
        /// The input.
        name: String,
        /// What it must be.
        wanted: String,
        /// What was given.
        value: String,
    },
}

/// The `inputs` context of a run that was started by hand: the values by their types. For
/// `github.event.inputs`, which holds texts, use [`dispatch_texts`].
///
/// # Errors
/// If an input is unknown, missing or of another type.
pub fn dispatch_inputs(trigger: &Trigger, given: &IndexMap<String, String>) -> Result<Object, InputError> {
    let unknown = |name: &&String| !trigger.dispatch_inputs.keys().any(|known| fold::eq(known, name));
    if let Some(name) = given.keys().find(unknown) {
        return Err(InputError::Unknown(name.clone()));
    }
    let mut inputs = Object::new();
    for (name, input) in &trigger.dispatch_inputs {
        let written = given.iter().find(|(known, _)| fold::eq(known, name)).map(|(_, value)| value.as_str());
        inputs.insert(name, dispatch_input(name, input, written)?);
    }
    Ok(inputs)
}

fn dispatch_input(name: &str, input: &DispatchInput, given: Option<&str>) -> Result<Value, InputError> {
    let default = input.default.as_ref().and_then(Template::literal_text);
    let text = given.map(std::borrow::Cow::Borrowed).or(default);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        if input.required {
            return Err(InputError::Missing(name.to_owned()));
        }
        return Ok(empty(&input.kind));
    };
    let wrong = |wanted: &str| InputError::Value {
        name: name.to_owned(),
        wanted: wanted.to_owned(),
        value: text.clone().into_owned(),
    };
    match input.kind.as_str() {
        "boolean" => text.parse().map(Value::Bool).map_err(|_| wrong("true or false")),
        "number" => match number::parse(&text) {
            number if number.is_nan() => Err(wrong("a number")),
            number => Ok(Value::Num(number)),
        },
        "choice" if !input.options.iter().any(|option| *option == *text) => {
            Err(wrong(&format!("one of {}", input.options.join(", "))))
        }
        _ => Ok(Value::str(&text)),
    }
}

fn empty(kind: &str) -> Value {
    match kind {
        "boolean" => Value::Bool(false),
        "number" => Value::Num(0.0),
        _ => Value::str(""),
    }
}

/// The same inputs as texts, as the payload of the event has them.
#[must_use]
pub fn dispatch_texts(inputs: &Object) -> Object {
    inputs.iter().map(|(name, value)| (name, value.to_text().into_owned())).collect()
}

/// The `inputs` context of a called workflow. `definitions` is its `on.workflow_call.inputs`, whose
/// defaults see `callee` (`github`, `inputs`, `vars`); `with` is what the caller gives, which sees
/// `caller`.
///
/// # Errors
/// If an expression cannot be evaluated, or a value is of another type.
pub fn call_inputs(
    definitions: Option<&Template>,
    callee: &Scope<'_>,
    with: Option<&Template>,
    caller: &Scope<'_>,
) -> Result<Object, TemplateError> {
    let mut inputs = Object::new();
    for (name, definition) in definitions.map(Template::entries).unwrap_or_default() {
        let name = name.as_str().unwrap_or_default();
        let kind = definition.get("type").and_then(Template::as_str).unwrap_or("string");
        let given = with.map(Template::entries).unwrap_or_default().iter();
        let mut given = given.filter(|(key, _)| key.as_str().is_some_and(|key| fold::eq(key, name)));
        let value = match (given.next(), definition.get("default")) {
            (Some((_, value)), _) => typed(value, kind, caller)?,
            (None, Some(default)) => typed(default, kind, callee)?,
            (None, None) => empty(kind),
        };
        inputs.insert(name, value);
    }
    Ok(inputs)
}

/// A value of the type of its input. A text takes any scalar.
fn typed(template: &Template, kind: &str, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    match kind {
        "boolean" => template.bool_value(scope).map(Value::Bool),
        "number" => template.number_value(scope).map(Value::Num),
        _ => template.text_value(scope).map(Value::from),
    }
}

/// The outputs of a called workflow; `outputs` is its `on.workflow_call.outputs`.
///
/// # Errors
/// If an expression cannot be evaluated or gives no text.
pub fn call_outputs(
    outputs: Option<&Template>,
    scope: &Scope<'_>,
) -> Result<IndexMap<String, String>, TemplateError> {
    let mut values = IndexMap::new();
    for (name, definition) in outputs.map(Template::entries).unwrap_or_default() {
        if let (Some(name), Some(value)) = (name.as_str(), definition.get("value")) {
            values.insert(name.to_owned(), value.text_value(scope)?);
        }
    }
    Ok(values)
}

/// The secrets that a call passes by name; empty ones are left out.
///
/// # Errors
/// If an expression cannot be evaluated or gives no text.
pub fn call_secrets(
    secrets: &Template,
    scope: &Scope<'_>,
) -> Result<IndexMap<String, String>, TemplateError> {
    let mut values = IndexMap::new();
    for (name, value) in secrets.entries() {
        let text = value.text_value(scope)?;
        if let (Some(name), false) = (name.as_str(), text.is_empty()) {
            values.insert(name.to_owned(), text);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::Workflow;

    fn trigger() -> Trigger {
        let text = "\
on:
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [low, high], default: low}
      dry: {type: boolean}
      count: {type: number, required: true}
      note:
jobs: {a: {runs-on: x, steps: [{run: x}]}}
";
        Workflow::parse(text, "w.yml")
            .expect("a workflow")
            .on
            .events
            .swap_remove("workflow_dispatch")
            .expect("on")
    }

    fn given(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn inputs_by_hand_have_types() {
        let inputs = dispatch_inputs(&trigger(), &given(&[("COUNT", "3"), ("dry", "true")])).expect("inputs");
        let json = serde_json::Value::from(&Value::from(inputs.clone())).to_string();
        assert_eq!(json, r#"{"level":"low","dry":true,"count":3,"note":""}"#);
        assert_eq!(dispatch_texts(&inputs).get("dry").expect("dry").to_text(), "true");
    }

    #[test]
    fn wrong_inputs_are_refused() {
        for (pairs, message) in [
            (vec![], "the input 'count' is required"),
            (vec![("x", "1")], "the workflow has no input 'x'"),
            (vec![("count", "many")], "the input 'count' must be a number, not 'many'"),
            (vec![("count", "1"), ("dry", "yes")], "the input 'dry' must be true or false, not 'yes'"),
            (vec![("count", "1"), ("level", "mid")], "the input 'level' must be one of low, high, not 'mid'"),
        ] {
            assert_eq!(dispatch_inputs(&trigger(), &given(&pairs)).expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn inputs_of_a_call_have_types_and_defaults() {
        let text = "\
on:
  workflow_call:
    inputs:
      a: {type: string, default: '${{ github.x }}'}
      b: {type: number}
      c: {type: boolean}
jobs: {a: {runs-on: x, steps: [{run: x}]}}
";
        let workflow = Workflow::parse(text, "w.yml").expect("a workflow");
        let definitions = workflow.on.events["workflow_call"].call_inputs.as_ref();
        let mut contexts = Object::new();
        contexts.insert("github", [("x", "X")].into_iter().collect::<Object>());
        contexts.insert("matrix", [("n", 7.0)].into_iter().collect::<Object>());
        let caller = "on: push\njobs: {a: {uses: ./x, with: {B: '${{ matrix.n }}', c: true}}}";
        let caller = Workflow::parse(caller, "w.yml").expect("a workflow");
        let with = caller.jobs["a"].call.as_ref().and_then(|call| call.with.as_ref());
        let scope = Scope::of(&contexts);
        let inputs = call_inputs(definitions, &scope, with, &scope).expect("inputs");
        let json = serde_json::Value::from(&Value::from(inputs)).to_string();
        assert_eq!(json, r#"{"a":"X","b":7,"c":true}"#);
    }
}
