//! Evaluated values along the schema: an expression may have given anything.

use super::{Node, Template, TemplateError};
use crate::expr::{Scope, fold};
use crate::schema::{Definition, Mapping, WORKFLOW};
use std::collections::HashSet;
use std::sync::Arc;

impl Template {
    /// The value with all expressions evaluated, checked to be what the definition wants. A literal
    /// where only text fits becomes text.
    ///
    /// # Errors
    /// If an expression cannot be evaluated, or the first thing that does not fit.
    pub(crate) fn resolve_as(&self, definition: &str, scope: &Scope<'_>) -> Result<Template, TemplateError> {
        let resolved = self.resolve(scope)?;
        match WORKFLOW.get(definition) {
            Some(definition) => conform(&resolved, definition),
            None => Err(self.fail(format!("Schema definition '{definition}' not found"))),
        }
    }
}

fn conform(template: &Template, definition: &Definition) -> Result<Template, TemplateError> {
    let node = match &template.node {
        Node::Seq(items) => {
            let Some(item) = WORKFLOW.sequence(definition).and_then(|name| WORKFLOW.get(name)) else {
                return Err(template.fail("A sequence was not expected"));
            };
            Node::Seq(items.iter().map(|value| conform(value, item)).collect::<Result<_, _>>()?)
        }
        Node::Map(entries) => {
            let candidates = WORKFLOW.mappings(definition);
            if candidates.is_empty() {
                return Err(template.fail("A mapping was not expected"));
            }
            Node::Map(mapping(template, entries, &candidates)?)
        }
        node if WORKFLOW.fits(definition, node) => return Ok(template.clone()),
        _ => {
            let text = Node::Str(Arc::from(template.literal_text().unwrap_or_default()));
            if !WORKFLOW.fits(definition, &text) {
                return Err(template.fail(format!("Unexpected value '{}'", template.display())));
            }
            text
        }
    };
    Ok(Template { node, ..*template })
}

/// The entries of a mapping. Every definition that is evaluated has one mapping at most.
fn mapping(
    template: &Template,
    entries: &[(Template, Template)],
    candidates: &[&Mapping],
) -> Result<Vec<(Template, Template)>, TemplateError> {
    let mapping = candidates[0];
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let name = key.as_str().unwrap_or_default();
        if !seen.insert(fold::fold(name).into_owned()) {
            return Err(key.fail(format!("'{name}' is already defined")));
        }
        let definition = match (mapping.key(name), &mapping.other) {
            (Some(known), _) => &known.definition,
            (None, Some((key_definition, value_definition))) => {
                if let Some(key_definition) = WORKFLOW.get(key_definition) {
                    conform(key, key_definition)?;
                }
                value_definition
            }
            (None, None) => return Err(key.fail(format!("Unexpected value '{name}'"))),
        };
        let Some(definition) = WORKFLOW.get(definition) else {
            return Err(value.fail("Schema definition not found"));
        };
        checked.push((key.clone(), conform(value, definition)?));
    }
    for key in mapping.keys.iter().filter(|key| key.required) {
        if !seen.contains(fold::fold(&key.name).as_ref()) {
            return Err(template.fail(format!("Required property is missing: {}", key.name)));
        }
    }
    Ok(checked)
}
