//! What a workflow does, in words.

use std::collections::BTreeSet;

use terraphim_actions::{
    template::{Node, Template},
    workflow::{CallSecrets, Job, Patterns, Step, StepKind, Trigger, Workflow},
};

/// The explanation of a workflow, one statement a line; lines of a job are indented by two spaces, of its steps by four.
#[must_use]
pub fn explain(workflow: &Workflow) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = &workflow.name {
        lines.push(format!("{}:", name.value));
    }
    for (name, trigger) in &workflow.on.events {
        lines.extend(event(name, trigger));
    }
    if let Some(group) = &workflow.concurrency {
        lines.push(concurrency(group, "workflow"));
    }
    if let Some(permissions) = &workflow.permissions {
        lines.push(format!("The token may: {}.", permitted(permissions)));
    }
    for (id, job) in &workflow.jobs {
        lines.extend(explain_job(id, job));
    }
    let (secrets, variables) = read_names(workflow);
    if !secrets.is_empty() {
        lines.push(format!("It reads the secrets {}.", secrets.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if !variables.is_empty() {
        lines.push(format!(
            "It reads the variables {}.",
            variables.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    lines
}

fn quoted(list: &[impl AsRef<str>]) -> String {
    list.iter().map(|one| format!("`{}`", one.as_ref())).collect::<Vec<_>>().join(", ")
}

fn patterns(patterns: &Patterns) -> String {
    quoted(&patterns.list.iter().map(|one| one.value.as_str()).collect::<Vec<_>>())
}

fn event(name: &str, trigger: &Trigger) -> Vec<String> {
    if name == "schedule" {
        return trigger
            .schedule
            .iter()
            .map(|one| {
                let zone = one.timezone.as_ref().map_or("UTC", |zone| zone.value.as_str());
                format!("Runs {} ({zone}).", cron_in_words(&one.cron.value))
            })
            .collect();
    }
    let mut text = match name {
        "push" => "Runs on every push".to_owned(),
        "pull_request" => "Runs on every pull request".to_owned(),
        "workflow_dispatch" => "Can be started by hand".to_owned(),
        "workflow_call" => "Can be called by other workflows".to_owned(),
        "release" => "Runs on releases".to_owned(),
        "workflow_run" => "Runs after other workflows".to_owned(),
        other => format!("Runs on the event `{other}`"),
    };
    let filters = [
        (&trigger.branches, if name == "pull_request" { " to branches" } else { " of branches" }),
        (&trigger.branches_ignore, " but not of branches"),
        (&trigger.tags, " of tags"),
        (&trigger.tags_ignore, " but not of tags"),
        (&trigger.paths, " that changes"),
        (&trigger.paths_ignore, " unless it changes only"),
        (&trigger.types, " with the activity"),
        (&trigger.workflows, ":"),
    ];
    let said: Vec<String> = filters
        .into_iter()
        .filter_map(|(list, words)| list.as_ref().map(|list| format!("{words} {}", patterns(list))))
        .collect();
    text.push_str(&said.join(","));
    if !trigger.dispatch_inputs.is_empty() {
        let inputs: Vec<String> = trigger
            .dispatch_inputs
            .iter()
            .map(|(name, input)| {
                format!("`{name}` ({}{})", input.kind, if input.required { ", required" } else { "" })
            })
            .collect();
        text.push_str(&format!(" with the inputs {}", inputs.join(", ")));
    }
    text.push('.');
    vec![text]
}

fn explain_job(id: &str, job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    let needs: Vec<&str> = job.needs.iter().map(|one| one.value.as_str()).collect();
    let mut head = format!("Job `{id}`");
    if let Some(runs_on) = &job.runs_on {
        head.push_str(&format!(" on {}", written(runs_on)));
    }
    if !needs.is_empty() {
        head.push_str(&format!(", after {}", quoted(&needs)));
    }
    if let Some(condition) = &job.condition.written {
        head.push_str(&format!(", {}", condition_in_words(condition)));
    }
    lines.push(format!("{head}:"));
    let mut say = |text: String| lines.push(format!("  {text}"));
    if let Some(strategy) = &job.strategy {
        say(matrix(strategy));
    }
    if let Some(environment) = &job.environment {
        say(format!(
            "In the environment {}.",
            environment.get("name").map_or_else(|| written(environment), written)
        ));
    }
    if let Some(container) = &job.container {
        say(format!(
            "In a container of {}.",
            container.get("image").map_or_else(|| written(container), written)
        ));
    }
    if let Some(services) = &job.services {
        let names: Vec<String> = services.entries().iter().map(|(name, _)| written(name)).collect();
        say(format!("With the services {}.", names.join(", ")));
    }
    if let Some(limit) = &job.timeout_minutes {
        say(format!("At most {} minutes.", written(limit)));
    }
    if let Some(group) = &job.concurrency {
        say(concurrency(group, "job"));
    }
    if job.continue_on_error.is_some() {
        say("Its failure may not fail the run.".to_owned());
    }
    if let Some(call) = &job.call {
        let secrets = match &call.secrets {
            CallSecrets::None => "",
            CallSecrets::Inherit => ", with all secrets",
            CallSecrets::Map(_) => ", with some secrets",
        };
        say(format!("Calls the workflow `{}`{secrets}.", call.uses.value));
    }
    for (number, step) in job.steps.iter().enumerate() {
        lines.push(format!("    {}. {}", number + 1, explain_step(step)));
    }
    lines
}

fn explain_step(step: &Step) -> String {
    let mut text = match &step.kind {
        StepKind::Run { run, .. } => {
            let script = written(run);
            let mut parts = script.trim().lines();
            let first = parts.next().unwrap_or_default().to_owned();
            let more = parts.count();
            let more = if more == 0 { String::new() } else { format!(" and {more} more lines") };
            match &step.name {
                Some(name) => format!("{}: runs `{first}`{more}", written(name)),
                None => format!("Runs `{first}`{more}"),
            }
        }
        StepKind::Uses { uses, .. } => {
            let name = step.name.as_ref().map(|name| format!("{}: ", written(name))).unwrap_or_default();
            format!("{name}{}", action_in_words(&uses.value))
        }
        StepKind::Wait(steps) => {
            format!("Waits for {}", quoted(&steps.iter().map(|one| one.value.as_str()).collect::<Vec<_>>()))
        }
        StepKind::WaitAll => "Waits for all background steps".to_owned(),
        StepKind::Cancel(step) => format!("Cancels `{}`", step.value),
        StepKind::Parallel(steps) => {
            let all: Vec<String> = steps.iter().map(explain_step).collect();
            format!("Side by side: {}", all.join("; "))
        }
    };
    if let Some(condition) = &step.condition.written {
        text.push_str(&format!(", {}", condition_in_words(condition)));
    }
    if step.background {
        text.push_str(", in the background");
    }
    if let Some(limit) = &step.timeout_minutes {
        text.push_str(&format!(", at most {} minutes", written(limit)));
    }
    if step.continue_on_error.is_some() {
        text.push_str("; it may fail");
    }
    text
}

/// Well-known actions by what they do.
fn action_in_words(uses: &str) -> String {
    let name = uses.split('@').next().unwrap_or(uses);
    let does = match name {
        "actions/checkout" => "Checks the repository out",
        "actions/cache" => "Keeps files between runs",
        "actions/upload-artifact" => "Saves files as an artifact",
        "actions/download-artifact" => "Fetches artifacts",
        "actions/setup-node" => "Sets Node.js up",
        "actions/setup-python" => "Sets Python up",
        "actions/setup-go" => "Sets Go up",
        "actions/setup-java" => "Sets Java up",
        _ if uses.starts_with("docker://") => return format!("Runs the container image `{}`", &uses[9..]),
        _ => return format!("Uses the action `{uses}`"),
    };
    format!("{does} (`{uses}`)")
}

/// Conditions that everybody writes; others as they are written.
fn condition_in_words(condition: &str) -> String {
    let text = condition.trim();
    let inner = text.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(text).trim();
    match inner {
        "always()" => "whatever happened before".to_owned(),
        "failure()" => "only after a failure".to_owned(),
        "success()" => "only after success".to_owned(),
        "cancelled()" => "only when cancelled".to_owned(),
        "!cancelled()" => "unless cancelled".to_owned(),
        _ => {
            let branch = inner
                .strip_prefix("github.ref == 'refs/heads/")
                .and_then(|rest| rest.strip_suffix('\''))
                .filter(|branch| !branch.contains('\''));
            match branch {
                Some(branch) => format!("only on the branch `{branch}`"),
                None => format!("only if `{inner}`"),
            }
        }
    }
}

fn concurrency(group: &Template, what: &str) -> String {
    let cancels = group.get("cancel-in-progress").is_some_and(|value| written(value) == "true");
    let name = group.get("group").map_or_else(|| written(group), written);
    let then = if cancels { "a newer one cancels it" } else { "others wait" };
    format!("One {what} of the group `{name}` at a time; {then}.")
}

fn permitted(permissions: &terraphim_actions::workflow::Permissions) -> String {
    let said: Vec<String> = permissions
        .iter()
        .filter_map(|(scope, level)| {
            let level = format!("{level:?}").to_lowercase();
            (level != "none").then(|| format!("{level} {scope}"))
        })
        .collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// How many jobs a matrix makes, when that can be seen.
fn matrix(strategy: &Template) -> String {
    let Some(matrix) = strategy.get("matrix") else { return "With a strategy.".to_owned() };
    let mut legs = Some(1_usize);
    let mut axes = Vec::new();
    for (key, values) in matrix.entries() {
        let key = written(key);
        if key == "include" || key == "exclude" {
            legs = None;
            continue;
        }
        let items: Vec<String> = values.items().iter().map(written).collect();
        if items.is_empty() {
            legs = None;
            axes.push(format!("{key} of {}", written(values)));
        } else {
            legs = legs.and_then(|legs| legs.checked_mul(items.len()));
            axes.push(format!("{key} {}", items.join(", ")));
        }
    }
    let count = legs.map_or_else(|| "Once".to_owned(), |legs| format!("{legs} times, once"));
    format!("{count} for each of: {}.", axes.join("; "))
}

/// A value as it is written, in one line; expressions stay expressions.
fn written(template: &Template) -> String {
    match template.literal_text() {
        Some(text) => text.into_owned(),
        None => match &template.node {
            Node::Seq(items) => items.iter().map(written).collect::<Vec<_>>().join(", "),
            Node::Map(entries) => entries
                .iter()
                .map(|(key, value)| format!("{}: {}", written(key), written(value)))
                .collect::<Vec<_>>()
                .join(", "),
            Node::Expr(expr) => with_text(&expr.to_string()),
            _ => String::new(),
        },
    }
}

/// An expression as it is written: one with text around it has become a call of `format`.
fn with_text(expression: &str) -> String {
    let whole = format!("${{{{ {expression} }}}}");
    let Some(rest) = expression.strip_prefix("format('").and_then(|rest| rest.strip_suffix(')')) else {
        return whole;
    };
    let Some((pattern, arguments)) = rest.split_once("', ") else { return whole };
    if arguments.contains(['(', '\'']) || pattern.contains('\'') {
        return whole;
    }
    arguments.split(", ").enumerate().fold(pattern.to_owned(), |text, (number, argument)| {
        text.replace(&format!("{{{number}}}"), &format!("${{{{ {argument} }}}}"))
    })
}

/// The names of the secrets and variables that expressions read.
fn read_names(workflow: &Workflow) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut names = (BTreeSet::new(), BTreeSet::new());
    let mut look = |template: &Option<Template>| {
        if let Some(template) = template {
            template.visit(&mut |part| {
                let Node::Expr(expr) = &part.node else { return };
                let text = expr.to_string();
                collect(&text, "secrets.", &mut names.0);
                collect(&text, "vars.", &mut names.1);
            });
        }
    };
    look(&workflow.env);
    for job in workflow.jobs.values() {
        for template in [
            &job.env,
            &job.runs_on,
            &job.strategy,
            &job.container,
            &job.services,
            &job.outputs,
            &job.environment,
        ] {
            look(template);
        }
        if let Some(call) = &job.call {
            look(&call.with);
            if let CallSecrets::Map(map) = &call.secrets {
                look(&Some(map.clone()));
            }
        }
        for step in &job.steps {
            look(&step.env);
            match &step.kind {
                StepKind::Run { run, .. } => look(&Some(run.clone())),
                StepKind::Uses { with, .. } => look(with),
                _ => {}
            }
        }
    }
    names
}

fn collect(text: &str, prefix: &str, names: &mut BTreeSet<String>) {
    for (at, _) in text.match_indices(prefix) {
        let is_start = !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let name: String = text[at + prefix.len()..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-')
            .collect();
        if is_start && !name.is_empty() {
            names.insert(name);
        }
    }
}

/// A time of `schedule` in words; as it is written when it is not a simple one.
#[must_use]
pub fn cron_in_words(cron: &str) -> String {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else { return format!("at `{cron}`") };
    let number = |text: &str| text.parse::<u32>().ok();
    let every = |text: &str| text.strip_prefix("*/").and_then(|n| n.parse::<u32>().ok());
    let days = match (day, month, weekday) {
        ("*", "*", "*") => "every day".to_owned(),
        ("*", "*", "1-5") => "from Monday to Friday".to_owned(),
        ("*", "*", "6,0" | "0,6") => "on Saturdays and Sundays".to_owned(),
        ("*", "*", weekday) => match weekday_names(weekday) {
            Some(names) => format!("on {names}"),
            None => return format!("at `{cron}`"),
        },
        ("1", "*", "*") => "on the first day of every month".to_owned(),
        (day, "*", "*") => match (every(day), number(day)) {
            (Some(n), _) => format!("every {n} days of the month"),
            (None, Some(n)) => format!("on day {n} of every month"),
            _ => return format!("at `{cron}`"),
        },
        _ => return format!("at `{cron}`"),
    };
    match (number(hour), number(minute), every(hour), every(minute)) {
        (Some(hour), Some(minute), ..) => format!("{days} at {hour:02}:{minute:02}"),
        (None, Some(0), None, _) if hour == "*" => with_days("every hour", &days),
        (None, Some(minute), None, _) if hour == "*" => {
            with_days(&format!("every hour at minute {minute}"), &days)
        }
        (None, Some(0), Some(n), _) => with_days(&format!("every {n} hours"), &days),
        (None, None, None, Some(n)) if hour == "*" => with_days(&format!("every {n} minutes"), &days),
        _ => format!("at `{cron}`"),
    }
}

fn with_days(interval: &str, days: &str) -> String {
    if days == "every day" { interval.to_owned() } else { format!("{interval} {days}") }
}

fn weekday_names(text: &str) -> Option<String> {
    const NAMES: [&str; 8] =
        ["Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];
    let names: Option<Vec<&str>> =
        text.split(',').map(|day| NAMES.get(day.parse::<usize>().ok()?).copied()).collect();
    Some(names?.join(", "))
}
