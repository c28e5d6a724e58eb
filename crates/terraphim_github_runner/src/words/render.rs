//! A [`Draft`] as the text of a workflow file.

use std::fmt::Write as _;

use super::{
    draft::{Command, Dimension, Draft},
    facts::{Language, RepositoryFacts},
    toolchain::{caches, dimension_of, install, languages, set_up, version},
};

/// The text. The draft gets notes about what was decided.
pub(super) fn render(sentence: &str, draft: &mut Draft, facts: &RepositoryFacts) -> String {
    let mut body = String::new();
    let name = draft.name.clone().unwrap_or_else(|| "CI".to_owned());
    line(&mut body, 0, &format!("name: {}", scalar(&name)));
    body.push('\n');
    events(&mut body, draft);
    body.push('\n');
    line(&mut body, 0, "# The token of the run may read the repository, nothing else.");
    line(&mut body, 0, "permissions:");
    line(&mut body, 1, "contents: read");
    if let Some(cancels) = draft.concurrency {
        line(&mut body, 0, "\n# One run of a branch at a time.");
        line(&mut body, 0, "concurrency:");
        line(&mut body, 1, "group: ${{ github.workflow }}-${{ github.ref }}");
        line(&mut body, 1, &format!("cancel-in-progress: {cancels}"));
    }
    if !draft.env.is_empty() {
        line(&mut body, 0, "\nenv:");
        for (name, value) in &draft.env {
            line(&mut body, 1, &format!("{name}: {}", scalar(value)));
        }
    }
    line(&mut body, 0, "\njobs:");
    jobs(&mut body, draft, facts);
    let mut head = String::new();
    for text in wrapped(&format!("Made from: {}", sentence.split_whitespace().collect::<Vec<_>>().join(" ")))
    {
        let _ = writeln!(head, "# {text}");
    }
    for note in &draft.notes {
        for text in wrapped(note) {
            let _ = writeln!(head, "# {text}");
        }
    }
    format!("{head}{body}")
}

pub(super) fn line(out: &mut String, level: usize, text: &str) {
    let _ = writeln!(out, "{}{text}", "  ".repeat(level));
}

/// Comment lines. Control characters could end the comment.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(char::is_whitespace) {
        let word: String = word
            .chars()
            .filter(|c| !c.is_control() && *c != '\u{2028}' && *c != '\u{2029}' && *c != '\u{85}')
            .collect();
        let last = lines.last_mut().expect("there is a first line");
        if !last.is_empty() && last.chars().count() + word.chars().count() > 100 {
            lines.push(word);
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(&word);
        }
    }
    lines
}

/// A value of one line, quoted when YAML would read it as something else.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    let is_expression = text.starts_with("${{") && text.ends_with("}}") && text.matches("${{").count() == 1;
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '.'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _./@+=~-:*".contains(c))
        && !(text.contains(": ") || text.ends_with([':', ' ']) || text.parse::<f64>().is_ok())
        && !WORDS.contains(&text.to_lowercase().as_str());
    if is_expression || is_plain {
        return text.to_owned();
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("'{}'", line.replace('\'', "''"))
}

fn list(values: &[String]) -> String {
    let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
    format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn events(out: &mut String, draft: &Draft) {
    line(out, 0, "on:");
    let paths = |out: &mut String| {
        if !draft.paths.is_empty() {
            line(out, 2, &format!("paths: {}", list(&draft.paths)));
        } else if !draft.paths_ignore.is_empty() {
            line(out, 2, &format!("paths-ignore: {}", list(&draft.paths_ignore)));
        }
    };
    if let Some(push) = &draft.push {
        line(out, 1, "push:");
        let mut branches = push.branches.clone();
        if branches.is_empty() && push.has_branches && !push.tags.is_empty() {
            // GitHub: with `tags` alone, pushes of branches start nothing.
            branches.push("**".to_owned());
        }
        if !branches.is_empty() {
            line(out, 2, &format!("branches: {}", list(&branches)));
        }
        if !push.tags.is_empty() {
            line(out, 2, &format!("tags: {}", list(&push.tags)));
        }
        paths(out);
    }
    if let Some(branches) = &draft.pull_request {
        line(out, 1, "pull_request:");
        if !branches.is_empty() {
            line(out, 2, &format!("branches: {}", list(branches)));
        }
        paths(out);
    }
    if !draft.schedules.is_empty() {
        line(out, 1, "schedule:");
        for when in &draft.schedules {
            let cron = when.cron();
            line(out, 2, &format!("# {}", super::cron_in_words(&cron)));
            line(out, 2, &format!("- cron: '{cron}'"));
        }
    }
    if let Some(inputs) = &draft.dispatch {
        line(out, 1, "workflow_dispatch:");
        if !inputs.is_empty() {
            line(out, 2, "inputs:");
            for input in inputs {
                line(out, 3, &format!("{input}:"));
                line(out, 4, "type: string");
                line(out, 4, "required: true");
            }
        }
    }
    for (event, types) in &draft.events {
        line(out, 1, &format!("{event}:"));
        if !types.is_empty() {
            line(out, 2, &format!("types: [{}]", types.join(", ")));
        }
    }
    if !draft.after_workflows.is_empty() {
        line(out, 1, "workflow_run:");
        line(out, 2, &format!("workflows: {}", list(&draft.after_workflows)));
        line(out, 2, "types: [completed]");
    }
}

fn jobs(out: &mut String, draft: &mut Draft, facts: &RepositoryFacts) {
    let (last, first): (Vec<Command>, Vec<Command>) =
        draft.commands.clone().into_iter().partition(|command| command.is_last);
    let mut ids: Vec<String> = Vec::new();
    let groups: Vec<Vec<Command>> =
        if draft.is_split { first.into_iter().map(|command| vec![command]).collect() } else { vec![first] };
    for group in groups {
        let wanted = if draft.is_split { id_of(&group[0].text) } else { "ci".to_owned() };
        let mut id = wanted.clone();
        let mut count = 2;
        while ids.contains(&id) {
            id = format!("{wanted}-{count}");
            count += 1;
        }
        line(out, 1, &format!("{id}:"));
        job(out, draft, facts, &group, last.is_empty());
        ids.push(id);
    }
    if !last.is_empty() {
        line(out, 1, "\n  # Only when everything above succeeded.");
        line(out, 1, "deploy:");
        line(out, 2, &format!("needs: [{}]", ids.join(", ")));
        if let Some(branch) = &draft.deploy_branch {
            line(out, 2, &format!("if: github.ref == 'refs/heads/{branch}'"));
        } else if draft.pull_request.is_some() {
            line(out, 2, "if: github.event_name != 'pull_request'");
            draft.note("Nothing is deployed for pull requests.");
        }
        if let Some(environment) = &draft.deploy_environment {
            line(out, 2, &format!("environment: {environment}"));
        }
        deploy_job(out, draft, facts, &last);
    }
}

/// An id of a command: its words, as ids may have them.
fn id_of(command: &str) -> String {
    let words = command.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = words.take(3).collect::<Vec<_>>().join("-").to_lowercase();
    if id.starts_with(|c: char| c.is_ascii_alphabetic()) {
        id
    } else {
        format!("run-{id}").trim_end_matches('-').to_owned()
    }
}

fn job(out: &mut String, draft: &Draft, facts: &RepositoryFacts, commands: &[Command], has_secrets: bool) {
    let machines: Vec<String> =
        if draft.runs_on.is_empty() { vec!["ubuntu-latest".to_owned()] } else { draft.runs_on.clone() };
    let uses = |dimension: Dimension| {
        dimension == Dimension::Os
            || languages(commands).iter().any(|language| dimension_of(*language) == Some(dimension))
            || languages(commands).is_empty()
    };
    let mut matrix: Vec<(&str, Vec<String>)> = draft
        .matrix
        .iter()
        .filter(|(dimension, values)| values.len() > 1 && uses(*dimension))
        .map(|(dimension, values)| (dimension.key(), values.clone()))
        .collect();
    if machines.len() > 1 {
        matrix.push((Dimension::Os.key(), machines.clone()));
    }
    let machine = if machines.len() > 1 { "${{ matrix.os }}".to_owned() } else { machines[0].clone() };
    line(out, 2, &format!("runs-on: {machine}"));
    if let Some(minutes) = draft.timeout_minutes {
        line(out, 2, &format!("timeout-minutes: {minutes}"));
    }
    if !matrix.is_empty() {
        line(out, 2, "strategy:");
        if draft.keeps_going {
            line(out, 3, "fail-fast: false");
        }
        line(out, 3, "matrix:");
        for (key, values) in &matrix {
            line(out, 4, &format!("{key}: {}", list(values)));
        }
    }
    services(out, draft);
    let rust = languages(commands).contains(&Language::Rust);
    let secrets: &[String] = if has_secrets { &draft.secrets } else { &[] };
    let toolchain = version(draft, Dimension::Rust).filter(|_| rust);
    environment(out, secrets, toolchain.as_deref());
    line(out, 2, "steps:");
    line(out, 3, "- uses: actions/checkout@v4");
    set_up(out, draft, facts, commands);
    caches(out, draft, facts, commands);
    install(out, facts, commands);
    run_all(out, facts, commands);
    for path in &draft.artifacts {
        line(out, 3, "- uses: actions/upload-artifact@v4");
        line(out, 4, "with:");
        line(out, 5, &format!("name: {}", scalar(&artifact_name(path))));
        line(out, 5, &format!("path: {}", scalar(path)));
        line(out, 5, "if-no-files-found: error");
    }
}

fn deploy_job(out: &mut String, draft: &Draft, facts: &RepositoryFacts, commands: &[Command]) {
    line(out, 2, "runs-on: ubuntu-latest");
    if let Some(minutes) = draft.timeout_minutes {
        line(out, 2, &format!("timeout-minutes: {minutes}"));
    }
    let mut secrets = draft.secrets.clone();
    secrets.dedup();
    environment(out, &secrets, None);
    line(out, 2, "steps:");
    line(out, 3, "- uses: actions/checkout@v4");
    set_up(out, &Draft { matrix: Vec::new(), ..draft.clone() }, facts, commands);
    install(out, facts, commands);
    run_all(out, facts, commands);
}

fn environment(out: &mut String, secrets: &[String], toolchain: Option<&str>) {
    if secrets.is_empty() && toolchain.is_none() {
        return;
    }
    line(out, 2, "env:");
    if let Some(toolchain) = toolchain {
        line(out, 3, &format!("RUSTUP_TOOLCHAIN: {}", scalar(toolchain)));
    }
    if secrets.iter().any(|secret| secret == "TWINE_PASSWORD") {
        line(out, 3, "TWINE_USERNAME: __token__");
    }
    for secret in secrets {
        line(out, 3, &format!("{secret}: ${{{{ secrets.{secret} }}}}"));
    }
}

pub(super) fn artifact_name(path: &str) -> String {
    let name = path.trim_end_matches('/').rsplit('/').find(|part| !part.contains('*')).unwrap_or("files");
    name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect()
}

fn services(out: &mut String, draft: &Draft) {
    if draft.services.is_empty() {
        return;
    }
    line(out, 2, "# Need a container engine in the image.");
    line(out, 2, "services:");
    for (image, version) in &draft.services {
        let (port, health, env): (u16, &str, &[&str]) = match *image {
            "postgres" => (5432, "pg_isready", &["POSTGRES_PASSWORD: postgres"]),
            "mysql" => (3306, "mysqladmin ping", &["MYSQL_ROOT_PASSWORD: root"]),
            "mariadb" => (3306, "healthcheck.sh --connect", &["MARIADB_ROOT_PASSWORD: root"]),
            "redis" => (6379, "redis-cli ping", &[]),
            "mongo" => (27017, "mongosh --eval 1", &[]),
            _ => (5672, "rabbitmq-diagnostics -q ping", &[]),
        };
        line(out, 3, &format!("{image}:"));
        line(out, 4, &format!("image: {image}:{}", version.as_deref().unwrap_or("latest")));
        if !env.is_empty() {
            line(out, 4, "env:");
            env.iter().for_each(|one| line(out, 5, one));
        }
        line(out, 4, &format!("ports: ['{port}:{port}']"));
        line(out, 4, "options: >-");
        line(
            out,
            5,
            &format!(
                "--health-cmd \"{health}\" --health-interval 5s --health-timeout 5s --health-retries 10"
            ),
        );
    }
}

fn run_all(out: &mut String, facts: &RepositoryFacts, commands: &[Command]) {
    for command in commands {
        let prefix = match command.tool {
            Some(tool) if tool.package.is_some() && facts.has("uv.lock") => "uv run ",
            Some(tool) if tool.package.is_some() && facts.has("poetry.lock") => "poetry run ",
            _ => "",
        };
        let text = format!("{prefix}{}", command.text);
        let text = if text.starts_with("./gradlew") && !facts.files.is_empty() && !facts.has("gradlew") {
            text.replacen("./gradlew", "gradle", 1)
        } else {
            text
        };
        let is_plain = scalar(&text) == text && !text.contains('\n');
        if is_plain {
            line(out, 3, &format!("- run: {text}"));
        } else {
            line(out, 3, "- run: |");
            text.lines().for_each(|one| line(out, 5, one));
        }
        if command.may_fail {
            line(out, 4, "continue-on-error: true");
        }
    }
}
