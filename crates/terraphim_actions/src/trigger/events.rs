//! The events there are and their activity types.

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct EventInfo {
    /// Its name.
    pub name: &'static str,
    /// Its activity types; none if it has none, or any.
    pub types: &'static [&'static str],
    /// The types that count when a workflow names none; all if empty.
    pub default_types: &'static [&'static str],
}

const fn event(name: &'static str, types: &'static [&'static str]) -> EventInfo {
    EventInfo { name, types, default_types: &[] }
}

const CRUD: &[&str] = &["created", "edited", "deleted"];
const PULL_REQUEST: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
];
const PULL_REQUEST_DEFAULT: &[&str] = &["opened", "synchronize", "reopened"];

/// All events. Source: docs.github.com, "Events that trigger workflows".
pub const EVENTS: &[EventInfo] = &[
    event("branch_protection_rule", CRUD),
    event("check_run", &["created", "rerequested", "completed", "requested_action"]),
    event("check_suite", &["completed"]),
    event("create", &[]),
    event("delete", &[]),
    event("deployment", &[]),
    event("deployment_status", &[]),
    event(
        "discussion",
        &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
    ),
    event("discussion_comment", CRUD),
    event("dynamic", &[]),
    event("fork", &[]),
    event("gollum", &[]),
    event("image_version", &["created", "ready", "deleted"]),
    event("interactive_component", &[]),
    event("issue_comment", CRUD),
    event(
        "issues",
        &[
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "typed",
            "untyped",
        ],
    ),
    event("label", CRUD),
    event("member", &[]),
    event("merge_group", &["checks_requested"]),
    event("milestone", &["created", "closed", "opened", "edited", "deleted"]),
    event("page_build", &[]),
    event("project", &["created", "closed", "reopened", "edited", "deleted"]),
    event("project_card", &["created", "moved", "converted", "edited", "deleted"]),
    event("project_column", &["created", "updated", "moved", "deleted"]),
    event("public", &[]),
    EventInfo { name: "pull_request", types: PULL_REQUEST, default_types: PULL_REQUEST_DEFAULT },
    event("pull_request_comment", CRUD),
    event("pull_request_review", &["submitted", "edited", "dismissed"]),
    event("pull_request_review_comment", CRUD),
    EventInfo { name: "pull_request_target", types: PULL_REQUEST, default_types: PULL_REQUEST_DEFAULT },
    event("push", &[]),
    event("registry_package", &["published", "updated"]),
    event(
        "release",
        &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"],
    ),
    event("repository_dispatch", &[]),
    event("schedule", &[]),
    event("status", &[]),
    event("watch", &["started"]),
    event("workflow_call", &[]),
    event("workflow_dispatch", &[]),
    event("workflow_run", &["completed", "requested", "in_progress"]),
];

/// The event `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static EventInfo> {
    EVENTS.iter().find(|event| event.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_knows_the_same_events() {
        for event in super::EVENTS {
            let text = format!("on: {}\njobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}", event.name);
            assert!(crate::workflow::Workflow::parse(&text, "w.yml").is_ok(), "{}", event.name);
        }
    }
}
