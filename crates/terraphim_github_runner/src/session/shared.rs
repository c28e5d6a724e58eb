//! What a manager shares with the tasks that allocate, watch and release.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::manager::{VmProvider, call_provider};
use super::table::{Asked, Progress, Release, Table};
use super::types::{Session, SessionManagerConfig, SessionState};
use crate::error::{GitHubRunnerError, Result, chain};
use crate::models::SessionId;

/// A `drop` outside of a runtime blocks its thread for no longer than this per VM. Stopping a VM takes a few
/// seconds; a supervisor that takes longer kills it.
const RELEASE_IN_DROP_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Shared {
    pub(super) provider: Arc<dyn VmProvider>,
    pub(super) config: SessionManagerConfig,
    /// One permit per session at work.
    pub(super) work: Arc<Semaphore>,
    /// One permit per VM that exists, from before its allocation until after its release.
    places: Arc<Semaphore>,
    /// A plain mutex: every section is a few map operations, and none waits.
    table: Mutex<Table>,
    /// Tells the reaper that its next deadline may have changed.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(provider: Arc<dyn VmProvider>, config: SessionManagerConfig) -> Self {
        let permits = config.max_concurrent_sessions.min(Semaphore::MAX_PERMITS);
        Shared {
            provider,
            work: Arc::new(Semaphore::new(permits)),
            places: Arc::new(Semaphore::new(permits)),
            table: Mutex::default(),
            wake: Notify::new(),
            config,
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // No section can panic half-way through a change, so a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets a VM for a session that was entered, and tells `reply`. Runs to its end even when nobody waits.
    pub(super) async fn allocate(
        self: Arc<Self>,
        id: SessionId,
        vm_type: String,
        abandoned: CancellationToken,
        reply: oneshot::Sender<Result<Session>>,
    ) {
        let place = tokio::select! {
            place = self.place() => place,
            () = abandoned.cancelled() => {
                self.table().not_allocated(&id);
                return;
            }
        };
        match call_provider(self.provider.as_ref(), &vm_type).await {
            Ok((vm_id, took)) => {
                info!(
                    session.id = %id, vm.id = vm_id, vm.r#type = vm_type, duration_ms = took.as_millis(),
                    "allocated VM {vm_id} ({vm_type}) for session {id} in {} ms", took.as_millis()
                );
                let now = Utc::now();
                let session = Session {
                    id,
                    vm_id,
                    vm_type,
                    started_at: now,
                    state: SessionState::Active,
                    snapshots: Vec::new(),
                    last_activity: now,
                };
                let entered = self.table().allocated(session.clone(), place);
                match entered {
                    // Nobody may be waiting any more; then the caller's guard has asked for the release.
                    Ok(()) => drop(reply.send(Ok(session))),
                    Err(release) => Arc::clone(&self).give_back(release).await,
                }
                self.wake.notify_one();
            }
            Err(error) => {
                self.table().not_allocated(&id);
                drop(place);
                if let Err(Err(error)) = reply.send(Err(error)) {
                    debug!(session.id = %id, "allocation failed after nobody waited for it: {}", chain(&error));
                }
            }
        }
    }

    /// A place for one more VM. When there is none, the VM that is least needed makes room.
    async fn place(self: &Arc<Self>) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return place;
        }
        let dispensable = self.table().most_dispensable();
        if let Some(id) = dispensable {
            debug!(session.id = %id, "session {id} makes room for another");
            self.start_release(&id);
        }
        Arc::clone(&self.places).acquire_owned().await.expect("this semaphore is never closed")
    }

    /// Starts giving back the VM of a session, if it has one and nobody is at it.
    pub(super) fn start_release(self: &Arc<Self>, id: &SessionId) {
        let asked = self.table().ask_release(id);
        if let Asked::Begin(release) = asked {
            self.spawn(Arc::clone(self).give_back(release));
        }
    }

    /// Gives the VM of a session back and waits until it is gone.
    pub(super) async fn release(self: &Arc<Self>, id: &SessionId) -> Result<()> {
        let mut progress = {
            let mut table = self.table();
            let progress = table.progress(id);
            match table.ask_release(id) {
                Asked::Begin(release) => {
                    self.spawn(Arc::clone(self).give_back(release));
                }
                Asked::Underway => {}
                Asked::Gone => return Ok(()),
                Asked::Unknown => return Err(GitHubRunnerError::SessionNotFound { session_id: id.clone() }),
            }
            progress.ok_or_else(|| GitHubRunnerError::SessionNotFound { session_id: id.clone() })?
        };
        let ended = progress.wait_for(|p| matches!(p, Progress::Done | Progress::Failed(_))).await;
        match ended.as_deref() {
            Ok(Progress::Failed(error)) => {
                let vm_id = self.table().get(id).map(|s| s.vm_id.clone()).unwrap_or_default();
                Err(GitHubRunnerError::Release { vm_id, source: Arc::clone(error) })
            }
            // The sender goes with the entry, and that goes when the VM is gone.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Gives one VM back. A task of its own, so that a caller who goes away does not stop it half-way.
    async fn give_back(self: Arc<Self>, release: Release) {
        let Release { id, vm_id, .. } = &release;
        let started = Instant::now();
        let call = AssertUnwindSafe(self.provider.release(vm_id)).catch_unwind().await;
        let result = call.unwrap_or(Err(GitHubRunnerError::Panicked { task: "the provider's release" }));
        match result {
            Ok(()) => {
                let took = started.elapsed().as_millis();
                info!(
                    session.id = %id, vm.id = vm_id, duration_ms = took,
                    "released VM {vm_id} of session {id} in {took} ms"
                );
                self.table().released(id);
            }
            Err(error) => {
                warn!(
                    session.id = %id, vm.id = vm_id,
                    "cannot release VM {vm_id}, will try again: {}", chain(&error)
                );
                let retry_at = Instant::now() + self.config.cleanup_interval;
                self.table().not_released(release, Arc::new(error), retry_at);
                self.wake.notify_one();
            }
        }
    }

    /// Ends a session. Its VM goes after the linger time, or, when that is zero, from now on.
    pub(super) fn finish(self: &Arc<Self>, id: &SessionId, state: SessionState) -> Result<()> {
        let linger = self.config.completed_linger;
        self.table().finish(id, state, linger)?;
        if linger.is_zero() {
            self.start_release(id);
        } else {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Runs a release, also from a `drop` outside of any runtime: then here and now.
    fn spawn(&self, release: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(release);
            return;
        }
        let on_a_thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let release = async { tokio::time::timeout(RELEASE_IN_DROP_LIMIT, release).await };
            runtime.block_on(release).map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
        });
        match on_a_thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("cannot release a VM outside of a runtime: {error}"),
            Err(_) => warn!("releasing a VM outside of a runtime panicked"),
        }
    }
}
