//! When to try again, and when to give up.

use std::future::Future;
use std::time::Duration;

use tracing::debug;

use super::error::HttpError;
use crate::error::chain;

/// Attempts with growing pauses between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// How often to try in all.
    pub(crate) attempts: u32,
    /// The pause after the first attempt; each further one is twice as long.
    pub(crate) first_pause: Duration,
    /// No pause is longer, whatever the service asks for.
    pub(crate) longest_pause: Duration,
}

impl Default for Backoff {
    /// Rides out the restart of a service (1.5 s in all), and no more: the caller's time runs.
    fn default() -> Self {
        Backoff {
            attempts: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// Calls until it succeeds, `again` says no, or the attempts are used up.
    pub(crate) async fn run<T, F: Future<Output = Result<T, HttpError>>>(
        self,
        again: fn(&HttpError) -> bool,
        mut call: impl FnMut() -> F,
    ) -> Result<T, HttpError> {
        let mut attempt = 1;
        loop {
            match call().await {
                Err(error) if attempt < self.attempts && again(&error) => {
                    let pause = self.pause(attempt, error.retry_after());
                    debug!(attempt, pause_ms = pause.as_millis(), "trying again: {}", chain(&error));
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn pause(self, attempt: u32, asked_for: Option<Duration>) -> Duration {
        let doubled = self.first_pause.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        // A quarter of jitter, so that clients that failed together do not come back together.
        let jitter = f64::from(u8::try_from(uuid::Uuid::new_v4().as_u128() & 0x3f).unwrap_or(0)) / 256.0;
        let pause = doubled.min(self.longest_pause).mul_f64(1.0 + jitter);
        asked_for.map_or(pause, |asked| pause.max(asked)).min(self.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> HttpError {
        HttpError::Connect { url: "http://x".into(), source: "refused".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_tries_as_often_as_it_may_and_pauses_longer_each_time() {
        let mut calls = Vec::new();
        let result = Backoff::default()
            .run(HttpError::surely_did_not_start, || {
                calls.push(tokio::time::Instant::now());
                std::future::ready(Err::<(), _>(refused()))
            })
            .await;
        assert!(matches!(result, Err(HttpError::Connect { .. })));
        let pauses: Vec<_> = calls.windows(2).map(|w| w[1] - w[0]).collect();
        assert_eq!(pauses.len(), 4);
        assert!(pauses.windows(2).all(|w| w[0] < w[1]), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_happened_is_not_repeated() {
        let mut calls = 0;
        let result: Result<(), _> = Backoff::default()
            .run(HttpError::surely_did_not_start, || {
                calls += 1;
                std::future::ready(Err(HttpError::Broken { url: String::new(), source: "reset".into() }))
            })
            .await;
        assert!(result.is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_service_is_obeyed_but_not_for_ever() {
        let backoff = Backoff::default();
        assert!(backoff.pause(1, Some(Duration::from_secs(2))) >= Duration::from_secs(2));
        assert_eq!(backoff.pause(1, Some(Duration::from_secs(3600))), backoff.longest_pause);
        assert_eq!(backoff.pause(40, None), backoff.longest_pause);
    }
}
