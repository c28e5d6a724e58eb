//! How it runs: matrix, caches, artifacts, services, limits, variables.

use super::{
    draft::{Cache, Dimension, Draft},
    facts::RepositoryFacts,
    reader::Reader,
};

pub(super) fn read(reader: &mut Reader<'_>, draft: &mut Draft, facts: &RepositoryFacts) -> bool {
    let _ = facts;
    cache(reader, draft)
        || artifact(reader, draft)
        || timeout(reader, draft)
        || may_fail(reader, draft)
        || concurrency(reader, draft)
        || service(reader, draft)
        || variable(reader, draft)
        || versions(reader, draft)
        || machine(reader, draft)
        || shape(reader, draft)
        || name(reader, draft)
}

fn cache(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if !reader.phrase("and|with|use|using|a|also|please* cache|caches|caching|cached of|for?") {
        return false;
    }
    reader.phrase("the|our|all|my|its|for|of*");
    let known = "target|dependencies|deps|node_modules|npm|yarn|pnpm|pip|cargo|maven|gradle|go|modules|packages|registry|build|rust|python|poetry|crates|everything|downloads|venv";
    let is_known = reader
        .phrase(&format!("{known} {known}* directory|directories|folder|dir|cache|caches|artifacts|output?"));
    if is_known || reader.is_mark(0) || matches!(reader.word(0), "and" | "on" | "with") {
        reader.understood(begun, "cache what the tools download and build");
        if !draft.caches.contains(&Cache::Tools) {
            draft.caches.push(Cache::Tools);
        }
        return true;
    }
    let Some(path) = reader.code().or_else(|| reader.name().filter(|name| is_path(name))) else {
        reader.go(begun);
        return false;
    };
    reader.phrase("directory|directories|folder|dir|cache?");
    reader.understood(begun, format!("cache `{path}`"));
    draft.caches.push(Cache::Path(path));
    true
}

fn is_path(word: &str) -> bool {
    word.contains(['/', '.', '*', '~', '_'])
        || ["dist", "build", "out", "coverage", "public", "reports", "report", "logs", "binary", "site"]
            .contains(&word)
}

fn artifact(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if !reader
        .phrase("and|then|also* upload|uploads|save|saves|keep|store|archive|publish|attach the|our|its*")
    {
        return false;
    }
    let path = reader.code().or_else(|| reader.name().filter(|name| is_path(name)));
    let Some(path) = path else {
        reader.go(begun);
        return false;
    };
    let is_sure = reader.phrase(
        "directory|folder|dir|files|file|report|reports? as|to|in|into an|the|a|build? artifact|artifacts",
    ) || reader.phrase("directory|folder|dir|files|file|report|reports");
    let verb_begun = reader.position();
    reader.go(begun);
    let is_publish = reader.phrase("and|then|also* publish");
    reader.go(verb_begun);
    if is_publish && !is_sure {
        reader.go(begun);
        return false;
    }
    let path = match path.as_str() {
        "coverage" | "reports" | "report" | "logs" | "dist" | "build" | "out" | "public" | "site" => {
            format!("{path}/")
        }
        _ => path,
    };
    reader.understood(begun, format!("artifact `{path}`"));
    draft.artifacts.push(path);
    true
}

fn timeout(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let opens = [
        "with a|an? time limit of?",
        "with a|an? timeout|limit|time of|after?",
        "time out|timeout|timing|stop|abort|cancel|kill it? out? after|at|of",
        "timeout|timeouts of|after|is?",
        "within|in at? most?",
        "at most",
        "take|takes|taking at most|no? more? than?",
        "no longer|more than",
        "for|in at most",
        "may|must|should not? take at? most? no? more|longer? than?",
    ];
    if !opens.iter().any(|pattern| reader.phrase(pattern)) {
        return false;
    }
    let glued = reader.word(0).trim_end_matches(char::is_alphabetic).parse::<u32>().ok();
    let count = match reader.word(0) {
        "an" | "one" | "a" => Some(1),
        "half" => Some(30),
        word => word.parse::<u32>().ok().or(glued),
    };
    let unit = reader.word(1).to_owned();
    let glued_unit = reader.word(0).trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    let (minutes, words) = match (count, unit.as_str(), glued_unit.as_str()) {
        (Some(30), "an", _) => (Some(30), 3),
        (Some(n), "minutes" | "minute" | "min" | "mins", _) => (Some(n), 2),
        (Some(n), "hours" | "hour" | "h", _) => (n.checked_mul(60), 2),
        (Some(n), _, "min" | "m" | "mins") => (Some(n), 1),
        (Some(n), _, "h") => (n.checked_mul(60), 1),
        _ => (None, 0),
    };
    let Some(minutes) = minutes.filter(|minutes| (1..=360).contains(minutes)) else {
        reader.go(begun);
        return false;
    };
    reader.go(reader.position() + words);
    reader.understood(begun, format!("timeout-minutes: {minutes}"));
    draft.timeout_minutes = Some(minutes);
    true
}

/// "allow clippy to fail", "which may fail", "ignore failures".
fn may_fail(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let mut target = None;
    let is_read = if reader.phrase("allow|let the?") {
        target = reader.name();
        reader.phrase("to? fail|failing")
    } else {
        reader.phrase("but|which|that|it|this|these|those|they|and* may|can|could|might fail")
            || reader.phrase("but|which|that|is|are|it* allowed to fail")
            || reader
                .phrase("but|and* ignore|ignoring|tolerate its|the|any|all? failure|failures|errors|error")
            || reader.phrase("but|and* continue|continuing|go|going on|after an|any|the? error|errors|failure|failures")
            || reader.phrase("but|and* continue|continuing|go|going on? even? if|when|though it|this|they|something fails|fail")
            || {
                let word = reader.word(0).to_owned();
                let fits =
                    !word.is_empty() && draft.commands.iter().any(|command| command.text.contains(&word));
                fits && {
                    target = reader.name();
                    reader.phrase("may|can|might fail")
                }
            }
    };
    if !is_read {
        reader.go(begun);
        return false;
    }
    let target = target.map(|target| target.to_lowercase());
    let command = draft
        .commands
        .iter_mut()
        .rev()
        .find(|command| target.as_ref().is_none_or(|target| command.text.contains(target.as_str())));
    let Some(command) = command else {
        reader.go(begun);
        return false;
    };
    command.may_fail = true;
    let text = command.text.clone();
    reader.understood(begun, format!("`{text}` may fail"));
    true
}

fn concurrency(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let cancels = reader.phrase("cancel|cancelling|stop|abort the|any|all|older|old|previous|outdated|superseded|running|other|earlier* runs|run|builds|jobs in? progress?")
        || reader.phrase("cancel|cancelling in-progress|in runs|progress runs?");
    let waits = !cancels
        && (reader.phrase("only one|1 run|at|build|deployment|deploy* a? time?")
            && reader.position() > begun + 2
            || reader.phrase("one run|build|deployment at a time")
            || reader.phrase("never|not two|twice|several at the same time"));
    if !(cancels || waits) {
        reader.go(begun);
        return false;
    }
    reader.phrase("at the? same? time|once");
    reader.phrase("of|on|for the|a? same? branch|ref|pr");
    reader
        .understood(begun, if cancels { "a newer run cancels the one before" } else { "one run at a time" });
    draft.concurrency = Some(cancels);
    true
}

const SERVICES: &[(&[&str], &str)] = &[
    (&["postgres", "postgresql"], "postgres"),
    (&["mysql"], "mysql"),
    (&["mariadb"], "mariadb"),
    (&["redis"], "redis"),
    (&["mongo", "mongodb"], "mongo"),
    (&["rabbitmq"], "rabbitmq"),
];

fn service(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if !reader.phrase("with|against|using|and|use|needs|need|start a|an|the|running?") {
        return false;
    }
    let Some((_, image)) = SERVICES.iter().find(|(names, _)| names.contains(&reader.word(0))) else {
        reader.go(begun);
        return false;
    };
    reader.go(reader.position() + 1);
    let version = reader.word(0).to_owned();
    let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.len() < 8;
    if is_version {
        reader.go(reader.position() + 1);
    }
    reader.phrase("service|database|server|container|db");
    let version = is_version.then_some(version);
    reader.understood(begun, format!("service `{image}`"));
    draft.services.push((image, version));
    true
}

/// "with FOO=bar", "set FOO to bar", "using the secret NPM_TOKEN".
fn variable(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if reader.phrase("with|using|use|needs|and|from|pass|has the|a|my|our? secret|secrets called|named?") {
        let mut names = Vec::new();
        while is_variable(reader.raw(0)) {
            names.extend(reader.name());
            let joint = reader.position();
            if !(reader.joint() && is_variable(reader.raw(0))) {
                reader.go(joint);
                break;
            }
        }
        if !names.is_empty() {
            reader.understood(begun, format!("secrets {}", names.join(", ")));
            draft.secrets.extend(names);
            return true;
        }
        reader.go(begun);
    }
    reader.phrase("with|set|setting|using|and the|an? env|environment|variable|variables*");
    if let Some((name, value)) = reader.raw(0).split_once('=')
        && is_variable(name)
    {
        let pair = (name.to_owned(), value.trim_matches(['"', '\'']).to_owned());
        reader.go(reader.position() + 1);
        reader.understood(begun, format!("variable {}", pair.0));
        draft.env.push(pair);
        return true;
    }
    reader.go(begun);
    if reader.phrase("with|and? set|setting the|an? env|environment|variable|variables*")
        && is_variable(reader.raw(0))
        && let Some(name) = reader.name()
        && reader.phrase("to|=|as")
        && let Some(value) = reader.name()
    {
        reader.understood(begun, format!("variable {name}"));
        draft.env.push((name, value));
        return true;
    }
    reader.go(begun);
    false
}

fn is_variable(word: &str) -> bool {
    word.len() > 1
        && word.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// "on python 3.11 and 3.12", "for node versions 18, 20 and 22", "on stable and beta".
fn versions(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    reader.phrase("on|with|for|across|against|using|under|in|and|of*");
    reader.phrase("the|both|all|all|versions|version|of*");
    let dimension = match reader.word(0) {
        "python" | "py" | "cpython" => Some(Dimension::Python),
        "node" | "node.js" | "nodejs" => Some(Dimension::Node),
        "go" | "golang" => Some(Dimension::Go),
        "java" | "jdk" => Some(Dimension::Java),
        "rust" | "toolchains" | "toolchain" => Some(Dimension::Rust),
        _ => None,
    };
    if dimension.is_some() {
        reader.go(reader.position() + 1);
        reader.phrase("version|versions|toolchain|toolchains|lts");
    }
    let is_version = |word: &str| {
        let word = word.strip_prefix('v').unwrap_or(word);
        match dimension {
            None | Some(Dimension::Rust) => {
                matches!(word, "stable" | "beta" | "nightly" | "msrv")
                    || dimension.is_some() && word.starts_with(|c: char| c.is_ascii_digit())
            }
            Some(_) => word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains(':'),
        }
    };
    // "nightly" by itself is a time.
    if dimension.is_none() && !matches!(reader.word(0), "stable" | "beta") {
        let is_pair = reader.word(0) == "nightly"
            && reader.word(1) == "and"
            && matches!(reader.word(2), "stable" | "beta");
        if !is_pair {
            reader.go(begun);
            return false;
        }
    }
    let mut found: Vec<String> = Vec::new();
    while is_version(reader.word(0)) {
        found.push(reader.word(0).trim_start_matches('v').to_owned());
        reader.go(reader.position() + 1);
        reader.phrase("rust|toolchain");
        let joint = reader.position();
        if !(reader.joint() && is_version(reader.word(0))) {
            reader.go(joint);
            break;
        }
    }
    if found.is_empty() {
        reader.go(begun);
        return false;
    }
    let dimension = dimension.unwrap_or(Dimension::Rust);
    reader.understood(begun, format!("{} {}", dimension.key(), found.join(", ")));
    draft.dimension(dimension, found);
    true
}

/// "on ubuntu 22.04 and 24.04", "on ubuntu-latest".
fn machine(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    reader.phrase("on|in|for|under|with|using|across|both|a|an|and*");
    let mut found = Vec::new();
    loop {
        let word = reader.word(0).to_owned();
        if word == "ubuntu" || word == "linux" {
            reader.go(reader.position() + 1);
            while reader.word(0).starts_with(|c: char| c.is_ascii_digit()) && reader.word(0).contains(".04") {
                found.push(format!("ubuntu-{}", reader.word(0)));
                reader.go(reader.position() + 1);
                let joint = reader.position();
                if !(reader.joint() && reader.word(0).contains(".04")) {
                    reader.go(joint);
                    break;
                }
            }
            if found.is_empty() {
                found.push("ubuntu-latest".to_owned());
            }
        } else if word.starts_with("ubuntu-") || word == "self-hosted" {
            reader.go(reader.position() + 1);
            found.push(word);
        } else {
            break;
        }
        let joint = reader.position();
        if !(reader.joint() && reader.word(0).contains("ubuntu")) {
            reader.go(joint);
            break;
        }
    }
    if found.is_empty() {
        reader.go(begun);
        return false;
    }
    reader.phrase("machine|machines|runner|runners|vm|vms");
    reader.understood(begun, format!("on {}", found.join(", ")));
    draft.runs_on.extend(found);
    true
}

/// "in parallel", "in separate jobs", "without stopping at the first failure".
fn shape(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    if reader.phrase(
        "all|both|them|these|each|run* in parallel|separate|own|different|its|their own|separate? job|jobs?",
    ) || reader.phrase("side by side")
        || reader.phrase("in|as a? separate|different|parallel job|jobs")
    {
        reader.understood(begun, "a job for each command");
        draft.is_split = true;
        return true;
    }
    if reader.phrase("do|don't not? fail|stop fast|early")
        || reader.phrase("without|no fail-fast|failing fast?")
        || reader.phrase("keep|keeping going")
    {
        reader.understood(begun, "one failure does not stop the others");
        draft.keeps_going = true;
        return true;
    }
    false
}

fn name(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let is_naming = reader.phrase("workflow|it|ci|is|and|a* called|named|titled")
        || reader.phrase("call|name it|this the? workflow?");
    if is_naming && let Some(name) = reader.name() {
        reader.understood(begun, format!("named {name}"));
        draft.name = Some(name);
        return true;
    }
    reader.go(begun);
    false
}
