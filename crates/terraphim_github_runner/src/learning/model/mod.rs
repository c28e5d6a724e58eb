//! What was learned about one repository: counters that each event changes a little.
//!
//! The model is a function of the events, in their order, and of nothing else: replaying them gives the same counters
//! to the last bit. It knows no clock and no files; `store` keeps its rows.

mod apply;
mod command;
mod history;
mod job;
mod rate;
mod repetition;
mod sequences;
mod table;
mod verdict;
mod window;

pub use apply::Learned;
pub(super) use apply::directories;
pub use command::{CommandFact, FailureFact, LessonState};
pub use history::{History, Observation};
pub use job::{JobFact, RunFact, StepPlace};
pub use rate::{Evidence, Level, Prediction, Rate};
pub(super) use rate::{real, wilson};
pub use repetition::LessonThreshold;
pub(super) use sequences::{Neighbour, Sequences};
pub use table::FactRow;
pub use verdict::{StabilityClass, Verdict, classify};
pub use window::{Anomaly, AnomalyKind, Window};

use serde::{Deserialize, Serialize};

use super::signature::TemplateNode;
use repetition::Repetitions;
use table::Table;

/// Commands that are told apart; further ones are only counted. It bounds memory against commands that differ every
/// time.
pub(super) const MAX_COMMANDS: u32 = 120_000;

/// Rates: of each of these commands its subcommand, canonical form, text and a pair, and some more pairs.
const MAX_RATES: u32 = 5 * MAX_COMMANDS;

/// Separates the parts of a key; no command has it.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Everything that was learned about one repository, or (with an empty name) what all share.
#[derive(Debug)]
pub struct Model {
    /// Success rates, by level and key.
    pub(super) rates: Table<Rate>,
    /// By canonical form.
    pub(super) commands: Table<CommandFact>,
    /// Of tests that failed at least once, by command and name.
    pub(super) tests: Table<TestFact>,
    /// By workflow and job.
    pub(super) jobs: Table<JobFact>,
    /// By workflow.
    pub(super) runs: Table<RunFact>,
    /// The tree of templates of signatures, by leaf.
    pub(super) templates: Table<TemplateNode>,
    /// One row.
    pub(super) totals: Table<Totals>,
    /// One row.
    repetitions: Table<Repetitions>,
    /// Which command follows which; made of the rates of pairs, so it has no rows of its own.
    pub(super) sequences: Sequences,
    /// Changes what is told, and no counter.
    lesson_threshold: LessonThreshold,
}

/// How much was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events of all kinds.
    pub events: u64,
    /// Commands that succeeded.
    pub successes: u64,
    /// Commands that failed.
    pub failures: u64,
    /// Commands that the host made fail.
    pub faults: u64,
    /// Runs.
    pub runs: u64,
    /// Different commands (canonical).
    pub commands: u64,
    /// Different commands that succeeded at least once.
    pub success_patterns: u64,
    /// Different pairs of command and signature.
    pub failure_patterns: u64,
    /// Failures that repeated often enough to be lessons. In a row of the store: those of before the threshold could be
    /// chosen.
    #[serde(default)]
    pub lessons: u64,
    /// When the last event ended, in milliseconds since 1970.
    pub last_ms: i64,
}

/// A test that failed at least once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestFact {
    /// Its last outcomes.
    pub history: History,
    /// How often it failed.
    pub failures: u64,
    /// How often it passed since it is watched.
    pub passes: u64,
}

impl Model {
    /// A model that knows nothing.
    #[must_use]
    pub fn new() -> Model {
        Model::empty()
    }

    /// A model of what all repositories share: success rates of tools under a hash of their names, nothing that could
    /// be listed.
    #[must_use]
    pub fn shared() -> Model {
        Model::empty()
    }

    fn empty() -> Model {
        Model {
            rates: Table::new("rate", MAX_RATES),
            commands: Table::new("command", MAX_COMMANDS),
            tests: Table::new("test", 100_000),
            jobs: Table::new("job", 10_000),
            runs: Table::new("run", 2_000),
            templates: Table::new("template", 50_000),
            totals: Table::new("totals", 1),
            repetitions: Table::new("repetitions", 1),
            sequences: Sequences::default(),
            lesson_threshold: LessonThreshold::default(),
        }
    }

    /// Takes rows over that [`Model::take_changes`] or [`Model::rows`] gave.
    ///
    /// # Errors
    /// A row cannot be read.
    pub fn load(&mut self, rows: impl IntoIterator<Item = FactRow>) -> Result<(), serde_json::Error> {
        for row in rows {
            let FactRow { kind, key, value } = row;
            match kind.as_str() {
                "rate" => self.load_rate(key, &value)?,
                "command" => self.commands.load(key, &value)?,
                "test" => self.tests.load(key, &value)?,
                "job" => self.jobs.load(key, &value)?,
                "run" => self.runs.load(key, &value)?,
                "template" => self.templates.load(key, &value)?,
                "totals" => self.totals.load(key, &value)?,
                "repetitions" => self.repetitions.load(key, &value)?,
                other => {
                    use serde::de::Error as _;
                    return Err(serde_json::Error::custom(format!("unknown kind of fact {other:?}")));
                }
            }
        }
        Ok(())
    }

    fn load_rate(&mut self, key: String, value: &str) -> Result<(), serde_json::Error> {
        let pair = key.strip_prefix(rate::PAIR).and_then(|pair| pair.split_once(SEPARATOR));
        let pair = pair.map(|(previous, next)| (previous.to_owned(), next.to_owned()));
        let old = self.rates.get(&key).map_or(0, Rate::runs);
        self.rates.load(key.clone(), value)?;
        if let Some((previous, next)) = pair {
            let runs = self.rates.get(&key).map_or(0, Rate::runs);
            self.sequences.add(&previous, &next, runs.saturating_sub(old));
        }
        Ok(())
    }

    /// The rows that changed since the last call.
    pub fn take_changes(&mut self) -> Vec<FactRow> {
        let mut rows = self.rates.take_changes();
        rows.extend(self.commands.take_changes());
        rows.extend(self.tests.take_changes());
        rows.extend(self.jobs.take_changes());
        rows.extend(self.runs.take_changes());
        rows.extend(self.templates.take_changes());
        rows.extend(self.totals.take_changes());
        rows.extend(self.repetitions.take_changes());
        rows
    }

    /// All rows, sorted.
    #[must_use]
    pub fn rows(&self) -> Vec<FactRow> {
        let mut rows = self.rates.rows();
        rows.extend(self.commands.rows());
        rows.extend(self.tests.rows());
        rows.extend(self.jobs.rows());
        rows.extend(self.runs.rows());
        rows.extend(self.templates.rows());
        rows.extend(self.totals.rows());
        rows.extend(self.repetitions.rows());
        rows.sort();
        rows
    }

    /// How much was learned; takes the same time however much that is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let totals = self.totals.get("").copied().unwrap_or_default();
        let lessons = self.repetitions.get("").map_or(0, |one| one.lessons(self.lesson_threshold));
        Totals { lessons: totals.lessons + lessons, ..totals }
    }

    /// From how many failures on there is a lesson; 3 unless something else was said.
    #[must_use]
    pub fn lesson_threshold(&self) -> LessonThreshold {
        self.lesson_threshold
    }

    /// Chooses from how many failures on there is a lesson, also of what was learned before. No counter changes.
    pub fn set_lesson_threshold(&mut self, threshold: LessonThreshold) {
        self.lesson_threshold = threshold;
    }

    /// What is known about a command, by its canonical form.
    #[must_use]
    pub fn command(&self, canonical: &str) -> Option<&CommandFact> {
        self.commands.get(canonical)
    }

    /// All commands by canonical form, in no order.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &CommandFact)> {
        self.commands.iter()
    }

    /// The command that last ran as a step: its canonical form, and what is known about it.
    #[must_use]
    pub fn command_at(&self, workflow: &str, job: &str, number: i64) -> Option<(&str, &CommandFact)> {
        let there = |fact: &CommandFact| {
            (fact.place.workflow.as_str(), fact.place.job.as_str(), fact.place.number)
                == (workflow, job, number)
        };
        self.commands().filter(|(_, fact)| there(fact)).max_by_key(|(command, fact)| (fact.last_ms, *command))
    }

    /// What is known about a workflow.
    #[must_use]
    pub fn run(&self, workflow: &str) -> Option<&RunFact> {
        self.runs.get(workflow)
    }

    /// All jobs: workflow, job, fact; in no order.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, &str, &JobFact)> {
        self.jobs.iter().filter_map(|(key, fact)| key.split_once(SEPARATOR).map(|(w, j)| (w, j, fact)))
    }

    /// All watched tests: command, name, fact; in no order.
    pub fn tests(&self) -> impl Iterator<Item = (&str, &str, &TestFact)> {
        self.tests.iter().filter_map(|(key, fact)| key.split_once(SEPARATOR).map(|(c, t)| (c, t, fact)))
    }

    /// Whether a test of a command ever failed.
    #[must_use]
    pub fn watches_test(&self, canonical: &str, test: &str) -> bool {
        self.tests.get(&key(canonical, test)).is_some()
    }

    /// Notes that `next` came right after `previous`, of which no outcome is known. It has no rows: an order without
    /// outcomes is only heard of in memory.
    pub(super) fn note_order(&mut self, previous: &str, next: &str) {
        self.sequences.add(previous, next, 1);
    }

    /// Which command follows which.
    pub(super) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// How often a command succeeded when something below a directory had changed.
    #[must_use]
    pub fn rate_for_path(&self, canonical: &str, directory: &str) -> Option<&Rate> {
        self.rates.get(&format!("path {}", key(canonical, directory)))
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

pub(super) fn key(first: &str, second: &str) -> String {
    format!("{first}{SEPARATOR}{second}")
}

#[cfg(test)]
mod calibration_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdict_tests;
