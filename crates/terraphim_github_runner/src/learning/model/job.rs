//! What is known about jobs and runs.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::window::Window;

/// A matrix has 256 jobs at most (GitHub, "Usage limits").
const MAX_LEGS: usize = 256;

/// So many ends of runs are kept.
const KEPT_ENDS: usize = 11;

/// Where a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepPlace {
    /// The workflow file, or its name.
    pub workflow: String,
    /// The job without the leg of its matrix.
    pub job: String,
    /// The name of the step.
    pub step: String,
    /// The number of the step in its job, from 1.
    pub number: i64,
}

/// A job with the legs of its matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFact {
    /// Runs in which at least two legs ended and whose outcomes were compared.
    pub compared: u64,
    /// How often each leg ended unlike any other leg of its run.
    pub differing: BTreeMap<String, u64>,
    /// Milliseconds that each leg took; the empty one is a job without a matrix.
    pub durations: BTreeMap<String, Window>,
    /// The run that is being compared, and how its legs ended.
    current: (String, BTreeMap<String, bool>),
}

impl JobFact {
    pub(super) fn add(&mut self, run: &str, leg: &str, success: bool, duration_ms: u64) {
        if self.current.0 != run {
            self.compare();
            self.current = (run.to_owned(), BTreeMap::new());
        }
        if self.durations.len() < MAX_LEGS || self.durations.contains_key(leg) {
            self.durations.entry(leg.to_owned()).or_default().add(duration_ms);
            self.current.1.insert(leg.to_owned(), success);
        }
    }

    /// Compares the legs of the run before.
    fn compare(&mut self) {
        let legs = std::mem::take(&mut self.current.1);
        if legs.len() < 2 {
            return;
        }
        self.compared += 1;
        for (leg, success) in &legs {
            let alone = legs.iter().all(|(other, ended)| other == leg || ended != success);
            if alone {
                *self.differing.entry(leg.clone()).or_default() += 1;
            }
        }
    }
}

/// A workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFact {
    /// Milliseconds that the last runs took which succeeded.
    pub durations: Window,
    /// Runs that succeeded.
    pub successes: u64,
    /// Runs that failed.
    pub failures: u64,
    /// Runs that the host made fail.
    pub faults: u64,
    /// When the last one ended, in milliseconds since 1970.
    pub last_ms: i64,
    /// When the last runs that succeeded ended, the oldest first: those that failed need not have come to all steps.
    #[serde(default)]
    recent_ms: VecDeque<i64>,
}

impl RunFact {
    pub(super) fn add_success(&mut self, duration_ms: u64, at_ms: i64) {
        self.successes += 1;
        self.durations.add(duration_ms);
        if self.recent_ms.len() >= KEPT_ENDS {
            self.recent_ms.pop_front();
        }
        self.recent_ms.push_back(at_ms);
    }

    /// How many runs succeeded that ended after then; 11 at most.
    pub(in crate::learning) fn successes_since(&self, at_ms: i64) -> usize {
        self.recent_ms.iter().filter(|end| **end > at_ms).count()
    }
}
