//! Calls of reusable workflows: what the caller gives must be what the callee asks for.

use super::convert::{Converter, Fail};
use super::model::{Call, CallSecrets, CalledWorkflow, Job};
use super::permissions::Permissions;
use crate::expr::fold;
use crate::template::{Node, Template};

/// `on` of a called workflow: it must have `workflow_call`.
pub(super) fn trigger(
    converter: &mut Converter<'_>,
    on: &Template,
    call: &Call,
    called: &mut CalledWorkflow,
) -> Result<(), Fail> {
    let is_call = |template: &Template| template.as_str() == Some("workflow_call");
    let found = match &on.node {
        Node::Seq(items) => items.iter().any(is_call),
        Node::Map(entries) => match entries.iter().find(|(key, _)| is_call(key)) {
            Some((_, definition)) => {
                called.inputs = definition.get("inputs").cloned();
                called.secrets = definition.get("secrets").cloned();
                called.outputs = definition.get("outputs").cloned();
                true
            }
            None => false,
        },
        _ => is_call(on),
    };
    if !found {
        converter.limits.error_at(on, "workflow_call key is not defined in the referenced workflow.");
        return Ok(());
    }
    inputs(converter, call, called);
    secrets(converter, call, called);
    Ok(())
}

fn find<'a>(map: Option<&'a Template>, key: &str) -> Option<&'a Template> {
    let entries = map.map(Template::entries).unwrap_or_default();
    entries
        .iter()
        .find(|(name, _)| name.as_str().is_some_and(|name| fold::eq(name, key)))
        .map(|(_, value)| value)
}

fn inputs(converter: &mut Converter<'_>, call: &Call, called: &CalledWorkflow) {
    for (name, definition) in called.inputs.as_ref().map(Template::entries).unwrap_or_default() {
        let name = name.as_str().unwrap_or_default();
        let kind = definition.get("type").and_then(Template::as_str).unwrap_or("string");
        if let Some(default) = definition.get("default") {
            check_type(converter, default, kind);
        }
        if let Some(value) = find(call.with.as_ref(), name) {
            check_type(converter, value, kind);
        } else if is_required(definition) {
            let message = format!("Input {name} is required, but not provided while calling.");
            converter.limits.error(call.file, call.uses.span, message);
        }
    }
    undefined(converter, called.inputs.as_ref(), call.with.as_ref(), "input");
}

fn secrets(converter: &mut Converter<'_>, call: &Call, called: &CalledWorkflow) {
    let given = match &call.secrets {
        CallSecrets::Inherit => return,
        CallSecrets::Map(map) => Some(map),
        CallSecrets::None => None,
    };
    for (name, definition) in called.secrets.as_ref().map(Template::entries).unwrap_or_default() {
        let name = name.as_str().unwrap_or_default();
        if find(given, name).is_none() && is_required(definition) {
            let message = format!("Secret {name} is required, but not provided while calling.");
            converter.limits.error(call.file, call.uses.span, message);
        }
    }
    undefined(converter, called.secrets.as_ref(), given, "secret");
}

fn is_required(definition: &Template) -> bool {
    matches!(definition.get("required").map(|required| &required.node), Some(Node::Bool(true)))
}

/// A literal must be of the type of its input. A text takes any literal.
fn check_type(converter: &mut Converter<'_>, value: &Template, kind: &str) {
    let fits = matches!(
        (kind, &value.node),
        (_, Node::Expr(_))
            | ("boolean", Node::Bool(_))
            | ("number", Node::Num(_))
            | ("string", Node::Str(_) | Node::Num(_) | Node::Bool(_))
    );
    if !fits {
        converter.limits.error_at(value, format!("Unexpected value '{}'", value.display()));
    }
}

fn undefined(
    converter: &mut Converter<'_>,
    defined: Option<&Template>,
    given: Option<&Template>,
    what: &str,
) {
    for (name, value) in given.map(Template::entries).unwrap_or_default() {
        let Some(name) = name.as_str() else { continue };
        if find(defined, name).is_none() {
            let message = format!("Invalid {what}, {name} is not defined in the referenced workflow.");
            converter.limits.error_at(value, message);
        }
    }
}

/// The called workflow, or its job `nested`, may not ask for more than the caller has.
pub(super) fn permissions(
    converter: &mut Converter<'_>,
    job: &Job,
    call: &Call,
    nested: Option<&Job>,
    asked: &Permissions,
    max: &Permissions,
) {
    let beyond = asked.beyond(max);
    if beyond.is_empty() {
        return;
    }
    let list = |level: fn(&super::permissions::Violation) -> super::permissions::Level| {
        beyond
            .iter()
            .map(|one| format!("{}: {}", one.scope, level(one).name()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (requested, allowed) = (list(|one| one.requested), list(|one| one.allowed));
    let who = match nested {
        Some(nested) => format!("nested job '{}'", nested.name.display()),
        None => format!("workflow '{}'", call.uses.value),
    };
    let message = format!(
        "Error calling workflow '{}'. The {who} is requesting '{requested}', but is only allowed '{allowed}'.",
        call.uses.value
    );
    converter.limits.error(call.file, job.id.span, message);
}
