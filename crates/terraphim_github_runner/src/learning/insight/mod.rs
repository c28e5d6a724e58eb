//! What was learned, for people: forecasts, lessons, what is unstable, what could be better, what is related.
//!
//! Everything here is a pure function of a model, so that a command, a server and a page show the same. It orders and
//! warns; nothing here skips anything or changes a conclusion.

mod current;
mod effects;
mod forecast;
mod lessons;
mod order;
mod related;
mod steps;
mod suggest;
mod thesaurus;
mod unstable;

pub use forecast::{Forecast, Risk};
pub use lessons::{Lesson, lessons};
pub(super) use related::related_among;
pub use related::{Related, related};
pub use suggest::{Suggestion, repetition_helps, suggestions};
pub use thesaurus::{Concept, Thesaurus, ThesaurusError};
pub use unstable::{Unstable, unstable};

use serde::Serialize;

use super::model::{Anomaly, AnomalyKind, Model, Totals};

/// Everything that is worth telling about a repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Insights {
    /// How much was learned.
    pub totals: Totals,
    /// Failures that repeat, the most frequent first.
    pub lessons: Vec<Lesson>,
    /// Commands and tests that do not always do the same, the worst first.
    pub unstable: Vec<Unstable>,
    /// What could be better, the largest saving first.
    pub suggestions: Vec<Suggestion>,
}

impl Insights {
    /// The insights of a model.
    #[must_use]
    pub fn of(model: &Model) -> Insights {
        Insights {
            totals: model.totals(),
            lessons: lessons(model),
            unstable: unstable(model),
            suggestions: suggestions(model),
        }
    }
}

/// An anomaly in a sentence.
#[must_use]
pub fn anomaly_text(anomaly: &Anomaly) -> String {
    let Anomaly { kind, command, value, median, compared, false_alarm_rate } = anomaly;
    let what = match kind {
        AnomalyKind::Slow => format!("took {}, usually {}", about(*value), about(*median)),
        AnomalyKind::MuchOutput => format!("wrote {value} lines, usually {median}"),
        AnomalyKind::LittleOutput => format!("wrote only {value} lines, usually {median}: did it do less?"),
    };
    format!(
        "`{command}` {what} (of {compared} runs; a false alarm in {} of cases)",
        percent(*false_alarm_rate)
    )
}

/// `12 s`, `4 min`, `2 h`: as exact as a forecast is.
pub(super) fn about(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..90_000 => format!("{} s", (ms + 500) / 1000),
        90_000..5_400_000 => format!("{} min", (ms + 30_000) / 60_000),
        _ => format!("{} h", (ms + 1_800_000) / 3_600_000),
    }
}

/// A share as a whole number of percent; never 0 or 100 when it is not.
pub(super) fn percent(share: f64) -> String {
    let rounded = (share * 100.0).round();
    let shown = if share > 0.0 && rounded < 1.0 {
        1.0
    } else if share < 1.0 && rounded > 99.0 {
        99.0
    } else {
        rounded
    };
    format!("{shown} %")
}

#[cfg(test)]
mod tests;
