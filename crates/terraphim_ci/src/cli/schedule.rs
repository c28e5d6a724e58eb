//! The times of `schedule`, as `tci plan` shows them.

use jiff::Timestamp;
use serde::Serialize;
use terraphim_actions::workflow::{Schedule, Workflow};
use terraphim_github_runner::schedule::DueTimes;

/// One entry of `on.schedule`, and when it is due next.
#[derive(Debug, Serialize)]
pub(super) struct Due {
    cron: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    line: u32,
    /// RFC 3339 with the zone's offset; absent for what is never due.
    next: Option<String>,
}

impl Due {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let zone = self.timezone.as_deref().unwrap_or("UTC");
        let next = self.next.as_ref().map_or_else(|| "never due".to_owned(), |next| format!("next {next}"));
        format!("line {}: {} {zone}, {next}", self.line, self.cron)
    }
}

/// When each time of the workflow is due after `now`.
pub(super) fn due(workflow: &Workflow, now: Timestamp) -> Vec<Due> {
    let next = |schedule: &Schedule| {
        let times = DueTimes::new(schedule).ok()?;
        let next = times.next_after(now)?.to_zoned(times.zone().clone());
        Some(next.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    };
    let due = |schedule: &Schedule| Due {
        cron: schedule.cron.value.clone(),
        timezone: schedule.timezone.as_ref().map(|zone| zone.value.clone()),
        line: schedule.cron.span.line,
        next: next(schedule),
    };
    schedules(workflow).map(due).collect()
}

fn schedules(workflow: &Workflow) -> impl Iterator<Item = &Schedule> {
    workflow.on.events.get("schedule").into_iter().flat_map(|trigger| &trigger.schedule)
}
