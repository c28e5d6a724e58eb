//! The last outcomes of a command or test, with where they happened.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::learning::command::short_hash;
use crate::learning::event::{CommandOutcome, LearningEvent};

/// How many outcomes are kept.
const KEPT: usize = 40;

/// One outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The commit, with a hash of what was changed in the working tree since.
    #[serde(rename = "c")]
    pub commit: String,
    /// A hash of the environment.
    #[serde(rename = "e")]
    pub environment: String,
    /// Whether it succeeded.
    #[serde(rename = "o")]
    pub success: bool,
    /// Whether the cause of a failure was the machine or the network.
    #[serde(rename = "i", default)]
    pub is_infrastructure: bool,
    /// The id of the signature of a failure.
    #[serde(rename = "s", default)]
    pub signature: String,
    /// When, in milliseconds since 1970.
    #[serde(rename = "t")]
    pub at_ms: i64,
}

/// The last outcomes, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    observations: VecDeque<Observation>,
}

impl History {
    /// Adds an outcome; the oldest goes when there are more than 40.
    pub fn add(&mut self, observation: Observation) {
        if self.observations.len() >= KEPT {
            self.observations.pop_front();
        }
        self.observations.push_back(observation);
    }

    /// The outcomes, the oldest first.
    #[must_use]
    pub fn observations(&self) -> impl DoubleEndedIterator<Item = &Observation> + ExactSizeIterator {
        self.observations.iter()
    }

    /// Adds the outcome of an event; a fault of the host counts as a failure of the infrastructure.
    pub(super) fn add_event(&mut self, event: &LearningEvent, success: bool) {
        let cause = event.signature.as_ref().map(|signature| signature.cause);
        self.add(Observation {
            commit: event.commit.clone(),
            environment: short_hash(&event.environment)[..8].to_owned(),
            success,
            is_infrastructure: !success
                && (event.outcome == CommandOutcome::Fault
                    || cause.is_some_and(|cause| cause.is_infrastructure())),
            signature: match &event.signature {
                Some(signature) if !success => signature.id(),
                _ => String::new(),
            },
            at_ms: event.at_ms,
        });
    }
}
