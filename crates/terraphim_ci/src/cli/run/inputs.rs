//! The inputs of `workflow_dispatch`: what is given against what is declared.

use indexmap::IndexMap;
use serde_json::{Value, json};
use terraphim_actions::workflow::{DispatchInput, Workflow};

use crate::failure::Failure;

/// What the command line gives, and below it what the payload of the event has.
pub(super) fn given(
    event: &str,
    payload: &Value,
    flags: &IndexMap<String, String>,
) -> IndexMap<String, String> {
    let of_event = payload.get("inputs").and_then(Value::as_object).filter(|_| event == "workflow_dispatch");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_flag = |name: &str| flags.keys().any(|flag| flag.eq_ignore_ascii_case(name));
    let said = of_event.into_iter().flatten().filter(|(name, value)| !value.is_null() && !is_flag(name));
    said.map(|(name, value)| (name.clone(), text(value))).chain(flags.clone()).collect()
}

/// The context `inputs`: typed as declared, with defaults.
pub(super) fn inputs(
    workflow: &Workflow,
    event: &str,
    given: &IndexMap<String, String>,
) -> Result<IndexMap<String, Value>, Failure> {
    let trigger = workflow.on.events.get(event).filter(|_| event == "workflow_dispatch");
    let Some(trigger) = trigger else {
        return match given.keys().next() {
            Some(name) => {
                Err(Failure::usage(format!("`--input {name}`: the event `{event}` takes no inputs"))
                    .hint("inputs are for `--event workflow_dispatch`"))
            }
            None => Ok(IndexMap::new()),
        };
    };
    let declared = &trigger.dispatch_inputs;
    for name in given.keys() {
        if !declared.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            let known: Vec<&str> = declared.keys().map(String::as_str).collect();
            let none = Failure::usage(format!("the workflow has no input `{name}`"));
            return Err(if known.is_empty() {
                none.hint("it has none; inputs are declared in `on.workflow_dispatch.inputs`")
            } else {
                none.hint(format!("it has: {}", known.join(", ")))
            });
        }
    }
    let mut all = IndexMap::new();
    for (name, input) in declared {
        let value =
            given.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        let text = match value.or_else(|| default(input)) {
            Some(text) => text,
            None if input.required => {
                return Err(Failure::usage(format!("input `{name}` is required"))
                    .hint(format!("give it with `--input {name}=VALUE`")));
            }
            None => String::new(),
        };
        all.insert(name.clone(), typed(name, input, &text)?);
    }
    Ok(all)
}

fn default(input: &DispatchInput) -> Option<String> {
    // GitHub allows no expression here; the reader has said so.
    input.default.as_ref()?.literal_text().map(std::borrow::Cow::into_owned)
}

fn typed(name: &str, input: &DispatchInput, text: &str) -> Result<Value, Failure> {
    let wrong = |what: &str| Failure::usage(format!("input `{name}` is `{text}`, which is {what}"));
    match input.kind.as_str() {
        "boolean" => match text {
            "true" => Ok(json!(true)),
            "false" | "" => Ok(json!(false)),
            _ => Err(wrong("neither true nor false")),
        },
        "number" if text.is_empty() => Ok(json!(0)),
        "number" => {
            let number: f64 = text.parse().map_err(|_| wrong("no number"))?;
            serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| wrong("no number"))
        }
        "choice" if !text.is_empty() && !input.options.iter().any(|option| option == text) => {
            Err(wrong("not one of its options").hint(format!("they are: {}", input.options.join(", "))))
        }
        _ => Ok(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow() -> Workflow {
        let text = "on:\n  workflow_dispatch:\n    inputs:\n      Level: {type: choice, options: [low, high], default: low}\n      \
                    dry: {type: boolean, default: true}\n      count: {type: number, required: true}\n\
                    jobs:\n  a:\n    runs-on: x\n    steps: [{run: x}]\n";
        Workflow::parse(text, "w.yml").unwrap()
    }

    #[test]
    fn flags_come_before_the_payload() {
        let flags = IndexMap::from([("level".to_owned(), "high".to_owned())]);
        let payload = json!({"inputs": {"Level": "low", "count": 3, "none": null}});
        let all = super::given("workflow_dispatch", &payload, &flags);
        let want = [("count".to_owned(), "3".to_owned()), ("level".to_owned(), "high".to_owned())];
        assert_eq!(all.into_iter().collect::<Vec<_>>(), want);
        assert!(super::given("push", &payload, &IndexMap::new()).is_empty());
    }

    fn given(pairs: &[(&str, &str)]) -> Result<IndexMap<String, Value>, Failure> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        inputs(&workflow(), "workflow_dispatch", &pairs)
    }

    #[test]
    fn inputs_are_typed_and_defaults_fill_in() {
        let all = given(&[("level", "high"), ("count", "2.5")]).unwrap();
        assert_eq!(json!(all), json!({"Level": "high", "dry": true, "count": 2.5}));
    }

    #[test]
    fn wrong_inputs_are_refused() {
        for bad in [
            &[("count", "x")][..],
            &[][..],
            &[("count", "1"), ("level", "medium")][..],
            &[("count", "1"), ("dry", "yes")][..],
            &[("count", "1"), ("speed", "1")][..],
        ] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
        assert!(inputs(&workflow(), "push", &IndexMap::from([("a".into(), "b".into())])).is_err());
    }
}
