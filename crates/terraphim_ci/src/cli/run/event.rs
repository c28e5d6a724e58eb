//! The event that a run is for: its payload, and what `github.ref` and `github.sha` are for it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use clap::Args;
use serde_json::{Value, json};

use super::variables::Asked;
use crate::{
    failure::Failure,
    input,
    workspace::{GitInfo, Repository},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Event")]
pub(super) struct EventArgs {
    /// The event's name [default: push, or the first event that the workflow is for]. `github.ref` and `github.sha`
    /// follow it as on GitHub; the files are always those of the working tree.
    #[arg(long, short, value_name = "NAME")]
    event: Option<String>,
    /// Its payload, a JSON file (`-` is standard input). A pull request that it gives no number is number 1.
    #[arg(long, visible_alias = "event-path", value_name = "FILE")]
    eventpath: Option<PathBuf>,
    /// What is in that file, which is read once: a pipe has nothing for the second workflow.
    #[arg(skip)]
    given: OnceLock<Value>,
}

impl EventArgs {
    pub(super) fn name(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// The file, for [`super::variables::one_reader`].
    pub(super) fn file(&self) -> Option<Asked<'_>> {
        self.eventpath.as_deref().map(|path| ("--eventpath", path))
    }

    /// The payload: the given one, or what GitHub would send, as far as the repository tells.
    pub(super) fn payload(&self, event: &str, git: &GitInfo) -> Result<Value, Failure> {
        if let Some(given) = self.given.get() {
            return Ok(given.clone());
        }
        let payload = payload(self.eventpath.as_deref(), event, git)?;
        // What is made up is another one for each event.
        Ok(if self.eventpath.is_some() { self.given.get_or_init(|| payload).clone() } else { payload })
    }
}

/// The payload in the file `path`; without one what GitHub would send, as far as the repository tells.
pub(in crate::cli) fn payload(path: Option<&Path>, event: &str, git: &GitInfo) -> Result<Value, Failure> {
    let Some(path) = path else { return Ok(made_up(event, git)) };
    let text = input::named(path, input::MOST_DATA)?;
    let shown = input::shown(path).display();
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::usage(format!("{shown} is no JSON object"))),
        Err(error) => Err(Failure::usage(format!("{shown} is no JSON: {error}"))),
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
            payload["number"] = json!(MADE_UP_NUMBER);
            payload["pull_request"] = json!({
                "number": MADE_UP_NUMBER,
                "head": {"ref": branch, "sha": git.sha, "repo": about_repository},
                "base": {"ref": repository.default_branch, "repo": about_repository},
            });
        }
        "workflow_dispatch" => payload["ref"] = json!(git.git_ref),
        _ => {}
    }
    payload
}

/// The number of a pull request of which nobody says it.
const MADE_UP_NUMBER: u64 = 1;

/// `github.ref` and `github.sha`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) git_ref: String,
    pub(super) sha: String,
    /// What had to be guessed.
    pub(super) note: Option<String>,
}

/// Where an event happened. What neither its payload nor the repository tells is as in the working tree.
pub(super) fn at(event: &str, payload: &Value, git: &GitInfo, repository: Option<&Repository>) -> At {
    let default = git.repository.default_branch.as_deref();
    let (git_ref, note) = match reference(event, payload, default) {
        Some(git_ref) => (git_ref, None),
        None if is_about_pull_request(event) => {
            let git_ref = format!("refs/pull/{MADE_UP_NUMBER}/merge");
            let note = format!("the payload of `{event}` has no number, so github.ref is {git_ref}");
            (git_ref, Some(note))
        }
        // Its own is that of its caller.
        None if event == "workflow_call" => (git.git_ref.clone(), None),
        None => {
            let note = format!(
                "the payload of `{event}` does not say where it happened, so github.ref is that of the working tree"
            );
            (git.git_ref.clone(), (!git.git_ref.is_empty()).then_some(note))
        }
    };
    // Of the working tree's own branch the commit is known, and of what is not there the tree has the files.
    let found = || repository.filter(|_| git_ref != git.git_ref)?.commit(&git_ref);
    let sha = sha(event, payload).or_else(found).unwrap_or_else(|| git.sha.clone());
    At { git_ref, sha, note }
}

fn text<'a>(payload: &'a Value, pointer: &str) -> Option<&'a str> {
    payload.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn is_about_pull_request(event: &str) -> bool {
    matches!(event, "pull_request" | "pull_request_review" | "pull_request_review_comment")
}

/// `github.ref`, as far as the payload tells. Without one in the payload, the default branch is `default`.
///
/// Source: docs.github.com, "Events that trigger workflows", column `GITHUB_REF`.
pub(in crate::cli) fn reference(event: &str, payload: &Value, default: Option<&str>) -> Option<String> {
    let branch = |name: &str| format!("refs/heads/{name}");
    match event {
        "push" | "workflow_dispatch" => text(payload, "/ref").map(|name| {
            // A dispatch may name its branch by its name only.
            if name.starts_with("refs/") { name.to_owned() } else { branch(name) }
        }),
        _ if is_about_pull_request(event) => {
            let number = payload.pointer("/pull_request/number").or(payload.get("number"))?.as_u64()?;
            Some(format!("refs/pull/{number}/merge"))
        }
        "merge_group" => text(payload, "/merge_group/head_ref").map(str::to_owned),
        "release" => text(payload, "/release/tag_name").map(|tag| format!("refs/tags/{tag}")),
        "create" => {
            let name = text(payload, "/ref")?;
            let is_tag = text(payload, "/ref_type") == Some("tag");
            Some(if is_tag { format!("refs/tags/{name}") } else { branch(name) })
        }
        "deployment" | "deployment_status" => {
            // One that was made of a commit has none; and nobody says whether a short one is a branch or a tag.
            text(payload, "/deployment/ref").filter(|name| name.starts_with("refs/")).map(str::to_owned)
        }
        // That of a package is in no one place, that of a called workflow is its caller's.
        "registry_package" | "workflow_call" => None,
        _ => text(payload, "/repository/default_branch").or(default).map(branch),
    }
}

/// `github.sha`, where the payload tells; the same page, column `GITHUB_SHA`.
fn sha(event: &str, payload: &Value) -> Option<String> {
    let pointer = match event {
        "push" => "/after",
        "pull_request" | "pull_request_review" | "pull_request_review_comment" => {
            "/pull_request/merge_commit_sha"
        }
        "merge_group" => "/merge_group/head_sha",
        "deployment" | "deployment_status" => "/deployment/sha",
        _ => return None,
    };
    // Zeros are what a push that removes a branch has.
    text(payload, pointer).filter(|sha| sha.bytes().any(|byte| byte != b'0')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use terraphim_github_runner::RepositoryInfo;

    use super::*;

    fn git() -> GitInfo {
        let repository = RepositoryInfo {
            full_name: "me/it".to_owned(),
            clone_url: None,
            default_branch: Some("main".to_owned()),
        };
        GitInfo { repository, sha: "tree".to_owned(), git_ref: "refs/heads/feat/x".to_owned() }
    }

    #[test]
    fn reference_and_commit_follow_the_event() {
        let pull = |number: u64| json!({"pull_request": {"number": number, "merge_commit_sha": "merged"}});
        for (event, payload, want) in [
            ("push", json!({"ref": "refs/tags/v1.0", "after": "pushed"}), ("refs/tags/v1.0", "pushed")),
            ("push", json!({"ref": "refs/heads/old", "after": "0000"}), ("refs/heads/old", "tree")),
            ("pull_request", pull(7), ("refs/pull/7/merge", "merged")),
            ("pull_request", json!({"number": 8}), ("refs/pull/8/merge", "tree")),
            ("pull_request_review", pull(9), ("refs/pull/9/merge", "merged")),
            ("pull_request_target", pull(7), ("refs/heads/main", "tree")),
            ("release", json!({"release": {"tag_name": "v2"}}), ("refs/tags/v2", "tree")),
            ("create", json!({"ref": "v3", "ref_type": "tag"}), ("refs/tags/v3", "tree")),
            ("create", json!({"ref": "b", "ref_type": "branch"}), ("refs/heads/b", "tree")),
            ("delete", json!({"ref": "b", "ref_type": "branch"}), ("refs/heads/main", "tree")),
            ("issue_comment", json!({"action": "created"}), ("refs/heads/main", "tree")),
            ("issues", json!({"repository": {"default_branch": "trunk"}}), ("refs/heads/trunk", "tree")),
            ("schedule", json!({}), ("refs/heads/main", "tree")),
            ("repository_dispatch", json!({}), ("refs/heads/main", "tree")),
            ("workflow_run", json!({"workflow_run": {"head_branch": "b"}}), ("refs/heads/main", "tree")),
            ("workflow_dispatch", json!({"ref": "b"}), ("refs/heads/b", "tree")),
            (
                "merge_group",
                json!({"merge_group": {"head_ref": "refs/heads/q", "head_sha": "queued"}}),
                ("refs/heads/q", "queued"),
            ),
            ("workflow_call", json!({}), ("refs/heads/feat/x", "tree")),
        ] {
            let at = at(event, &payload, &git(), None);
            assert_eq!((at.git_ref.as_str(), at.sha.as_str()), want, "{event} {payload}");
            assert_eq!(at.note, None, "{event} {payload}");
        }
    }

    #[test]
    fn what_nobody_says_is_guessed_and_said() {
        let guessed = at("pull_request", &json!({"action": "opened"}), &git(), None);
        assert_eq!((guessed.git_ref.as_str(), guessed.sha.as_str()), ("refs/pull/1/merge", "tree"));
        assert!(guessed.note.unwrap().contains("has no number"));
        let guessed = at("release", &json!({}), &git(), None);
        assert_eq!(guessed.git_ref, "refs/heads/feat/x");
        assert!(guessed.note.unwrap().contains("that of the working tree"));
    }

    #[test]
    fn a_made_up_payload_leads_to_the_working_tree_or_to_a_pull_request_of_it() {
        let of = |event: &str| at(event, &made_up(event, &git()), &git(), None);
        assert_eq!(of("push").git_ref, "refs/heads/feat/x");
        assert_eq!(of("workflow_dispatch").git_ref, "refs/heads/feat/x");
        assert_eq!(of("pull_request").git_ref, "refs/pull/1/merge");
        let payload = made_up("pull_request", &git());
        let pull = &payload["pull_request"];
        assert_eq!((&pull["head"]["ref"], &pull["base"]["ref"]), (&json!("feat/x"), &json!("main")));
        let outside = GitInfo { git_ref: String::new(), sha: String::new(), ..git() };
        assert_eq!(at("push", &made_up("push", &outside), &outside, None).note, None, "no repository");
    }
}
