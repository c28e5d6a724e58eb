//! Releases what is due: sessions that lingered long enough, stale ones, and releases to try again.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::shared::Shared;

/// The loop of the reaper. The manager ends it.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let next = shared.reap();
        let deadline = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = deadline => {}
        }
    }
}

impl Shared {
    /// Starts what is due and says when the next will be.
    fn reap(self: &Arc<Self>) -> Option<Instant> {
        let stale_after = self.stale_after();
        let due = self.table().due(Instant::now(), stale_after);
        for id in &due {
            debug!(session.id = %id, "the VM of session {id} is due");
            self.start_release(id);
        }
        self.table().next_deadline(stale_after)
    }

    /// How long a session may be idle that nobody holds; `None` when stale sessions stay.
    fn stale_after(&self) -> Option<Duration> {
        self.config.auto_cleanup.then_some(self.config.session_timeout)
    }
}
