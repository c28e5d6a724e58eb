//! `on`: the events that start a workflow.

use super::convert::Fail;
use crate::expr::number;
use crate::span::{Span, Spanned};
use crate::template::{Limits, Node, Template};
use indexmap::IndexMap;

/// The events that start a workflow.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    /// Where `on` is.
    pub span: Span,
    /// The events in the order of the file, by name.
    pub events: IndexMap<String, Trigger>,
}

/// One event and what it must be like.
#[derive(Clone, Debug, Default)]
pub struct Trigger {
    /// Where the event is named.
    pub span: Span,
    /// `types`: the activity types; GitHub's default for the event if there are none.
    pub types: Option<Patterns>,
    /// `branches`
    pub branches: Option<Patterns>,
    /// `branches-ignore`
    pub branches_ignore: Option<Patterns>,
    /// `tags`
    pub tags: Option<Patterns>,
    /// `tags-ignore`
    pub tags_ignore: Option<Patterns>,
    /// `paths`
    pub paths: Option<Patterns>,
    /// `paths-ignore`
    pub paths_ignore: Option<Patterns>,
    /// `workflows` of `workflow_run`
    pub workflows: Option<Patterns>,
    /// `names` of `image_version`
    pub names: Option<Patterns>,
    /// `versions` of `image_version`
    pub versions: Option<Patterns>,
    /// `schedule`
    pub schedule: Vec<Schedule>,
    /// `inputs` of `workflow_dispatch`
    pub dispatch_inputs: IndexMap<String, DispatchInput>,
    /// `inputs` of `workflow_call`
    pub call_inputs: Option<Template>,
    /// `secrets` of `workflow_call`
    pub call_secrets: Option<Template>,
    /// `outputs` of `workflow_call`
    pub call_outputs: Option<Template>,
    /// Keys that mean nothing to this event; GitHub ignores them.
    pub unknown: Vec<Spanned<String>>,
}

/// The list of one filter.
#[derive(Clone, Debug)]
pub struct Patterns {
    /// Where the key is.
    pub span: Span,
    /// The patterns in order.
    pub list: Vec<Spanned<String>>,
}

/// One time of `schedule`.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `cron`
    pub cron: Spanned<String>,
    /// `timezone`; UTC if there is none.
    pub timezone: Option<Spanned<String>>,
}

/// An input of `workflow_dispatch`.
#[derive(Clone, Debug)]
pub struct DispatchInput {
    /// Where the input is named.
    pub span: Span,
    /// `description`
    pub description: Option<String>,
    /// `type`: `string`, `boolean`, `number`, `choice` or `environment`.
    pub kind: String,
    /// `required`
    pub required: bool,
    /// `default`
    pub default: Option<Template>,
    /// `options` of a choice.
    pub options: Vec<String>,
}

/// `on` of a file. The schema has checked the events.
pub(super) fn convert(on: &Template) -> Result<Triggers, Fail> {
    let mut triggers = Triggers { span: on.span, events: IndexMap::new() };
    match &on.node {
        Node::Str(name) => triggers.add(name, Trigger { span: on.span, ..Trigger::default() }),
        Node::Seq(names) => {
            for name in names {
                let text = name.as_str().ok_or_else(|| Fail::unexpected(name, "on"))?;
                triggers.add(text, Trigger { span: name.span, ..Trigger::default() });
            }
        }
        Node::Map(entries) => {
            for (name, value) in entries {
                let text = name.as_str().ok_or_else(|| Fail::unexpected(name, "on"))?;
                triggers.add(text, event(text, name.span, value)?);
            }
        }
        _ => return Err(Fail::unexpected(on, "on")),
    }
    Ok(triggers)
}

/// The types of an input of `workflow_dispatch`. docs.github.com, "Workflow syntax", `on.workflow_dispatch.inputs`.
const INPUT_TYPES: [&str; 5] = ["string", "boolean", "number", "choice", "environment"];

/// The inputs of `workflow_dispatch`: a type that there is, options of a choice, a default that fits.
pub(super) fn check_inputs(limits: &mut Limits, on: &Template) {
    let inputs = on.get("workflow_dispatch").and_then(|event| event.get("inputs"));
    for (name, input) in inputs.map(Template::entries).unwrap_or_default() {
        let name_text = name.as_str().unwrap_or_default();
        let declared = dispatch_input(name.span, input);
        let kind = input.get("type").unwrap_or(name);
        let (place, message, hint) = if !INPUT_TYPES.contains(&declared.kind.as_str()) {
            let message = format!("Unexpected value '{}'", declared.kind);
            (kind, message, format!("The type of an input is one of {}", INPUT_TYPES.join(", ")))
        } else if declared.kind == "choice" && declared.options.is_empty() {
            let message = format!("The input '{name_text}' is a choice and has no options");
            (kind, message, "List them, for example `options: [low, high]`".to_owned())
        } else if let Some((default, wanted)) = wrong_default(&declared) {
            let message =
                format!("The default '{}' of the input '{name_text}' does not fit", default.display());
            (default, message, format!("It must be {wanted}"))
        } else {
            continue;
        };
        limits.error_with(place.file, place.span, message, Some(hint));
    }
}

/// A default that the input cannot have, and what it must be.
fn wrong_default(input: &DispatchInput) -> Option<(&Template, String)> {
    let default = input.default.as_ref()?;
    // An empty one is none.
    let text = default.literal_text().filter(|text| !text.is_empty())?;
    let (fits, wanted) = match input.kind.as_str() {
        "boolean" => (matches!(&*text, "true" | "false"), "true or false".to_owned()),
        "number" => (!number::parse(&text).is_nan(), "a number".to_owned()),
        "choice" => {
            let fits = input.options.iter().any(|option| *option == *text);
            (fits, format!("one of {}", input.options.join(", ")))
        }
        _ => return None,
    };
    (!fits).then_some((default, wanted))
}

impl Triggers {
    fn add(&mut self, name: &str, trigger: Trigger) {
        self.events.entry(name.to_owned()).or_insert(trigger);
    }
}

fn event(name: &str, span: Span, value: &Template) -> Result<Trigger, Fail> {
    let mut trigger = Trigger { span, ..Trigger::default() };
    if name == "schedule" {
        trigger.schedule = value.items().iter().filter_map(schedule).collect();
        return Ok(trigger);
    }
    for (key, value) in value.entries() {
        let text = key.as_str().unwrap_or_default();
        match (name, text) {
            ("workflow_call", "inputs") => trigger.call_inputs = Some(value.clone()),
            ("workflow_call", "secrets") => trigger.call_secrets = Some(value.clone()),
            ("workflow_call", "outputs") => trigger.call_outputs = Some(value.clone()),
            ("workflow_dispatch", "inputs") => {
                for (name, input) in value.entries() {
                    let id = name.as_str().unwrap_or_default().to_owned();
                    trigger.dispatch_inputs.insert(id, dispatch_input(name.span, input));
                }
            }
            _ => match trigger.filter(name, text) {
                Some(filter) => *filter = patterns(key.span, value)?,
                None => trigger.unknown.push(Spanned::new(text.to_owned(), key.span)),
            },
        }
    }
    Ok(trigger)
}

impl Trigger {
    /// The filter `key` of the event `name`.
    fn filter(&mut self, name: &str, key: &str) -> Option<&mut Option<Patterns>> {
        let branches = ["push", "pull_request", "pull_request_target", "merge_group", "workflow_run"];
        let paths = ["push", "pull_request", "pull_request_target"];
        match key {
            "types" if name != "push" => Some(&mut self.types),
            "branches" if branches.contains(&name) => Some(&mut self.branches),
            "branches-ignore" if branches.contains(&name) => Some(&mut self.branches_ignore),
            "tags" if name == "push" => Some(&mut self.tags),
            "tags-ignore" if name == "push" => Some(&mut self.tags_ignore),
            "paths" if paths.contains(&name) => Some(&mut self.paths),
            "paths-ignore" if paths.contains(&name) => Some(&mut self.paths_ignore),
            "workflows" if name == "workflow_run" => Some(&mut self.workflows),
            "names" if name == "image_version" => Some(&mut self.names),
            "versions" if name == "image_version" => Some(&mut self.versions),
            _ => None,
        }
    }
}

fn patterns(span: Span, value: &Template) -> Result<Option<Patterns>, Fail> {
    let list = match &value.node {
        Node::Null => return Ok(None),
        Node::Str(text) => vec![Spanned::new(text.to_string(), value.span)],
        Node::Seq(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let text = item.as_str().ok_or_else(|| Fail::unexpected(item, "on"))?;
                list.push(Spanned::new(text.to_owned(), item.span));
            }
            list
        }
        _ => return Err(Fail::unexpected(value, "on")),
    };
    Ok(Some(Patterns { span, list }))
}

fn schedule(item: &Template) -> Option<Schedule> {
    let text = |key: &str| {
        let value = item.get(key)?;
        Some(Spanned::new(value.as_str()?.to_owned(), value.span))
    };
    Some(Schedule { cron: text("cron")?, timezone: text("timezone") })
}

fn dispatch_input(span: Span, input: &Template) -> DispatchInput {
    let text = |key: &str| input.get(key).and_then(Template::as_str).map(str::to_owned);
    DispatchInput {
        span,
        description: text("description"),
        kind: text("type").unwrap_or_else(|| "string".to_owned()),
        required: matches!(input.get("required").map(|value| &value.node), Some(Node::Bool(true))),
        default: input.get("default").cloned(),
        options: input
            .get("options")
            .map(Template::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|option| option.as_str().map(str::to_owned))
            .collect(),
    }
}
