//! From how many repetitions on a failure is a lesson.
//!
//! Counters do not depend on it: they say how often each failure came again, and what is a lesson is read off them. So
//! another threshold shows other lessons at once, of everything that was ever learned, and `rebuild` computes the same.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Once is chance, twice may be.
const DEFAULT: u64 = 3;

/// How often a failure has to come before it is a lesson; 3 unless it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LessonThreshold(u64);

impl LessonThreshold {
    /// What happened once repeats nothing.
    pub const LEAST: u64 = 2;
    /// Who has seen it twenty times has no need to be told.
    pub const MOST: u64 = 20;

    /// `None` outside of [`LessonThreshold::LEAST`] to [`LessonThreshold::MOST`].
    #[must_use]
    pub fn new(failures: u64) -> Option<LessonThreshold> {
        (Self::LEAST..=Self::MOST).contains(&failures).then_some(LessonThreshold(failures))
    }

    /// How many failures.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for LessonThreshold {
    fn default() -> Self {
        LessonThreshold(DEFAULT)
    }
}

impl fmt::Display for LessonThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many failures came again so often: one number for each threshold there may be, so that the number of lessons takes
/// the same time however many failures there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Repetitions {
    /// At `n`: how many failures came `n` times or more.
    reached: Vec<u64>,
}

impl Repetitions {
    /// Counts a failure that came for the `times`-th time.
    pub(super) fn add(&mut self, times: u64) {
        let Some(at) = usize::try_from(times).ok().filter(|_| times <= LessonThreshold::MOST) else { return };
        if self.reached.len() <= at {
            self.reached.resize(at + 1, 0);
        }
        self.reached[at] += 1;
    }

    /// How many became lessons; one that was over and came back counts again.
    pub(super) fn lessons(&self, threshold: LessonThreshold) -> u64 {
        let at = usize::try_from(threshold.get()).ok();
        at.and_then(|at| self.reached.get(at)).copied().unwrap_or(0)
    }
}
