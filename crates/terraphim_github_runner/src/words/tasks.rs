//! What to run, in any of the ways in which it can be said.

use super::{
    commands::{code, tool},
    deploy::deploy,
    draft::Draft,
    facts::RepositoryFacts,
    intents::intent,
    reader::Reader,
};

pub(super) fn read(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
    let begun = reader.position();
    let count = draft.commands.len();
    let is_read = deploy(reader, draft, facts)
        || code(reader, draft)
        || tool(reader, draft)
        || intent(reader, draft, facts);
    if !is_read {
        reader.go(begun);
        return false;
    }
    if draft.commands.len() > count {
        let new: Vec<&str> = draft.commands[count..].iter().map(|command| command.text.as_str()).collect();
        let meaning =
            format!("run {}", new.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", "));
        reader.understood(begun, meaning);
    } else {
        reader.understood(begun, "the same again");
    }
    true
}

/// Reads a tool or an activity, and nothing else.
pub(super) fn read_plain(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
    let begun = reader.position();
    let is_read = tool(reader, draft) || intent(reader, draft, facts);
    if !is_read {
        reader.go(begun);
    }
    is_read
}
