//! The inputs of an action: what the step gives, and the defaults of what it does not give.

use indexmap::IndexMap;
use terraphim_actions::action::{Action, Runs, input_variable, unexpected_inputs};
use terraphim_actions::expr::Object;
use terraphim_actions::workflow::Uses;

use super::load::Loaded;
use crate::engine::job::Job;
use crate::engine::plan::PlannedAction;
use crate::engine::step::Frame;
use crate::error::Result;

/// Inputs that docker actions take without declaring them.
const OF_DOCKER: [&str; 2] = ["entrypoint", "args"];

/// The inputs of an action.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    /// By name: first those that the step gives, as it spells them, then the others that the action declares.
    pub(super) values: IndexMap<String, String>,
    /// What GitHub warns of.
    pub(super) warnings: Vec<String>,
}

impl Inputs {
    /// The variables that a program sees them in.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.values.iter().map(|(name, value)| (input_variable(name), value.clone()))
    }

    /// What a step tells a docker action to run instead of what the action says.
    pub(super) fn of_docker(&self, key: &str) -> Option<String> {
        let given = self.values.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        given.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// The context `inputs` of a composite or docker action: texts, whatever they look like.
    pub(super) fn context(&self) -> Object {
        self.values.iter().map(|(name, value)| (name, value.as_str())).collect()
    }
}

impl Job {
    /// Evaluates the inputs of an action. A default is evaluated only if the step does not give the input. The inner
    /// error is one of the step.
    pub(super) async fn action_inputs(
        &mut self,
        frame: &Frame,
        planned: &PlannedAction,
        loaded: &Loaded,
    ) -> Result<Result<Inputs, String>> {
        let mut values = match &planned.with {
            Some(with) => match self.evaluate(&frame.contexts, |scope| with.text_map(scope)).await? {
                Ok(values) => values,
                Err(error) => return Ok(Err(self.describe(&error))),
            },
            None => IndexMap::new(),
        };
        // An image by itself declares no inputs; whatever it is given it gets.
        let warnings = match &planned.uses {
            Uses::Docker(_) => Vec::new(),
            _ => warnings(&loaded.action, &values),
        };
        let is_given = |values: &IndexMap<String, String>, name: &str| {
            values.keys().any(|given| given.to_lowercase() == name.to_lowercase())
        };
        for (name, input) in &loaded.action.inputs {
            if is_given(&values, name) {
                continue;
            }
            let value = match &input.default {
                Some(default) => {
                    match self.evaluate(&frame.contexts, |scope| default.text_value(scope)).await? {
                        Ok(value) => value,
                        Err(error) => return Ok(Err(format!("{} {error}", loaded.file))),
                    }
                }
                None => String::new(),
            };
            values.insert(name.clone(), value);
        }
        Ok(Ok(Inputs { values, warnings }))
    }
}

fn warnings(action: &Action, given: &IndexMap<String, String>) -> Vec<String> {
    let mut warnings = Vec::new();
    // GitHub's texts and order.
    for name in given.keys() {
        let message = action.input(name).and_then(|input| input.deprecation_message.as_deref());
        if let Some(message) = message {
            warnings.push(format!("Input '{name}' has been deprecated with message: {message}"));
        }
    }
    let mut unexpected = unexpected_inputs(action, given.keys().map(String::as_str));
    if matches!(action.runs, Runs::Docker(_)) {
        unexpected.retain(|name| !OF_DOCKER.contains(&name.to_lowercase().as_str()));
    }
    if !unexpected.is_empty() {
        let valid: Vec<&str> = action.inputs.keys().map(String::as_str).collect();
        warnings.push(format!(
            "Unexpected input(s) '{}', valid inputs are ['{}']",
            unexpected.join("', '"),
            valid.join("', '")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unexpected_or_deprecated_is_said() {
        let text = "inputs: {a: {}, b-c: {deprecationMessage: 'use a'}}\nruns: {using: node20, main: x}\n";
        let action = Action::parse(text, "action.yml").unwrap();
        let given = |names: &[&str]| {
            let given = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            warnings(&action, &given)
        };
        assert_eq!(given(&["A"]), Vec::<String>::new());
        assert_eq!(given(&["x", "A", "y"]), ["Unexpected input(s) 'x', 'y', valid inputs are ['a', 'b-c']"]);
        assert_eq!(given(&["B-C"]), ["Input 'B-C' has been deprecated with message: use a"]);
        let both = given(&["x", "b-c"]);
        assert_eq!(both.len(), 2);
        assert!(both[0].contains("deprecated") && both[1].starts_with("Unexpected"), "{both:?}");
    }
}
