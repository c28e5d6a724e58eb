//! The last values of something that is measured: medians, and what is out of the ordinary.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many values are kept.
const KEPT: usize = 63;
/// With fewer values nothing is called out of the ordinary: the false-alarm rate would be above 1 in 20.
const NEEDED: usize = 19;
/// A difference below this factor interests nobody, however unusual it is.
const FACTOR: u64 = 2;

/// The last values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window {
    values: VecDeque<u64>,
}

/// What was out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// It took much longer than before.
    Slow,
    /// It wrote much more than before.
    MuchOutput,
    /// It wrote much less than before: perhaps it did less.
    LittleOutput,
}

/// Something out of the ordinary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// What.
    pub kind: AnomalyKind,
    /// The canonical command.
    pub command: String,
    /// What was measured: milliseconds or lines.
    pub value: u64,
    /// What is usual: the median.
    pub median: u64,
    /// How many values it is compared with.
    pub compared: usize,
    /// How often an alarm like this comes although nothing changed, at most: 1 / (compared + 1).
    pub false_alarm_rate: f64,
}

impl Window {
    /// Adds a value; the oldest goes when there are more than 63.
    pub fn add(&mut self, value: u64) {
        if self.values.len() >= KEPT {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value below which this share (0 to 1) of the values lies.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let mut sorted: Vec<u64> = self.values.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        #[expect(clippy::cast_precision_loss, reason = "at most 63")]
        let at = share.clamp(0.0, 1.0) * last as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=62")]
        sorted.get(at.round() as usize).copied()
    }

    /// The middle value.
    #[must_use]
    pub fn median(&self) -> Option<u64> {
        self.quantile(0.5)
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.values.iter().max().copied()
    }

    /// Whether a new value is larger than every one before and at least twice the median.
    ///
    /// If nothing changed, the new value is the largest of `n + 1` in one of `n + 1` cases (conformal prediction,
    /// Vovk et al. 2005): that is the false-alarm rate, whatever the distribution.
    pub(super) fn is_unusually_large(&self, value: u64) -> Option<u64> {
        let median = self.median().filter(|_| self.len() >= NEEDED)?;
        (Some(value) > self.max() && value >= FACTOR.saturating_mul(median) && value > 0).then_some(median)
    }

    /// The same for values that are smaller than every one before and at most half the median.
    pub(super) fn is_unusually_small(&self, value: u64) -> Option<u64> {
        let median = self.median().filter(|_| self.len() >= NEEDED)?;
        let min = self.values.iter().min().copied();
        (Some(value) < min && value.saturating_mul(FACTOR) <= median).then_some(median)
    }

    pub(super) fn anomaly(&self, kind: AnomalyKind, command: &str, value: u64, median: u64) -> Anomaly {
        #[expect(clippy::cast_precision_loss, reason = "at most 63")]
        let false_alarm_rate = 1.0 / (self.len() as f64 + 1.0);
        Anomaly { kind, command: command.to_owned(), value, median, compared: self.len(), false_alarm_rate }
    }
}
