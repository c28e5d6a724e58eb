//! An observer that a run does not wait for.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, JoinHandle},
};

use super::event::{RunEvent, RunObserver};

/// Events that wait to be told; when so many wait, the run waits too. Output comes in pieces of at most some 64 KiB.
const MAX_WAITING: usize = 64;

/// How long the first event after a pause waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A few milliseconds. Most pauses end with the end of a step, and then the host has about as much work until the guest
    /// has its next one; what is told can be written down after that. What a step says does not wait: of what was shown as
    /// little as possible is missing in the log when this process is killed.
    Short,
    /// A quarter of a second, for an observer that does the better the more it is told at once and that nobody looks at
    /// meanwhile.
    Long,
}

impl Patience {
    fn duration(self) -> Duration {
        match self {
            Patience::Short => Duration::from_millis(5),
            Patience::Long => Duration::from_millis(250),
        }
    }

    fn ends_with(self, event: &RunEvent) -> bool {
        self == Patience::Short && matches!(event, RunEvent::Output { .. })
    }
}

/// Tells another observer every event in its order from a task of its own, so that a step does not wait until what was
/// before it is on the disk.
#[derive(Debug)]
pub struct QueuedObserver {
    /// Held for a look only. Empty once [settled](QueuedObserver::settle).
    queue: Mutex<Option<Queue>>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<RunEvent>,
    /// Ends all patience.
    hurry: Arc<Notify>,
    worker: JoinHandle<()>,
}

impl QueuedObserver {
    /// Begins to tell `observer`. Must be called within a runtime.
    #[must_use]
    pub fn new(observer: Arc<dyn RunObserver>, patience: Patience) -> QueuedObserver {
        let (sender, mut receiver) = mpsc::channel(MAX_WAITING);
        let hurry = Arc::new(Notify::new());
        let hurried = Arc::clone(&hurry);
        let worker = tokio::spawn(async move {
            let mut waiting = Vec::new();
            while gather(&mut receiver, &mut waiting, patience, &hurried).await {
                observer.observe_all(&waiting).await;
                waiting.clear();
            }
        });
        QueuedObserver { queue: Mutex::new(Some(Queue { sender, hurry, worker })) }
    }

    /// Returns when everything that happened was told; what happens later is not. May be called again.
    ///
    /// # Errors
    /// The observer panicked: it may not know everything.
    pub async fn settle(&self) -> Result<(), JoinError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Queue { sender, hurry, worker }) = queue else { return Ok(()) };
        drop(sender);
        hurry.notify_one();
        worker.await
    }
}

/// Waits for events; false after the last.
async fn gather(
    receiver: &mut mpsc::Receiver<RunEvent>,
    waiting: &mut Vec<RunEvent>,
    patience: Patience,
    hurry: &Notify,
) -> bool {
    if receiver.recv_many(waiting, MAX_WAITING).await == 0 {
        return false;
    }
    let over = tokio::time::sleep(patience.duration());
    tokio::pin!(over);
    while waiting.len() < MAX_WAITING && !waiting.iter().any(|event| patience.ends_with(event)) {
        tokio::select! {
            more = receiver.recv_many(waiting, MAX_WAITING) => if more == 0 { break },
            () = &mut over => break,
            () = hurry.notified() => break,
        }
    }
    true
}

#[async_trait]
impl RunObserver for QueuedObserver {
    async fn observe(&self, event: &RunEvent) {
        let sender = {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.as_ref().map(|queue| queue.sender.clone())
        };
        if let Some(sender) = sender {
            // Only a worker that panicked does not take it, which `settle` tells.
            let _ = sender.send(event.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::JobKey;
    use chrono::Utc;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    #[async_trait]
    impl RunObserver for Seen {
        async fn observe(&self, event: &RunEvent) {
            let RunEvent::Notice { message, .. } = event else { panic!("another event") };
            tokio::task::yield_now().await;
            self.0.lock().unwrap().push(message.clone());
        }
    }

    fn notice(message: String) -> RunEvent {
        RunEvent::Notice { message, at: Utc::now() }
    }

    #[tokio::test]
    async fn everything_is_told_in_order_and_a_panic_is_no_secret() {
        let seen = Arc::new(Seen::default());
        let queued = QueuedObserver::new(seen.clone(), Patience::Short);
        for n in 0..3 * MAX_WAITING {
            queued.observe(&notice(n.to_string())).await;
        }
        queued.settle().await.unwrap();
        queued.settle().await.unwrap();
        queued.observe(&notice("late".to_owned())).await;
        let told = seen.0.lock().unwrap().clone();
        assert_eq!(told, (0..3 * MAX_WAITING).map(|n| n.to_string()).collect::<Vec<_>>());

        let queued = QueuedObserver::new(seen, Patience::Long);
        queued.observe(&RunEvent::GroupEnd { job: JobKey::new("a", None), step: 1, at: Utc::now() }).await;
        assert!(queued.settle().await.unwrap_err().is_panic());
    }
}
