//! Commands as they are named: in backticks, or by a tool with its subcommand.

use super::{
    draft::Draft,
    reader::Reader,
    tools::{self, Tool},
};

pub(super) const VERBS: &str = "run|runs|running|execute|do|perform|check|use|using|call|invoke|start|with|via|through|and|then|also|everything|it";

/// A command in backticks is taken as it is.
pub(super) fn code(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    reader.phrase(&format!("{VERBS}*"));
    let Some(text) = reader.code() else { return false };
    draft.command(text.clone(), tool_of(&text));
    true
}

/// The tool that a command line starts with.
fn tool_of(command: &str) -> Option<&'static Tool> {
    let mut words = command.split_whitespace().skip_while(|word| word.contains('=') || *word == "sudo");
    match words.next()? {
        "npx" => words.next().and_then(tools::find),
        word => tools::find(word),
    }
}

/// "cargo test", "npm run build", "make check", "pytest -q tests/".
pub(super) fn tool(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    reader.phrase(&format!("{VERBS}*"));
    let Some(tool) = tools::find(reader.word(0)) else { return false };
    // "docker compose up", "make sure": the second word decides.
    if tool.names[0] == "make" && matches!(reader.word(1), "sure" | "a" | "the" | "it" | "an") {
        return false;
    }
    let is_free = tool.subcommands.contains(&"*");
    let next = reader.word(1).to_owned();
    let is_subcommand = tool.subcommands.contains(&next.as_str());
    if !is_subcommand && (!is_free || !is_argument(&next)) {
        return named_alone(reader, draft, tool);
    }
    reader.go(reader.position() + 1);
    loop {
        let subcommand = reader.raw(0).to_owned();
        reader.go(reader.position() + 1);
        one_command(reader, draft, tool, &subcommand);
        let joint = reader.position();
        let goes_on = reader.joint()
            && tool.subcommands.contains(&reader.word(0))
            && !matches!(
                reader.word(1),
                "the" | "a" | "our" | "an" | "docker" | "image" | "it" | "everything" | "with"
            );
        if !goes_on {
            reader.go(joint);
            return true;
        }
    }
}

fn is_argument(word: &str) -> bool {
    const ENDS: &[&str] = &[
        "", "on", "and", "then", "with", "in", "at", "for", "when", "to", "every", "or", "is", "the",
        "before", "after", "within", "nightly", "daily", "weekly", "if", "from", "using", "but", "as",
        "versions", "version", "a", "an", "project", "code",
    ];
    !ENDS.contains(&word)
}

/// A subcommand with its arguments: what begins with `-`, or looks like a path or a setting.
fn one_command(reader: &mut Reader<'_>, draft: &mut Draft, tool: &'static Tool, subcommand: &str) {
    let mut arguments: Vec<String> = Vec::new();
    let program = tool.names[0];
    let takes_name = matches!(
        (program, subcommand),
        ("npm" | "yarn" | "pnpm", "run") | ("npx", _) | ("docker", "compose")
    );
    loop {
        let raw = reader.raw(0).to_owned();
        let is_first_name = takes_name && arguments.is_empty() && is_argument(&raw.to_lowercase());
        let looks_so = raw.starts_with('-') && raw.len() > 1
            || raw == "."
            || (raw.contains(['/', '=']) && !raw.contains("://"))
            || ["python", "python3"].contains(&program)
                && (raw.ends_with(".py")
                    || arguments.last().map_or(subcommand, String::as_str) == "-m"
                    || raw == "discover" && arguments.last().is_some_and(|last| last == "unittest"));
        if reader.is_mark(0) || !(is_first_name || looks_so) {
            break;
        }
        reader.go(reader.position() + 1);
        arguments.push(raw);
    }
    let plain = arguments.is_empty();
    let text =
        if plain { tool.with(subcommand) } else { format!("{program} {subcommand} {}", arguments.join(" ")) };
    draft.command(text, Some(tool));
}

/// "clippy", "with pytest": what the tool is for.
fn named_alone(reader: &mut Reader<'_>, draft: &mut Draft, tool: &'static Tool) -> bool {
    let Some(command) = tool.alone() else { return false };
    reader.go(reader.position() + 1);
    let mut text = command.to_owned();
    while !reader.is_mark(0)
        && (reader.raw(0).starts_with('-') && reader.raw(0).len() > 1 || reader.raw(0).contains('/'))
    {
        text = format!("{text} {}", reader.raw(0));
        reader.go(reader.position() + 1);
    }
    draft.command(text, Some(tool));
    true
}
