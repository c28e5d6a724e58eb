//! What is done last: deployments and releases, with where to and from which branch.

use super::{
    commands::{code, tool},
    draft::Draft,
    facts::RepositoryFacts,
    intents::{OBJECTS, language, of_repository},
    reader::Reader,
    tools::{self, Intent, Tool},
};

/// "deploy with `./deploy.sh` to production from main", "publish to crates.io".
pub(super) fn deploy(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
    let begun = reader.position();
    let is_after = reader.phrase(
        "and? only? if|when|once|after all|everything|the|they|it|that|those* tests|builds|build|checks? is|are? \
         passes|pass|passed|succeeds|succeed|green|successful",
    );
    // The last job waits for the others anyway; what it waits for must be there.
    if is_after && draft.commands.iter().all(|command| command.is_last) {
        for (tool, command) in of_repository(Intent::Test, None, facts, draft) {
            draft.command(command, Some(tool));
        }
    }
    let condition = reader.position();
    reader.phrase("and|then|finally|also*");
    let Some(word) =
        ["deploy", "deploys", "deployment", "deploying", "release", "publish", "publishes", "publishing"]
            .into_iter()
            .find(|word| *word == reader.word(0))
    else {
        reader.go(if is_after { condition } else { begun });
        return is_after;
    };
    let verb = reader.position();
    reader.go(reader.position() + 1);
    reader.phrase(&format!("{OBJECTS}*"));
    let target = language(reader);
    reader.phrase(&format!("{OBJECTS}*"));
    let mut found: Option<(String, Option<&'static Tool>)> = None;
    place(reader, draft, &mut found);
    if reader.phrase("with|using|by|via|through|: running?") || found.is_none() {
        let command = draft.commands.len();
        if (code(reader, draft) || tool(reader, draft))
            && let Some(made) = draft.commands.get(command).cloned()
        {
            draft.commands.truncate(command);
            found = Some((made.text, made.tool));
        }
    }
    place(reader, draft, &mut found);
    if found.is_none() && word != "deploy" && word != "deploys" {
        found = of_repository(Intent::Publish, target, facts, draft)
            .first()
            .map(|(tool, text)| ((*text).to_owned(), Some(*tool)));
    }
    let Some((text, tool)) = found else {
        draft.note(format!("Nothing says how to {word}: name the command in `backticks`."));
        reader.lose(verb);
        return true;
    };
    draft.command(text.clone(), tool);
    if let Some(command) = draft.commands.iter_mut().find(|command| command.text == text) {
        command.is_last = true;
    }
    true
}

/// "to production", "to npm", "only from main", in any order.
fn place(reader: &mut Reader<'_>, draft: &mut Draft, found: &mut Option<(String, Option<&'static Tool>)>) {
    loop {
        let begun = reader.position();
        if reader.phrase("to|on|onto the? production|staging|preview|testing environment|server|servers?") {
            let name = ["production", "staging", "preview", "testing"];
            let end = reader.position();
            reader.go(begun);
            while reader.position() < end {
                if let Some(name) = name.iter().find(|name| **name == reader.word(0)) {
                    draft.deploy_environment = Some((*name).to_owned());
                }
                reader.go(reader.position() + 1);
            }
            continue;
        }
        if reader
            .phrase("but? only? from|on|for|of the? main|master|production|release|develop branch? only?")
        {
            let end = reader.position();
            reader.go(begun);
            while reader.position() < end {
                if ["main", "master", "production", "release", "develop"].contains(&reader.word(0)) {
                    draft.deploy_branch = Some(reader.word(0).to_owned());
                }
                reader.go(reader.position() + 1);
            }
            continue;
        }
        let registry = [
            ("to|on crates.io", "cargo publish", "cargo", "CARGO_REGISTRY_TOKEN"),
            ("to|on the? npm registry?", "npm publish", "npm", "NODE_AUTH_TOKEN"),
            ("to|on pypi", "python -m build && python -m twine upload dist/*", "twine", "TWINE_PASSWORD"),
        ];
        let Some((_, command, tool, secret)) =
            registry.into_iter().find(|(pattern, ..)| reader.phrase(pattern))
        else {
            return;
        };
        *found = Some((command.to_owned(), tools::find(tool)));
        draft.note(format!("The secret {secret} must be set: `tci secret set {secret}`."));
        draft.secrets.push(secret.to_owned());
    }
}
