//! What happened, as far as filters look at it.

use crate::expr::Value;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name, such as `push`.
    pub name: String,
    /// The activity type (`action` of the payload; for `repository_dispatch` the type that was sent).
    pub activity: Option<String>,
    /// The branch: pushed to, merged into, or that the workflow before ran on.
    pub branch: Option<String>,
    /// The tag that was pushed.
    pub tag: Option<String>,
    /// The files that changed, if known.
    pub changed_files: Option<Vec<String>>,
    /// The workflow before, for `workflow_run`.
    pub workflow: Option<String>,
    /// The time, for `schedule`, as the workflow writes it.
    pub cron: Option<String>,
}

impl Event {
    /// An event of this name about nothing.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// What a webhook payload says about an event. The changed files of a push are those of its
    /// commits; for a pull request the payload does not say.
    #[must_use]
    pub fn from_payload(name: &str, payload: &Value) -> Self {
        let mut event = Self { activity: text(payload, &["action"]), ..Self::new(name) };
        match name {
            "push" => {
                let reference = text(payload, &["ref"]).unwrap_or_default();
                event.branch = reference.strip_prefix("refs/heads/").map(str::to_owned);
                event.tag = reference.strip_prefix("refs/tags/").map(str::to_owned);
                event.changed_files = changed_files(payload);
            }
            "pull_request" | "pull_request_target" => {
                event.branch = text(payload, &["pull_request", "base", "ref"]);
            }
            "merge_group" => {
                let reference = text(payload, &["merge_group", "base_ref"]);
                event.branch = reference.map(|name| name.trim_start_matches("refs/heads/").to_owned());
            }
            "workflow_run" => {
                event.branch = text(payload, &["workflow_run", "head_branch"]);
                event.workflow = text(payload, &["workflow_run", "name"]);
            }
            "schedule" => event.cron = text(payload, &["schedule"]),
            _ => {}
        }
        event
    }
}

fn text(payload: &Value, path: &[&str]) -> Option<String> {
    let found = path.iter().try_fold(payload, |value, key| value.get(key))?;
    match found {
        Value::Str(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The files that the commits of a push added, changed and removed.
fn changed_files(payload: &Value) -> Option<Vec<String>> {
    let Some(Value::Arr(commits)) = payload.get("commits") else { return None };
    let mut files = Vec::new();
    for commit in commits.iter() {
        for key in ["added", "modified", "removed"] {
            // A payload that leaves the lists out says nothing about files.
            let Some(Value::Arr(names)) = commit.get(key) else { return None };
            for name in names.iter() {
                let name = name.to_text().into_owned();
                if !files.contains(&name) {
                    files.push(name);
                }
            }
        }
    }
    Some(files)
}
