//! The last outcomes of a command or test, with where they happened.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::SEPARATOR;
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
    /// A hash of where it ran: workflow, job with the leg of its matrix, step. Empty in a baseline of before it was kept.
    #[serde(rename = "p", default)]
    pub place: String,
    /// A hash of the exact text that ran; empty likewise.
    #[serde(rename = "x", default)]
    pub script: String,
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

impl Observation {
    /// The outcome of an event; a fault of the host counts as a failure of the infrastructure.
    pub(super) fn of(event: &LearningEvent, success: bool) -> Observation {
        let LearningEvent { workflow, job, step, number, .. } = event;
        let place = format!("{workflow}{SEPARATOR}{job}{SEPARATOR}{step}{SEPARATOR}{number}");
        let cause = event.signature.as_ref().map(|signature| signature.cause);
        Observation {
            commit: event.commit.clone(),
            environment: short(&event.environment),
            place: short(&place),
            script: short(&event.command),
            success,
            is_infrastructure: !success
                && (event.outcome == CommandOutcome::Fault
                    || cause.is_some_and(|cause| cause.is_infrastructure())),
            signature: match &event.signature {
                Some(signature) if !success => signature.id(),
                _ => String::new(),
            },
            at_ms: event.at_ms,
        }
    }

    /// What has to be the same for another outcome to be chance: place, text, commit and environment. `None` unless all are
    /// known.
    pub(super) fn circumstances(&self) -> Option<[&str; 4]> {
        let is_known = !self.commit.is_empty() && !self.place.is_empty();
        let all = [&self.place, &self.script, &self.commit, &self.environment];
        is_known.then_some(all.map(String::as_str))
    }
}

/// Enough to tell apart what one command comes with.
fn short(text: &str) -> String {
    short_hash(text)[..8].to_owned()
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

    /// The last outcome in the circumstances of this one.
    pub(super) fn last_like(&self, observation: &Observation) -> Option<&Observation> {
        let circumstances = observation.circumstances()?;
        self.observations.iter().rev().find(|one| one.circumstances() == Some(circumstances))
    }
}
