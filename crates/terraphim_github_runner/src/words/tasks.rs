//! What to run: commands in backticks, named tools, and intents such as "lint the code".

use super::{
    draft::Draft,
    facts::{Language, RepositoryFacts},
    reader::Reader,
    tools::{self, Intent, Tool},
};

const VERBS: &str = "run|runs|running|execute|do|perform|check|use|using|call|invoke|start|with|via|through|and|then|also|everything|it";
/// After an intent, `in`, `for` and `a` begin something new.
const AFTER: &str = "the|our|all|my|its|of|code|project|projects|everything|it|app|application|sources|source|package|packages|library|workspace|whole|suite|suites|this|repository|repo|program|server|frontend|backend|website|site|image|images";
const OBJECTS: &str = "the|our|all|my|its|a|an|of|code|project|projects|everything|it|app|application|sources|source|package|packages|library|workspace|binary|binaries|for|in|whole|unit|integration|e2e|end-to-end|suite|suites|release|this|repository|repo|program|server|frontend|backend|website|site|image|images|container";

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

/// A command in backticks is taken as it is.
fn code(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
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
fn tool(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
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

/// "run the unit tests", "lint the rust code with clippy", "build the docker image".
fn intent(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
    let begun = reader.position();
    reader.phrase(&format!("{VERBS}*"));
    if packages_of_tool(reader, draft) {
        return true;
    }
    reader.phrase(&format!("{OBJECTS}*"));
    let mut language = language(reader);
    reader.phrase(&format!("{OBJECTS}*"));
    let Some(intent) = intent_word(reader) else {
        reader.go(begun);
        return false;
    };
    reader.phrase(&format!("{AFTER}*"));
    language = language.or_else(|| self::language(reader));
    reader.phrase(&format!("{AFTER}*"));
    let found = with_tool(reader, intent);
    if let Some((tool, command)) = found {
        draft.command(command, Some(tool));
        return true;
    }
    let commands = of_repository(intent, language, facts, draft);
    if commands.is_empty() {
        let reason = match language {
            Some(_) => format!(
                "No way is known to {} this language; name the command in `backticks`.",
                intent.name()
            ),
            None => format!(
                "Nothing says how to {}: no tool is named, and the repository shows none. Name the command in `backticks`.",
                intent.name()
            ),
        };
        draft.note(reason);
        reader.lose(begun);
        return true;
    }
    for (tool, command) in commands {
        draft.command(command, Some(tool));
    }
    true
}

/// "with pytest": tools that can do it.
fn with_tool(reader: &mut Reader<'_>, intent: Intent) -> Option<(&'static Tool, &'static str)> {
    let begun = reader.position();
    if reader.phrase("with|using|by|via|through the?")
        && let Some(tool) = tools::find(reader.word(0))
        && let Some(command) = tool.command(intent)
        && !tool.subcommands.contains(&reader.word(1))
    {
        reader.go(reader.position() + 1);
        return Some((tool, command));
    }
    reader.go(begun);
    None
}

/// "install the npm packages": whose they are says how.
fn packages_of_tool(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if reader.phrase("install|installs the|our|all*")
        && let Some(tool) = tools::find(reader.word(0))
        && let Some(command) = tool.command(Intent::Install)
        && matches!(reader.word(1), "packages" | "dependencies" | "modules")
    {
        reader.go(reader.position() + 2);
        draft.command(command, Some(tool));
        return true;
    }
    reader.go(begun);
    false
}

/// How the repository does it.
fn of_repository(
    intent: Intent,
    language: Option<Language>,
    facts: &RepositoryFacts,
    draft: &mut Draft,
) -> Vec<(&'static Tool, &'static str)> {
    if let Some(language) = language {
        return preferred(language, intent, facts).into_iter().collect();
    }
    // What was built with is what is tested with.
    let used: Vec<Language> = draft.commands.iter().filter_map(|command| command.tool?.language).collect();
    let known: Vec<Language> =
        if facts.languages.is_empty() { used } else { facts.languages.iter().copied().collect() };
    let is_fallback = |language: &Language| matches!(language, Language::Make | Language::Docker);
    let mut found: Vec<_> = known
        .iter()
        .filter(|language| !is_fallback(language))
        .filter_map(|language| preferred(*language, intent, facts))
        .collect();
    found.dedup();
    let has_target = facts.targets.is_empty() || facts.targets.contains(intent.name());
    if found.is_empty() && known.contains(&Language::Make) && has_target {
        found.extend(tools::of_language(Language::Make, intent));
    }
    if found.is_empty() && intent == Intent::Build && known.contains(&Language::Docker) {
        found.extend(tools::of_language(Language::Docker, intent));
    }
    if intent == Intent::Lint
        && known.contains(&Language::Node)
        && !facts.scripts.is_empty()
        && !facts.scripts.contains("lint")
    {
        draft.note("`package.json` has no script `lint`: `eslint` is called directly.");
        for one in &mut found {
            if one.1 == "npm run lint" {
                one.1 = "npx eslint .";
            }
        }
    }
    found
}

/// The tool of a language, as its lock files say.
fn preferred(
    language: Language,
    intent: Intent,
    facts: &RepositoryFacts,
) -> Option<(&'static Tool, &'static str)> {
    let manager = match language {
        Language::Node if facts.has("pnpm-lock.yaml") => tools::find("pnpm"),
        Language::Node if facts.has("yarn.lock") => tools::find("yarn"),
        Language::Python if intent == Intent::Test && facts.has("tox.ini") => tools::find("tox"),
        _ => None,
    };
    let by_manager = manager.and_then(|tool| Some((tool, tool.command(intent)?)));
    by_manager.or_else(|| tools::of_language(language, intent))
}

fn language(reader: &mut Reader<'_>) -> Option<Language> {
    let found = match reader.word(0) {
        "rust" => Language::Rust,
        "node" | "node.js" | "nodejs" | "javascript" | "js" | "ts" => Language::Node,
        "python" | "py" => Language::Python,
        "go" | "golang"
            if !matches!(reader.word(1), "build" | "test" | "vet" | "mod") || reader.word(0) == "golang" =>
        {
            Language::Go
        }
        "java" => Language::Maven,
        "gradle" | "kotlin" => Language::Gradle,
        "c++" | "cpp" | "c" => Language::Cmake,
        "docker" => Language::Docker,
        _ => return None,
    };
    reader.go(reader.position() + 1);
    Some(found)
}

fn intent_word(reader: &mut Reader<'_>) -> Option<Intent> {
    const WORDS: &[(Intent, &[&str])] = &[
        (
            Intent::Format,
            &[
                "check|verify the? formatting|format",
                "formatting check|checks?",
                "format|formatting|fmt check|checks?",
                "formatted|reformat",
                "code style",
            ],
        ),
        (Intent::Docs, &["build|generate|make the? docs|documentation|doc", "docs|documentation"]),
        (
            Intent::Types,
            &[
                "type-check|typecheck|typechecking|type-checking|types",
                "type|types check|checking|checks|checker",
            ],
        ),
        (
            Intent::Audit,
            &[
                "audit|audits the? dependencies|packages?",
                "security audit|audits|scan|check?",
                "check|scan the? dependencies for? vulnerabilities?",
                "security check|checks|scan|scans|audit",
            ],
        ),
        (
            Intent::Coverage,
            &["measure|collect the? test|code? coverage", "test|code? coverage report|reports?"],
        ),
        (Intent::Bench, &["bench|benchmark|benchmarks|benches|benchmarking"]),
        (Intent::Install, &["install|installs the? dependencies|packages|modules|requirements"]),
        (
            Intent::Lint,
            &["lint|linting|lints|linter|linters|linted|vet", "static analysis", "check the? style"],
        ),
        (Intent::Build, &["build|builds|compile|compiles|building|compiling|built|compilation"]),
        (Intent::Test, &["test|tests|testing|tested|testsuite"]),
    ];
    WORDS
        .iter()
        .find(|(_, patterns)| patterns.iter().any(|pattern| reader.phrase(pattern)))
        .map(|(intent, _)| *intent)
}

/// "deploy with `./deploy.sh` to production from main", "publish to crates.io".
fn deploy(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
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
