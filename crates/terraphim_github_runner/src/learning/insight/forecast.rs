//! What is to be expected of a run.

use std::fmt;

use serde::Serialize;

use super::current::Current;
use super::{about, percent};
use crate::learning::model::{FailureFact, LessonState, Model, directories, wilson};

/// With fewer runs a share says nothing, unless the command has a lesson.
const NEEDED_RUNS: u64 = 5;
/// A command that fails less often is not worth a warning.
const WORTH_TELLING: f64 = 0.1;
/// A directory is named when the share is this much above the usual one.
const ABOVE_USUAL: f64 = 0.1;
/// More warnings than this are not read.
const MAX_RISKS: usize = 3;
/// With fewer runs no duration is foretold.
const NEEDED_DURATIONS: usize = 2;

/// A command that is likely to fail.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Risk {
    /// The command, by its canonical form.
    pub command: String,
    /// Its first line, masked.
    pub example: String,
    /// The share of runs in which it failed.
    pub failure_rate: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many runs that is about.
    pub runs: u64,
    /// The directory whose change makes it fail more often than usual.
    pub directory: Option<String>,
}

/// What is to be expected of a run of one workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// Half of the runs took less, in milliseconds.
    pub median_ms: Option<u64>,
    /// Nine of ten runs took less.
    pub p90_ms: Option<u64>,
    /// How many runs that is about.
    pub runs: usize,
    /// What is likely to fail, the likeliest first.
    pub risks: Vec<Risk>,
    /// Active lessons about commands of this workflow.
    pub lessons: u64,
}

impl Forecast {
    /// The forecast for a workflow when these paths change.
    #[must_use]
    pub fn of(model: &Model, workflow: &str, changed: &[String]) -> Forecast {
        let mut forecast = Forecast::default();
        if let Some(run) = model.run(workflow) {
            forecast.runs = run.durations.len();
            if forecast.runs >= NEEDED_DURATIONS {
                forecast.median_ms = run.durations.median();
                forecast.p90_ms = run.durations.quantile(0.9);
            }
        }
        let directories = directories(changed);
        let current = Current::of(model);
        for (canonical, fact) in current.commands().filter(|(_, fact)| fact.place.workflow == workflow) {
            let threshold = model.lesson_threshold();
            let is_active = |reason: &&FailureFact| reason.state(threshold) == LessonState::Active;
            let active = fact.reasons.iter().filter(is_active).count();
            forecast.lessons += active as u64;
            let needed = if active > 0 { threshold.get().min(NEEDED_RUNS) } else { NEEDED_RUNS };
            let usual = fact.failure_share();
            let of_directory = directories
                .iter()
                .filter_map(|directory| Some((directory, model.rate_for_path(canonical, directory)?)))
                .filter(|(_, rate)| rate.runs() >= NEEDED_RUNS && rate.failure_share() >= usual + ABOVE_USUAL)
                .max_by(|(_, a), (_, b)| a.failure_share().total_cmp(&b.failure_share()));
            let (failure_rate, runs, directory) = match of_directory {
                Some((directory, rate)) => (rate.failure_share(), rate.runs(), Some(directory.clone())),
                None => (usual, fact.runs(), None),
            };
            if runs >= needed && failure_rate >= WORTH_TELLING {
                let (low, high) = wilson(failure_rate, crate::learning::model::real(runs));
                let example = fact.example.clone();
                let command = canonical.to_owned();
                forecast.risks.push(Risk { command, example, failure_rate, low, high, runs, directory });
            }
        }
        forecast.risks.sort_by(|a, b| {
            b.failure_rate.total_cmp(&a.failure_rate).then_with(|| a.command.cmp(&b.command))
        });
        forecast.risks.truncate(MAX_RISKS);
        forecast
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.median_ms.is_none() && self.risks.is_empty()
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(median) = self.median_ms {
            write!(f, "about {}", about(median))?;
            separator = "; ";
        }
        for Risk { example, failure_rate, directory, .. } in &self.risks {
            write!(f, "{separator}`{example}` fails in {} of runs", percent(*failure_rate))?;
            if let Some(directory) = directory {
                write!(f, " that touch `{directory}`")?;
            }
            separator = "; ";
        }
        Ok(())
    }
}
