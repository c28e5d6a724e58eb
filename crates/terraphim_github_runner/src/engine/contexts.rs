//! The contexts of expressions, and the variables of processes that are made of them.

use indexmap::IndexMap;
use terraphim_actions::expr::{Object, Value};
use uuid::Uuid;

use super::inputs::RunInputs;
use super::plan::Plan;

/// The contexts that are the same everywhere in a run: `github`, `vars`, `inputs`, `secrets`.
#[derive(Clone, Debug)]
pub(super) struct RunContexts {
    /// `github`, `vars` and `inputs`: what every key may use.
    pub(super) open: Object,
    /// `secrets`.
    pub(super) secrets: Value,
}

impl RunContexts {
    pub(super) fn new(plan: &Plan, inputs: &RunInputs) -> RunContexts {
        let mut open = Object::new();
        open.insert("github", github(plan, inputs));
        open.insert(
            "vars",
            inputs.vars.iter().map(|(name, value)| (name, value.as_str())).collect::<Object>(),
        );
        open.insert(
            "inputs",
            inputs.inputs.iter().map(|(name, value)| (name, Value::from(value))).collect::<Object>(),
        );
        let mut secrets = Object::new();
        if !inputs.token.expose().is_empty() {
            secrets.insert("GITHUB_TOKEN", inputs.token.expose());
        }
        for (name, secret) in &inputs.secrets {
            secrets.insert(name, secret.expose());
        }
        RunContexts { open, secrets: secrets.into() }
    }
}

/// The part of `github` that no job changes.
fn github(plan: &Plan, inputs: &RunInputs) -> Object {
    let repository = &inputs.repository;
    let (server, api, graphql) = urls(repository.clone_url.as_deref());
    let owner = repository.full_name.split('/').next().unwrap_or("");
    let (ref_name, ref_type) = name_and_type(&inputs.git_ref);
    let event = &inputs.event;
    let text = |path: &str| event.pointer(path).map(text_of).unwrap_or_default();
    let file = plan.file.as_deref().unwrap_or(&plan.name);
    let mut github = Object::new();
    for (name, value) in [
        ("token", inputs.token.expose().to_owned()),
        ("ref", inputs.git_ref.clone()),
        ("sha", inputs.sha.clone()),
        ("repository", repository.full_name.clone()),
        ("repository_owner", owner.to_owned()),
        ("repository_owner_id", text("/repository/owner/id")),
        ("repository_id", text("/repository/id")),
        ("repositoryUrl", repository.clone_url.clone().unwrap_or_default()),
        ("run_id", run_number(inputs.run_id)),
        ("run_number", inputs.run_number.to_string()),
        ("run_attempt", inputs.run_attempt.to_string()),
        ("retention_days", "90".to_owned()),
        ("actor", inputs.actor.clone()),
        ("actor_id", text("/sender/id")),
        ("triggering_actor", inputs.actor.clone()),
        ("workflow", plan.name.clone()),
        ("workflow_ref", format!("{}/{file}@{}", repository.full_name, inputs.git_ref)),
        ("workflow_sha", inputs.sha.clone()),
        ("head_ref", text("/pull_request/head/ref")),
        ("base_ref", text("/pull_request/base/ref")),
        ("event_name", inputs.event_name.clone()),
        ("server_url", server),
        ("api_url", api),
        ("graphql_url", graphql),
        ("ref_name", ref_name),
        ("ref_type", ref_type.to_owned()),
        ("secret_source", "Actions".to_owned()),
    ] {
        github.insert(name, value);
    }
    github.insert("ref_protected", false);
    github.insert("event", Value::from(event));
    github
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A decimal number for the run, as GitHub's ids are: 53 bits, which a double holds exactly. They are the milliseconds of the
/// run's id (a UUID of version 7), which need 42 bits until the year 2109, and its last 11 bits, which are random: the runs of
/// one command are made in the same millisecond.
fn run_number(run_id: Uuid) -> String {
    let id = run_id.as_u128();
    let (milliseconds, random) = (id >> 80, id & 0x7ff);
    (((milliseconds << 11) | random) & ((1 << 53) - 1)).to_string()
}

/// `refs/heads/a/b` is the branch `a/b`; of pull requests GitHub gives `12/merge` and calls it a branch.
fn name_and_type(git_ref: &str) -> (String, &'static str) {
    let cut = |prefix: &str| git_ref.strip_prefix(prefix);
    match (cut("refs/tags/"), cut("refs/heads/").or(cut("refs/pull/"))) {
        (Some(tag), _) => (tag.to_owned(), "tag"),
        (None, Some(branch)) => (branch.to_owned(), "branch"),
        (None, None) => (git_ref.to_owned(), if git_ref.is_empty() { "" } else { "branch" }),
    }
}

/// The web, REST and GraphQL addresses of the server that a clone address belongs to.
fn urls(clone_url: Option<&str>) -> (String, String, String) {
    let host = clone_url.and_then(|url| url.strip_prefix("https://")?.split('/').next());
    // What is before the `@` may be a password.
    let host = host.and_then(|host| host.rsplit('@').next()).filter(|host| !host.is_empty());
    match host {
        None | Some("github.com") => (
            "https://github.com".to_owned(),
            "https://api.github.com".to_owned(),
            "https://api.github.com/graphql".to_owned(),
        ),
        Some(host) => (
            format!("https://{host}"),
            format!("https://{host}/api/v3"),
            format!("https://{host}/api/graphql"),
        ),
    }
}

/// The properties of `github` that processes see as `GITHUB_...`.
const GITHUB_VARIABLES: [&str; 37] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

/// The variables of a process: `env` below what GitHub sets itself.
pub(super) fn variables(
    env: &IndexMap<String, String>,
    github: &Object,
    runner: &Object,
) -> IndexMap<String, String> {
    let mut all = env.clone();
    for name in GITHUB_VARIABLES {
        if let Some(value) = github.get(name) {
            all.insert(variable("GITHUB_", name), value.to_text().into_owned());
        }
    }
    for (name, value) in runner.iter() {
        all.insert(variable("RUNNER_", name), value.to_text().into_owned());
    }
    all.insert("GITHUB_ACTIONS".to_owned(), "true".to_owned());
    all.entry("CI".to_owned()).or_insert_with(|| "true".to_owned());
    all
}

/// The variable of a property, whose name is ASCII.
fn variable(prefix: &str, name: &str) -> String {
    let mut variable = String::with_capacity(prefix.len() + name.len());
    variable.push_str(prefix);
    variable.push_str(name);
    variable.make_ascii_uppercase();
    variable
}

/// The context `env`: its keys differ by case, as variables on Linux do.
pub(super) fn env_context(env: &IndexMap<String, String>) -> Object {
    let mut object = Object::case_sensitive();
    for (name, value) in env {
        object.insert(name, value.as_str());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_have_names_and_types() {
        for (git_ref, want) in [
            ("refs/heads/feature/x", ("feature/x", "branch")),
            ("refs/tags/v1", ("v1", "tag")),
            ("refs/pull/12/merge", ("12/merge", "branch")),
            ("", ("", "")),
        ] {
            let (name, kind) = name_and_type(git_ref);
            assert_eq!((name.as_str(), kind), want);
        }
    }

    #[test]
    fn addresses_follow_the_server_and_never_hold_a_password() {
        assert_eq!(urls(None).1, "https://api.github.com");
        assert_eq!(urls(Some("https://github.com/a/b.git")).0, "https://github.com");
        assert_eq!(urls(Some("https://u:p@git.example.org/a/b")).1, "https://git.example.org/api/v3");
        assert_eq!(urls(Some("git@github.com:a/b")).0, "https://github.com");
    }

    #[test]
    fn runs_of_the_same_millisecond_have_ids_of_their_own_that_a_double_holds() {
        let at = |milliseconds: u128, rest: u128| {
            run_number(Uuid::from_u128((milliseconds << 80) | (0x7 << 76) | (0x2 << 62) | rest))
        };
        let number = |text: String| text.parse::<u64>().unwrap();
        let now = 1_796_000_000_000;
        let (first, second) = (number(at(now, 1)), number(at(now, 2)));
        assert_ne!(first, second);
        assert!(number(at(now + 1, 0)) > first.max(second));
        assert!(number(at((1 << 42) - 1, u128::from(u32::MAX))) < 1 << 53);
    }

    #[test]
    fn nothing_replaces_what_github_sets() {
        let env = IndexMap::from([
            ("GITHUB_SHA".to_owned(), "mine".to_owned()),
            ("CI".to_owned(), "maybe".to_owned()),
            ("X".to_owned(), "1".to_owned()),
        ]);
        let github: Object = [("sha", "abc"), ("token", "secret")].into_iter().collect();
        let runner: Object = [("os", "Linux")].into_iter().collect();
        let all = variables(&env, &github, &runner);
        assert_eq!(all["GITHUB_SHA"], "abc");
        assert_eq!(all["CI"], "maybe");
        assert_eq!(all["RUNNER_OS"], "Linux");
        assert!(!all.contains_key("GITHUB_TOKEN"));
    }
}
