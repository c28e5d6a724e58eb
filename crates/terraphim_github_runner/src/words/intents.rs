//! What to run, said by what it is for: "lint the code", "run the unit tests with pytest".

use super::{
    commands::VERBS,
    draft::Draft,
    facts::{Language, RepositoryFacts},
    reader::Reader,
    tools::{self, Intent, Tool},
};

/// After an intent, `in`, `for` and `a` begin something new.
const AFTER: &str = "the|our|all|my|its|of|code|project|projects|everything|it|app|application|sources|source|package|packages|library|workspace|whole|suite|suites|this|repository|repo|program|server|frontend|backend|website|site|image|images";
pub(super) const OBJECTS: &str = "the|our|all|my|its|a|an|of|code|project|projects|everything|it|app|application|sources|source|package|packages|library|workspace|binary|binaries|for|in|whole|unit|integration|e2e|end-to-end|suite|suites|release|this|repository|repo|program|server|frontend|backend|website|site|image|images|container";

/// "run the unit tests", "lint the rust code with clippy", "build the docker image".
pub(super) fn intent(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
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
pub(super) fn of_repository(
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

pub(super) fn language(reader: &mut Reader<'_>) -> Option<Language> {
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
