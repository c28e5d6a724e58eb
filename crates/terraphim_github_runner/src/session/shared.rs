//! What a manager shares with the tasks that allocate, watch and release.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::block_in_place;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::manager::{VmProvider, call_provider};
use super::table::{Asked, Progress, Release, Table};
use super::types::{Session, SessionManagerConfig, SessionState};
use crate::error::{GitHubRunnerError, Result, chain};
use crate::models::SessionId;

/// A `drop` blocks its thread for no longer than this. Stopping a VM takes a few seconds, and all stop at once.
const IN_DROP_LIMIT: Duration = Duration::from_secs(30);

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
                    Err(release) => Arc::clone(&self).give_back(release, LastTry(false)).await,
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
            self.spawn(Arc::clone(self).give_back(release, LastTry(false)));
        }
    }

    /// Gives the VM of a session back and waits until it is gone.
    pub(super) async fn release(self: &Arc<Self>, id: &SessionId) -> Result<()> {
        let mut progress = {
            let mut table = self.table();
            let progress = table.progress(id);
            match table.ask_release(id) {
                Asked::Begin(release) => {
                    self.spawn(Arc::clone(self).give_back(release, LastTry(false)));
                }
                Asked::Underway => {}
                Asked::Gone => return Ok(()),
                Asked::Unknown => return Err(GitHubRunnerError::SessionNotFound { session_id: id.clone() }),
            }
            progress.ok_or_else(|| GitHubRunnerError::SessionNotFound { session_id: id.clone() })?
        };
        let ended = progress.wait_for(Progress::is_over).await;
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
    fn give_back(
        self: Arc<Self>,
        release: Release,
        last_try: LastTry,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Made here, so that it also guards a task that is dropped before it ran at all.
        let unfinished = Unfinished { shared: Arc::clone(&self), release: Some(release), last_try };
        self.give_back_guarded(unfinished)
    }

    async fn give_back_guarded(self: Arc<Self>, mut unfinished: Unfinished) {
        let Some(Release { id, vm_id, .. }) = &unfinished.release else { return };
        let (id, vm_id) = (id.clone(), vm_id.clone());
        let started = Instant::now();
        let call = AssertUnwindSafe(self.provider.release(&vm_id)).catch_unwind().await;
        let Some(release) = unfinished.release.take() else { return };
        match call.unwrap_or(Err(GitHubRunnerError::Panicked { task: "the provider's release" })) {
            Ok(()) => {
                let took = started.elapsed().as_millis();
                info!(
                    session.id = %id, vm.id = vm_id, duration_ms = took,
                    "released VM {vm_id} of session {id} in {took} ms"
                );
                self.table().released(&id);
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

    /// Runs a release as a task, or, in a `drop` outside of any runtime, here and now.
    fn spawn(&self, release: impl Future<Output = ()> + Send + 'static) {
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(release)),
            Err(_) => run_on_a_thread(release),
        }
    }

    /// Gives all these VMs back before it returns: after the manager nobody is left to do it, and the runtime
    /// may end next.
    pub(super) fn release_in_drop(self: &Arc<Self>, ids: &[SessionId]) {
        let (mut begun, mut underway) = (Vec::new(), Vec::new());
        for id in ids {
            let mut table = self.table();
            let progress = table.progress(id);
            match table.ask_release(id) {
                Asked::Begin(release) => begun.push(Arc::clone(self).give_back(release, LastTry(true))),
                Asked::Underway => underway.extend(progress),
                Asked::Gone | Asked::Unknown => {}
            }
        }
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if !matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            // The tasks that are at it need the very thread that would wait for them here.
            underway.clear();
        }
        if begun.is_empty() && underway.is_empty() {
            return;
        }
        let must_yield = !underway.is_empty();
        let wait = move || {
            run_on_a_thread(async {
                let ended = underway.into_iter().map(|mut progress| async move {
                    drop(progress.wait_for(Progress::is_over).await);
                });
                futures_util::join!(join_all(begun), join_all(ended));
            });
        };
        if must_yield { block_in_place(wait) } else { wait() }
    }
}

/// Whether nobody comes after to try again.
#[derive(Clone, Copy)]
struct LastTry(bool);

/// A release that its task may not finish: a runtime that ends drops its tasks.
struct Unfinished {
    shared: Arc<Shared>,
    release: Option<Release>,
    last_try: LastTry,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(release) = self.release.take() else { return };
        let shared = &self.shared;
        if self.last_try.0 {
            warn!(session.id = %release.id, vm.id = release.vm_id, "VM {} may be left", release.vm_id);
        } else if shared.table().is_closed() {
            run_on_a_thread(Arc::clone(shared).give_back(release, LastTry(true)));
        } else {
            let interrupted = GitHubRunnerError::Interrupted { task: "the release" };
            shared.table().not_released(release, Arc::new(interrupted), Instant::now());
            shared.wake.notify_one();
        }
    }
}

/// Runs a future to its end on a runtime of its own, and waits for it.
fn run_on_a_thread(future: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let limited = async { tokio::time::timeout(IN_DROP_LIMIT, future).await };
        runtime.block_on(limited).map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("cannot release all VMs: {error}"),
        Err(_) => warn!("releasing VMs panicked"),
    }
}
