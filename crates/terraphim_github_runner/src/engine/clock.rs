//! When a job has to end: it is cancelled, its time is up, its time after that is up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The time limits of a run. The default is what GitHub has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// What `timeout-minutes` counts in. Shorter in tests.
    pub minute: Duration,
    /// How long a job may take that says nothing, in minutes.
    pub job_minutes: u32,
    /// How long the steps of a cancelled job may take that run all the same (`if: always()`), in minutes.
    pub cancel_minutes: u32,
    /// How a step is stopped.
    pub stop: crate::workflow::StopLadder,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            minute: Duration::from_secs(60),
            // GitHub: 6 h per job and 5 min after a cancellation, docs "Workflow syntax".
            job_minutes: 360,
            cancel_minutes: 5,
            stop: crate::workflow::StopLadder::default(),
        }
    }
}

impl Timing {
    /// The time that a number of `timeout-minutes` means: cut to a whole number, none for 0 and less.
    pub(super) fn minutes(&self, minutes: f64) -> Option<Duration> {
        // Thirty days: longer than any run, short enough for every clock.
        const MOST: f64 = 43_200.0;
        let whole = minutes.trunc();
        (whole >= 1.0).then(|| self.minute.mul_f64(whole.min(MOST)))
    }
}

/// Why a job is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// It was cancelled.
    Cancelled,
    /// It ran out of time.
    TimedOut,
    /// It was to end already, and the time for that is over too.
    Over,
}

/// Watches the time of one job.
#[derive(Debug)]
pub(super) struct Clock {
    cancel: CancellationToken,
    deadline: Instant,
    grace: Duration,
    /// Why it is to end, and when the time for that is over.
    ending: Option<(Interruption, Instant)>,
    /// Ends it at once.
    kill: CancellationToken,
}

impl Clock {
    /// A job that may take `limit`, and `grace` more once it is to end.
    pub(super) fn start(cancel: CancellationToken, limit: Duration, grace: Duration) -> Clock {
        Clock {
            cancel,
            deadline: Instant::now() + limit,
            grace,
            ending: None,
            kill: CancellationToken::new(),
        }
    }

    /// The clock of something that runs beside the job: it ends with the job, and at once when `kill` is cancelled.
    pub(super) fn branch(&self, kill: CancellationToken) -> Clock {
        Clock { cancel: self.cancel.clone(), kill, ..*self }
    }

    /// The next interruption: first the reason why the job is to end, then, and from then on, `Over`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn interrupted(&mut self) -> Interruption {
        if let Some((_, over)) = self.ending {
            tokio::select! {
                () = self.kill.cancelled() => {}
                () = sleep_until(over) => {}
            }
            return Interruption::Over;
        }
        let why = tokio::select! {
            biased;
            () = self.kill.cancelled() => return Interruption::Over,
            () = self.cancel.cancelled() => Interruption::Cancelled,
            () = sleep_until(self.deadline) => Interruption::TimedOut,
        };
        self.ending = Some((why, Instant::now() + self.grace));
        why
    }

    /// The same without waiting: is there an interruption by now?
    pub(super) fn check(&mut self) -> Option<Interruption> {
        let now = Instant::now();
        if self.kill.is_cancelled() {
            return Some(Interruption::Over);
        }
        match self.ending {
            Some((_, over)) => (now >= over).then_some(Interruption::Over),
            None => {
                let cancelled = self.cancel.is_cancelled().then_some(Interruption::Cancelled);
                let why = cancelled.or_else(|| (now >= self.deadline).then_some(Interruption::TimedOut))?;
                self.ending = Some((why, now + self.grace));
                Some(why)
            }
        }
    }

    /// The longest that anything of this job may take from now on.
    pub(super) fn rest(&self) -> Duration {
        let end = self.ending.map_or(self.deadline + self.grace, |(_, over)| over);
        end.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_whole() {
        let timing = Timing::default();
        let seconds = |minutes| timing.minutes(minutes).map(|time| time.as_secs());
        assert_eq!(seconds(0.5), None);
        assert_eq!(seconds(0.0), None);
        assert_eq!(seconds(-3.0), None);
        assert_eq!(seconds(f64::NAN), None);
        assert_eq!(seconds(2.9), Some(120));
        assert_eq!(seconds(f64::INFINITY), Some(43_200 * 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_ends_by_its_limit_then_by_its_grace() {
        let (limit, grace) = (Duration::from_secs(10), Duration::from_secs(5));
        let mut clock = Clock::start(CancellationToken::new(), limit, grace);
        assert_eq!(clock.check(), None);
        let begin = Instant::now();
        assert_eq!(clock.interrupted().await, Interruption::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 10);
        assert_eq!(clock.check(), None);
        assert_eq!(clock.interrupted().await, Interruption::Over);
        assert_eq!(begin.elapsed().as_secs(), 15);
        assert_eq!(clock.check(), Some(Interruption::Over));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_comes_first() {
        let cancel = CancellationToken::new();
        let mut clock = Clock::start(cancel.clone(), Duration::from_secs(10), Duration::from_secs(5));
        cancel.cancel();
        assert_eq!(clock.check(), Some(Interruption::Cancelled));
        assert_eq!(clock.check(), None);
        assert_eq!(clock.rest(), Duration::from_secs(5));
    }
}
