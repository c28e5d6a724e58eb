//! What starts the workflow: "on every push to main", "when a tag v* is pushed", "by hand with an input called version".

use super::{draft::Draft, reader::Reader};

/// Names that are branches without being called so.
const KNOWN_BRANCHES: &[&str] = &[
    "main",
    "master",
    "develop",
    "dev",
    "trunk",
    "staging",
    "production",
    "release",
    "next",
    "stable",
    "gh-pages",
];

pub(super) fn read(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    tags(reader, draft)
        || paths(reader, draft)
        || pull_request(reader, draft)
        || push(reader, draft)
        || by_hand(reader, draft)
        || others(reader, draft)
}

fn push(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let is_push = [
        "on|upon|for|after|at|with every|each|any|all|the|a? code|git? push|pushes|pushed|commit|commits|pushing",
        "every|each|any push|commit",
        "when|whenever|if someone|somebody|anyone|i|we|you|code|something|anything|commits|changes is|are|gets|get? push|pushes|pushed",
        "when|whenever there is|are a|any|new? push|pushes|commit|commits",
        "push|pushes|pushed|pushing",
    ]
    .iter()
    .any(|pattern| reader.phrase(pattern));
    // "push the image" is no event.
    if !is_push
        || matches!(reader.word(0), "the" | "it" | "image" | "images" | "docker" | "an")
            && !reader.is_mark(0)
            && reader.word(1) != "main"
    {
        reader.go(begun);
        return false;
    }
    let named = branches(reader);
    reader.understood(begun, meaning("push", "branches", &named));
    let push = draft.push();
    push.has_branches = true;
    extend(&mut push.branches, named);
    true
}

fn pull_request(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let is_pull = [
        "on|upon|for|in|at|with every|each|any|all|the|a|new? pull|merge request|requests",
        "on|upon|for|in|at|with every|each|any|all|the|a|new? pr|prs",
        "when|whenever|if a|any pull|merge request is? opened|updated|changes|created",
        "when|whenever|if a|any pr is? opened|updated|changes|created",
        "every|each|all? pull|merge request|requests",
        "every|each|all? pr|prs",
    ]
    .iter()
    .any(|pattern| reader.phrase(pattern));
    if !is_pull {
        return false;
    }
    let named = branches(reader);
    reader.understood(begun, meaning("pull_request", "branches", &named));
    extend(draft.pull_request.get_or_insert_default(), named);
    true
}

fn tags(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let opens = [
        "when|whenever|if a|any|the? new? git? version|release? tag|tags named|called|like|matching|of|that|matches?",
        "on|for|with|upon every|each|any|all|new? git? version|release? tag|tags named|called|like|matching?",
        "on|upon pushing|pushed|push of? a? version|release? tag|tags named|called|like|matching?",
    ];
    if !opens.iter().any(|pattern| reader.phrase(pattern)) {
        return false;
    }
    let mut patterns = Vec::new();
    while is_tag_pattern(reader.raw(0)) {
        patterns.extend(reader.name());
        let joint = reader.position();
        if !(reader.joint() && is_tag_pattern(reader.raw(0))) {
            reader.go(joint);
            break;
        }
    }
    reader.phrase("is|are|gets|get? pushed|created|made|published|set");
    if patterns.is_empty() {
        patterns.push("**".to_owned());
        draft.note("No pattern is named for the tags: every tag starts it.");
    }
    reader.understood(begun, meaning("push", "tags", &patterns));
    extend(&mut draft.push().tags, patterns);
    true
}

fn is_tag_pattern(word: &str) -> bool {
    word.contains('*') || (word.starts_with('v') && word[1..].starts_with(|c: char| c.is_ascii_digit()))
}

const CHANGE: &str =
    "has|have|is|are|was|were|gets|get? change|changes|changed|touched|modified|updated|edited";

/// "when src/** changes", "only if files in docs change", "ignoring docs/".
fn paths(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let opens = "but? only? when|if|for|whenever only? something|anything|files|file|a|the|changes|any|code? file|files|to? in|under|below|inside|to|of?";
    let is_wanted = reader.phrase(opens) || reader.phrase("only changes to|in|under|of?");
    if is_wanted
        && let Some((found, is_sure)) = path_list(reader)
        && (reader.phrase(CHANGE) || is_sure)
    {
        reader.understood(begun, format!("paths: {}", found.join(", ")));
        extend(&mut draft.paths, found);
        return true;
    }
    reader.go(begun);
    let is_ignored = reader.phrase("but? ignore|ignoring|skip|skipping|except|excluding changes|files|pushes|those|for|when|if? only? in|under|to|of|that? change|touch?");
    if is_ignored && let Some(found) = path_list(reader) {
        reader.phrase("only? change|changes|changed");
        reader.understood(begun, format!("paths-ignore: {}", found.0.join(", ")));
        extend(&mut draft.paths_ignore, found.0);
        return true;
    }
    reader.go(begun);
    false
}

/// Paths as patterns, and whether each surely is one.
fn path_list(reader: &mut Reader<'_>) -> Option<(Vec<String>, bool)> {
    let mut found = Vec::new();
    let mut is_sure = true;
    reader.phrase("the");
    while let Some((pattern, sure)) = path(reader.raw(0)) {
        reader.go(reader.position() + 1);
        reader.phrase("directory|folder|dir|files");
        is_sure &= sure;
        found.push(pattern);
        let joint = reader.position();
        if !(reader.joint() && path(reader.raw(0)).is_some()) {
            reader.go(joint);
            break;
        }
    }
    (!found.is_empty()).then_some((found, is_sure))
}

fn path(word: &str) -> Option<(String, bool)> {
    let has_end = |end: &str| word.ends_with(end);
    if word.contains('*')
        || word.contains("/.")
        || [".md", ".toml", ".json", ".yml", ".yaml", ".rs", ".py", ".go", ".js", ".lock"]
            .iter()
            .any(|end| has_end(end))
    {
        return Some((word.trim_start_matches("./").to_owned(), true));
    }
    if word == "markdown" {
        return Some(("**.md".to_owned(), true));
    }
    if word.contains('/') && !word.contains("://") {
        return Some((format!("{}/**", word.trim_start_matches("./").trim_end_matches('/')), true));
    }
    [
        "docs", "src", "doc", "tests", "test", "examples", "lib", "frontend", "backend", "web", "api", "app",
        "crates", "packages",
    ]
    .contains(&word)
    .then(|| (format!("{word}/**"), false))
}

/// "to main and release/*", "to the develop branch", "on branches a, b".
fn branches(reader: &mut Reader<'_>) -> Vec<String> {
    let begun = reader.position();
    let mut found = Vec::new();
    if !reader.phrase("to|on|into|against|of|for|targeting|at the?") {
        return found;
    }
    if reader.phrase("any|all|every|each branch|branches") {
        return found;
    }
    let is_plural = reader.word(0) == "branches" || reader.word(1) == "branches";
    let is_called = reader.phrase("the? branch|branches");
    loop {
        reader.phrase("the");
        let word = reader.raw(0).to_owned();
        let is_known = KNOWN_BRANCHES.contains(&word.as_str()) || word.contains('/') || word.contains('*');
        let is_branch =
            is_known || is_called && !reader.is_mark(0) || matches!(reader.word(1), "branch" | "branches");
        if !is_branch || word.is_empty() {
            break;
        }
        reader.go(reader.position() + 1);
        reader.phrase("branch|branches");
        found.push(word);
        let joint = reader.position();
        let next_is = reader.joint() && {
            let word = reader.raw(0);
            is_plural && !reader.is_mark(0)
                || KNOWN_BRANCHES.contains(&word)
                || word.contains('*')
                || (word.contains('/') && !word.contains('.'))
                || matches!(reader.word(1), "branch" | "branches")
        };
        if !next_is {
            reader.go(joint);
            break;
        }
    }
    if found.is_empty() {
        reader.go(begun);
    }
    found
}

fn by_hand(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let is_hand = [
        "manually",
        "by hand",
        "on demand",
        "on request",
        "manual|manually trigger|triggered|start|started|run|runs",
        "when|whenever i|we|someone start|starts|trigger|triggers it by? hand|manually?",
        "with a button",
    ]
    .iter()
    .any(|pattern| reader.phrase(pattern));
    if !is_hand {
        return false;
    }
    let mut inputs = Vec::new();
    if reader.phrase("with|taking|asking an|a|the|for? input|inputs|parameter|parameters called|named|for?") {
        while let Some(name) = reader.name().map(|name| name.replace('-', "_")) {
            if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                inputs.push(name);
            } else {
                reader.go(reader.position() - 1);
            }
            let joint = reader.position();
            let ends = matches!(reader.word(1), "on" | "run" | "test" | "build" | "deploy" | "the");
            if !reader.joint() || ends {
                reader.go(joint);
                break;
            }
        }
    }
    reader.understood(begun, meaning("workflow_dispatch", "inputs", &inputs));
    extend(draft.dispatch.get_or_insert_default(), inputs);
    true
}

type Event = (&'static [&'static str], &'static str, &'static [&'static str]);

const OTHERS: &[Event] = &[
    (
        &[
            "when|whenever|if a|the? new? release is|gets? published|made|created|released",
            "on|for|with|upon every|each|a|new|published? new? release|releases",
        ],
        "release",
        &["published"],
    ),
    (
        &[
            "when|whenever|if an|a|new? new? issue is|gets? opened|created|filed",
            "on|for every|each|new|opened issue|issues",
        ],
        "issues",
        &["opened"],
    ),
    (
        &[
            "when|whenever|if someone|somebody comments on? an|a? issue|issues?",
            "on|for every|each|new? issue? comment|comments",
        ],
        "issue_comment",
        &["created"],
    ),
    (&["in|on|for|with the|a? merge queue|group"], "merge_group", &[]),
    (&["when|on a|the|every|each? branch is? deleted"], "delete", &[]),
];

fn others(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    for (patterns, event, types) in OTHERS {
        if patterns.iter().any(|pattern| reader.phrase(pattern)) {
            reader.understood(begun, format!("event `{event}`"));
            draft.events.push((event, types.to_vec()));
            return true;
        }
    }
    if reader.phrase("after|when|whenever|once the? workflow")
        && let Some(name) = reader.name()
    {
        reader.phrase("has|is? finishes|finished|completes|completed|ends|ended|succeeds|succeeded|done|ran|passes|passed");
        reader.understood(begun, format!("after the workflow `{name}`"));
        draft.after_workflows.push(name);
        return true;
    }
    reader.go(begun);
    false
}

fn extend(known: &mut Vec<String>, more: Vec<String>) {
    for one in more {
        if !known.contains(&one) {
            known.push(one);
        }
    }
}

fn meaning(event: &str, what: &str, list: &[String]) -> String {
    if list.is_empty() {
        format!("event `{event}`")
    } else {
        format!("event `{event}`, {what}: {}", list.join(", "))
    }
}
