//! Commands and tests that do not always do the same.

use std::fmt;

use serde::Serialize;

use super::current::Current;
use super::lessons::short;
use super::percent;
use crate::learning::model::{Model, StabilityClass, Verdict, classify};

/// A command or test with what its last outcomes say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unstable {
    /// The command, by its canonical form.
    pub command: String,
    /// Its first line, masked.
    pub example: String,
    /// The test; absent for the command itself.
    pub test: Option<String>,
    /// What its last outcomes say.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How often it ran again where it had failed.
    pub retries: u64,
    /// How many of those succeeded.
    pub cured: u64,
}

/// Everything that is not stable and that workflows still have: broken, then flaky, then what the infrastructure does,
/// then unknown; within each the most frequent first.
#[must_use]
pub fn unstable(model: &Model) -> Vec<Unstable> {
    let current = Current::of(model);
    let commands = current.commands().map(|(canonical, fact)| Unstable {
        command: canonical.to_owned(),
        example: fact.example.clone(),
        test: None,
        verdict: classify(&fact.history),
        retries: fact.retries,
        cured: fact.cured,
    });
    let tests = model.tests().filter_map(|(canonical, name, fact)| {
        let of = model.command(canonical).filter(|of| current.has(canonical, of))?;
        Some(Unstable {
            command: canonical.to_owned(),
            example: of.example.clone(),
            test: Some(name.to_owned()),
            verdict: classify(&fact.history),
            retries: 0,
            cured: 0,
        })
    });
    let mut found: Vec<Unstable> =
        commands.chain(tests).filter(|one| one.verdict.class != StabilityClass::Stable).collect();
    let order = |one: &Unstable| match one.verdict.class {
        StabilityClass::Broken { .. } => 0,
        StabilityClass::Flaky => 1,
        StabilityClass::Infrastructure => 2,
        StabilityClass::Unknown | StabilityClass::Stable => 3,
    };
    found.sort_by(|a, b| {
        order(a)
            .cmp(&order(b))
            .then(b.verdict.failure_rate.total_cmp(&a.verdict.failure_rate))
            .then_with(|| (&a.command, &a.test).cmp(&(&b.command, &b.test)))
    });
    found
}

impl fmt::Display for Unstable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            Some(test) => write!(f, "test {test} of `{}`", self.example)?,
            None => write!(f, "`{}`", self.example)?,
        }
        let Verdict { class, failure_rate, low, high, reason, .. } = &self.verdict;
        match class {
            StabilityClass::Broken { since, last_good, .. } if !since.is_empty() => {
                write!(f, " is broken since {}", short(since))?;
                if let Some(good) = last_good {
                    write!(f, " (last good {})", short(good))?;
                }
            }
            StabilityClass::Unknown => f.write_str(" failed")?,
            StabilityClass::Infrastructure => f.write_str(" fails for the infrastructure")?,
            class => write!(f, " is {}", class.name())?,
        }
        let (rate, low, high) = (percent(*failure_rate), percent(*low), percent(*high));
        write!(f, ": fails in {rate} of runs (95 %: {low} to {high}); {reason}")
    }
}
