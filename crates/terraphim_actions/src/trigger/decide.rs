//! The decision.

use super::event::Event;
use super::events;
use super::pattern::PatternList;
use crate::span::Span;
use crate::workflow::{Patterns, Trigger, Triggers};

/// Whether a workflow starts, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Does it start?
    pub starts: bool,
    /// The reason, as a sentence.
    pub reason: String,
    /// What decided, in the workflow file.
    pub span: Span,
}

/// A reason against.
type Refusal = (String, Span);

/// Does `event` start a workflow with these triggers?
#[must_use]
pub fn decide(triggers: &Triggers, event: &Event) -> Decision {
    let Some(trigger) = triggers.events.get(&event.name) else {
        let reason = format!("not started: 'on' does not name the event '{}'", event.name);
        return Decision { starts: false, reason, span: triggers.span };
    };
    match check(trigger, event) {
        Ok(()) => {
            let reason = format!("started: the event '{}' passes all filters", event.name);
            Decision { starts: true, reason, span: trigger.span }
        }
        Err((reason, span)) => {
            let reason = format!("not started: {reason}, line {}", span.line);
            Decision { starts: false, reason, span }
        }
    }
}

fn check(trigger: &Trigger, event: &Event) -> Result<(), Refusal> {
    types(trigger, event)?;
    refs(trigger, event)?;
    paths(trigger, event)?;
    if let (Some(workflows), Some(name)) = (&trigger.workflows, &event.workflow) {
        admitted(workflows, "workflows", "workflow", std::slice::from_ref(name))?;
    }
    if let (false, Some(cron)) = (trigger.schedule.is_empty(), &event.cron)
        && !trigger.schedule.iter().any(|schedule| schedule.cron.value == *cron)
    {
        return Err((format!("the time '{cron}' is not one of schedule"), trigger.span));
    }
    Ok(())
}

/// The activity type must be one of `types`, or of the event's own if there are none.
fn types(trigger: &Trigger, event: &Event) -> Result<(), Refusal> {
    let Some(activity) = &event.activity else { return Ok(()) };
    if let Some(types) = &trigger.types {
        let named = types.list.iter().any(|known| known.value.eq_ignore_ascii_case(activity));
        let reason = || format!("activity type '{activity}' is not one of types");
        return if named { Ok(()) } else { Err((reason(), types.span)) };
    }
    let defaults = events::find(&event.name).map(|info| info.default_types).unwrap_or_default();
    if defaults.is_empty() || defaults.contains(&activity.as_str()) {
        return Ok(());
    }
    let list = defaults.join(", ");
    Err((format!("activity type '{activity}' is not one of the default types ({list})"), trigger.span))
}

/// The branch or the tag. A filter for the one shuts out the other.
fn refs(trigger: &Trigger, event: &Event) -> Result<(), Refusal> {
    let branches = trigger.branches.as_ref().or(trigger.branches_ignore.as_ref());
    let tags = trigger.tags.as_ref().or(trigger.tags_ignore.as_ref());
    if let Some(tag) = &event.tag {
        return match (tags, branches) {
            (None, Some(branches)) => {
                Err((format!("tag '{tag}' was pushed, but only branches are named"), branches.span))
            }
            _ => one(&trigger.tags, "tags", &trigger.tags_ignore, "tags-ignore", "tag", tag),
        };
    }
    let Some(branch) = &event.branch else { return Ok(()) };
    match (branches, tags) {
        (None, Some(tags)) => {
            Err((format!("branch '{branch}' was pushed, but only tags are named"), tags.span))
        }
        _ => {
            one(&trigger.branches, "branches", &trigger.branches_ignore, "branches-ignore", "branch", branch)
        }
    }
}

fn one(
    only: &Option<Patterns>,
    only_key: &str,
    ignore: &Option<Patterns>,
    ignore_key: &str,
    what: &str,
    name: &String,
) -> Result<(), Refusal> {
    let names = std::slice::from_ref(name);
    if let Some(patterns) = only {
        admitted(patterns, only_key, what, names)?;
    }
    if let Some(patterns) = ignore {
        not_ignored(patterns, ignore_key, what, names)?;
    }
    Ok(())
}

/// Changed files; they do not matter for tags, and not if they are unknown.
fn paths(trigger: &Trigger, event: &Event) -> Result<(), Refusal> {
    let (None, Some(files)) = (&event.tag, &event.changed_files) else { return Ok(()) };
    if let Some(patterns) = &trigger.paths {
        admitted(patterns, "paths", "changed file", files)?;
    }
    if let Some(patterns) = &trigger.paths_ignore {
        not_ignored(patterns, "paths-ignore", "changed file", files)?;
    }
    Ok(())
}

fn compile(patterns: &Patterns, key: &str) -> Result<PatternList, Refusal> {
    let texts: Vec<&str> = patterns.list.iter().map(|pattern| pattern.value.as_str()).collect();
    PatternList::new(&texts).map_err(|(index, error)| {
        let pattern = &patterns.list[index];
        (format!("the pattern '{}' of {key} is not valid ({error})", pattern.value), pattern.span)
    })
}

fn admitted(patterns: &Patterns, key: &str, what: &str, names: &[String]) -> Result<(), Refusal> {
    if compile(patterns, key)?.admits(names) {
        return Ok(());
    }
    let reason = match names {
        [name] => format!("{what} '{name}' matches no pattern of {key}"),
        _ => format!("none of {} {what}s matches a pattern of {key}", names.len()),
    };
    Err((reason, patterns.span))
}

fn not_ignored(patterns: &Patterns, key: &str, what: &str, names: &[String]) -> Result<(), Refusal> {
    if !compile(patterns, key)?.ignores(names) {
        return Ok(());
    }
    let reason = match names {
        [name] => format!("{what} '{name}' matches a pattern of {key}"),
        _ => format!("all {} {what}s match patterns of {key}", names.len()),
    };
    Err((reason, patterns.span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::Workflow;

    fn reason(on: &str, event: &Event) -> (bool, String) {
        let text = format!("on:\n{on}jobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}");
        let workflow = Workflow::parse(&text, "w.yml").expect("a workflow");
        let decision = decide(&workflow.on, event);
        (decision.starts, decision.reason)
    }

    fn push(branch: &str, files: &[&str]) -> Event {
        Event {
            branch: Some(branch.into()),
            changed_files: Some(files.iter().map(|file| (*file).to_owned()).collect()),
            ..Event::new("push")
        }
    }

    #[test]
    fn branches_and_paths_both_count() {
        let on = "  push:\n    branches: [main, 'v*', '!v1']\n    paths-ignore: ['*.md']\n";
        assert!(reason(on, &push("main", &["a.rs"])).0);
        let (starts, why) = reason(on, &push("v1", &["a.rs"]));
        assert!(!starts);
        assert_eq!(why, "not started: branch 'v1' matches no pattern of branches, line 3");
        let (_, why) = reason(on, &push("main", &["a.md"]));
        assert_eq!(why, "not started: changed file 'a.md' matches a pattern of paths-ignore, line 4");
    }

    #[test]
    fn a_filter_for_branches_shuts_tags_out() {
        let tag = Event { tag: Some("v1".into()), ..Event::new("push") };
        assert!(!reason("  push:\n    branches-ignore: [x]\n", &tag).0);
        assert!(reason("  push:\n    branches: [x]\n    tags: ['v*']\n", &tag).0);
        assert!(reason("  push:\n", &tag).0);
    }

    #[test]
    fn pull_requests_have_default_types() {
        let closed = Event { activity: Some("closed".into()), ..Event::new("pull_request") };
        assert!(!reason("  pull_request:\n", &closed).0);
        assert!(reason("  pull_request:\n    types: closed\n", &closed).0);
        assert!(!reason("  push:\n", &closed).0);
    }

    #[test]
    fn a_payload_tells_what_changed() {
        let payload = crate::expr::from_json(
            r#"{"ref": "refs/heads/main", "commits": [{"added": ["a"], "modified": ["b"], "removed": ["a"]}]}"#,
        );
        let event = Event::from_payload("push", &payload.expect("JSON"));
        assert_eq!(event, push("main", &["a", "b"]));
    }
}
