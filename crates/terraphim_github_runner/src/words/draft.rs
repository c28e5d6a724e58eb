//! What a sentence asks for, before it becomes text.

use super::{facts::RepositoryFacts, tools::Tool};

/// The pieces of a workflow.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) push: Option<Push>,
    /// The target branches.
    pub(super) pull_request: Option<Vec<String>>,
    /// Other events with their activity types.
    pub(super) events: Vec<(&'static str, Vec<&'static str>)>,
    /// Names of workflows whose end starts this one.
    pub(super) after_workflows: Vec<String>,
    /// The inputs of a start by hand.
    pub(super) dispatch: Option<Vec<String>>,
    pub(super) schedules: Vec<When>,
    /// A time of day that no schedule has taken yet.
    pub(super) time: Option<(u32, u32)>,
    pub(super) paths: Vec<String>,
    pub(super) paths_ignore: Vec<String>,
    pub(super) commands: Vec<Command>,
    /// The name of a dimension with its values.
    pub(super) matrix: Vec<(Dimension, Vec<String>)>,
    pub(super) caches: Vec<Cache>,
    pub(super) artifacts: Vec<String>,
    pub(super) services: Vec<(&'static str, Option<String>)>,
    pub(super) env: Vec<(String, String)>,
    pub(super) secrets: Vec<String>,
    pub(super) timeout_minutes: Option<u32>,
    pub(super) concurrency: Option<bool>,
    pub(super) runs_on: Vec<String>,
    pub(super) is_split: bool,
    pub(super) keeps_going: bool,
    pub(super) deploy_branch: Option<String>,
    pub(super) deploy_environment: Option<String>,
    pub(super) notes: Vec<String>,
}

/// Which pushes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) branches: Vec<String>,
    pub(super) tags: Vec<String>,
    /// Pushes of branches were named, not only of tags.
    pub(super) has_branches: bool,
}

/// A time of the schedule: day of the month, day of the week, hours and minutes as cron writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct When {
    pub(super) days: String,
    pub(super) weekdays: String,
    /// `None` for a time of day that may still be named.
    pub(super) hours: Option<String>,
    pub(super) minutes: String,
}

impl When {
    pub(super) fn cron(&self) -> String {
        let hours = self.hours.as_deref().unwrap_or("3");
        format!("{} {hours} {} * {}", self.minutes, self.days, self.weekdays)
    }
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) text: String,
    pub(super) tool: Option<&'static Tool>,
    pub(super) may_fail: bool,
    /// It belongs to the job that comes after all others.
    pub(super) is_last: bool,
}

/// What a matrix goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Rust,
    Node,
    Python,
    Go,
    Java,
    Os,
}

impl Dimension {
    pub(super) fn key(self) -> &'static str {
        match self {
            Dimension::Rust => "rust",
            Dimension::Node => "node",
            Dimension::Python => "python",
            Dimension::Go => "go",
            Dimension::Java => "java",
            Dimension::Os => "os",
        }
    }
}

/// What to keep between runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// What the tools of the workflow download or build.
    Tools,
    /// A path.
    Path(String),
}

impl Draft {
    pub(super) fn push(&mut self) -> &mut Push {
        self.push.get_or_insert_default()
    }

    pub(super) fn command(&mut self, text: impl Into<String>, tool: Option<&'static Tool>) {
        let command = Command { text: text.into(), tool, may_fail: false, is_last: false };
        if !self.commands.contains(&command) {
            self.commands.push(command);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(super) fn dimension(&mut self, dimension: Dimension, values: Vec<String>) {
        match self.matrix.iter_mut().find(|(known, _)| *known == dimension) {
            Some((_, known)) => known.extend(values),
            None => self.matrix.push((dimension, values)),
        }
    }

    pub(super) fn has_event(&self) -> bool {
        self.push.is_some()
            || self.pull_request.is_some()
            || self.dispatch.is_some()
            || !(self.events.is_empty() && self.schedules.is_empty() && self.after_workflows.is_empty())
    }

    /// Decides what the sentence leaves open.
    pub(super) fn finish(&mut self, facts: &RepositoryFacts) {
        if let Some((hour, minute)) = self.time.take() {
            let days = ("*".to_owned(), "*".to_owned());
            let (hours, minutes) = (Some(hour.to_string()), minute.to_string());
            self.schedules.push(When { days: days.0, weekdays: days.1, hours, minutes });
        }
        if self.schedules.iter().any(|when| when.hours.is_none()) {
            self.note("No time of day is named for the schedule: it is 03:00.");
        }
        if !self.schedules.is_empty() {
            self.note("Times of a schedule are in UTC.");
        }
        if !self.has_event() {
            self.push().has_branches = true;
            self.pull_request = Some(Vec::new());
            self.note("No event is named: the workflow runs on every push and pull request.");
        }
        let has_filter = !(self.paths.is_empty() && self.paths_ignore.is_empty());
        if has_filter && self.push.is_none() && self.pull_request.is_none() {
            self.push().has_branches = true;
            self.note("Paths belong to pushes: the workflow runs on pushes that change them.");
        }
        if !(self.paths.is_empty() || self.paths_ignore.is_empty()) {
            // GitHub: one event has `paths` or `paths-ignore`; exclusions become patterns with `!`.
            let ignored = std::mem::take(&mut self.paths_ignore);
            self.paths.extend(ignored.into_iter().map(|path| format!("!{path}")));
        }
        if self.commands.iter().all(|command| command.is_last) {
            for command in &mut self.commands {
                command.is_last = false;
            }
        }
        if facts.languages.is_empty()
            && self.caches.contains(&Cache::Tools)
            && self.commands.iter().all(|c| c.tool.is_none())
        {
            self.caches.retain(|cache| *cache != Cache::Tools);
            self.note("Nothing is cached: no tool with a known cache is used.");
        }
    }
}
