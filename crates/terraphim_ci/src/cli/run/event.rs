//! The event that a run is for.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::{exit::Exit, failure::Failure, workspace::GitInfo};

#[derive(Debug, Args)]
#[command(next_help_heading = "Event")]
pub(super) struct EventArgs {
    /// The event's name [default: push, or the first event that the workflow is for].
    #[arg(long, short, value_name = "NAME")]
    event: Option<String>,
    /// Its payload, a JSON file.
    #[arg(long, visible_alias = "event-path", value_name = "FILE")]
    eventpath: Option<PathBuf>,
}

impl EventArgs {
    pub(super) fn name(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The payload: the given one, or what GitHub would send, as far as the repository tells.
    pub(super) fn payload(&self, event: &str, git: &GitInfo) -> Result<Value, Failure> {
        payload(self.eventpath.as_deref(), event, git)
    }
}

/// The payload in the file `path`; without one what GitHub would send, as far as the repository tells.
pub(in crate::cli) fn payload(path: Option<&Path>, event: &str, git: &GitInfo) -> Result<Value, Failure> {
    let Some(path) = path else { return Ok(made_up(event, git)) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io("read", path, error).ending(Exit::Usage))?;
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::usage(format!("{} is no JSON object", path.display()))),
        Err(error) => Err(Failure::usage(format!("{} is no JSON: {error}", path.display()))),
    }
}

fn made_up(event: &str, git: &GitInfo) -> Value {
    let repository = &git.repository;
    let (owner, name) = repository.full_name.split_once('/').unwrap_or(("local", &repository.full_name));
    let about_repository = json!({
        "name": name,
        "full_name": repository.full_name,
        "owner": {"login": owner},
        "clone_url": repository.clone_url,
        "default_branch": repository.default_branch,
    });
    let mut payload = json!({"repository": about_repository});
    match event {
        "push" => {
            payload["ref"] = json!(git.git_ref);
            payload["after"] = json!(git.sha);
            payload["head_commit"] = json!({"id": git.sha});
        }
        "pull_request" | "pull_request_target" => {
            let branch = git.git_ref.strip_prefix("refs/heads/").unwrap_or(&git.git_ref);
            payload["action"] = json!("opened");
            payload["number"] = json!(1);
            payload["pull_request"] = json!({
                "number": 1,
                "head": {"ref": branch, "sha": git.sha, "repo": about_repository},
                "base": {"ref": repository.default_branch, "repo": about_repository},
            });
        }
        "workflow_dispatch" => payload["ref"] = json!(git.git_ref),
        _ => {}
    }
    payload
}
