//! Gives each run its VM, and takes every VM back exactly once.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::http_provider::{HostSettings, HttpVmProvider};
use super::lease::{Pending, SessionLease};
use super::reaper;
use super::shared::Shared;
use super::trace::SessionTrace;
use super::types::{AtLimit, Session, SessionManagerConfig, SessionState, SessionStats};
use crate::error::{GitHubRunnerError, Result};
use crate::models::{SessionId, SnapshotId, WorkflowContext};

/// Gives and takes VMs.
///
/// Neither future is ever dropped before its end, as long as the runtime lives.
#[async_trait]
pub trait VmProvider: Send + Sync {
    /// Gives a VM that is ready to run commands: its id, and how long it took to get it.
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)>;

    /// Takes a VM back; nothing of it remains. A VM that is gone already is no error.
    async fn release(&self, vm_id: &str) -> Result<()>;
}

/// Gives each run its VM.
///
/// End it with [`shutdown`](Self::shutdown). Dropping it instead also releases all VMs, but blocks its thread
/// meanwhile (for half a minute at most).
pub struct SessionManager {
    shared: Arc<Shared>,
    /// The task that releases what is due; started with the first session, because that is in a runtime.
    reaper: Mutex<Option<AbortHandle>>,
}

impl SessionManager {
    /// A manager of VMs on the VM host that `FIRECRACKER_API_URL`, `FIRECRACKER_AUTH_TOKEN` and
    /// `FIRECRACKER_VM_TYPE` name.
    ///
    /// An address that cannot be used shows when the first session is created.
    #[must_use]
    pub fn new(config: SessionManagerConfig) -> Self {
        SessionManager::on_host(HostSettings::from_env(), config)
    }

    pub(super) fn on_host(host: HostSettings, mut config: SessionManagerConfig) -> Self {
        if let Some(vm_type) = &host.vm_type {
            config.default_vm_type.clone_from(vm_type);
        }
        SessionManager::with_provider(Arc::new(HttpVmProvider::new(&host)), config)
    }

    /// A manager of VMs from `provider`.
    #[must_use]
    pub fn with_provider(provider: Arc<dyn VmProvider>, config: SessionManagerConfig) -> Self {
        SessionManager { shared: Arc::new(Shared::new(provider, config)), reaper: Mutex::default() }
    }

    /// Gets a VM for a run. Must be called in a tokio runtime with time.
    ///
    /// The caller has to end the session, with [`release_session`](Self::release_session) or by setting its
    /// state to `Completed` or `Failed`. [`open`](Self::open) does that by itself.
    ///
    /// # Errors
    /// When all sessions are in use, the run has a session already, the provider fails or takes too long, or
    /// the manager is shut down.
    ///
    /// # Cancel safety
    /// Dropping the future releases the VM as soon as it is there.
    pub async fn create_session(&self, context: &WorkflowContext) -> Result<Session> {
        self.create_session_of(context, &self.shared.config.default_vm_type).await
    }

    /// Like [`create_session`](Self::create_session), with a VM of this type.
    async fn create_session_of(&self, context: &WorkflowContext, vm_type: &str) -> Result<Session> {
        let work = self.place_at_work().await?;
        let id = context.session_id.clone();
        let abandoned = self.shared.table().begin(&id, work)?;
        let pending = Pending::new(&self.shared, &id);
        self.ensure_reaper();

        let vm_type = vm_type.to_owned();
        let limit = self.shared.config.allocation_timeout;
        let (reply, answer) = oneshot::channel();
        tokio::spawn(Arc::clone(&self.shared).allocate(id, vm_type.clone(), abandoned, reply));
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => {
                let session = result?;
                pending.disarm();
                Ok(session)
            }
            // The task ended without an answer: the manager was shut down, or the session released meanwhile.
            Ok(Err(_)) if self.shared.work.is_closed() => Err(GitHubRunnerError::ShutDown),
            Ok(Err(_)) => Err(GitHubRunnerError::SessionOver { session_id: context.session_id.clone() }),
            Err(_) => Err(GitHubRunnerError::AllocationTimedOut { vm_type, after: limit }),
        }
    }

    /// Like [`create_session`](Self::create_session), with a guard that ends the session in any case.
    ///
    /// # Errors
    /// As [`create_session`](Self::create_session).
    pub async fn open(&self, context: &WorkflowContext) -> Result<SessionLease> {
        self.open_of(context, &self.shared.config.default_vm_type).await
    }

    /// Like [`open`](Self::open), with a VM of this type instead of the default one.
    ///
    /// # Errors
    /// As [`create_session`](Self::create_session).
    pub async fn open_of(&self, context: &WorkflowContext, vm_type: &str) -> Result<SessionLease> {
        let session = self.create_session_of(context, vm_type).await?;
        Ok(SessionLease::new(&self.shared, session))
    }

    async fn place_at_work(&self) -> Result<OwnedSemaphorePermit> {
        let work = Arc::clone(&self.shared.work);
        let place = match self.shared.config.at_limit {
            AtLimit::Refuse => work.try_acquire_owned().ok(),
            AtLimit::Queue => work.acquire_owned().await.ok(),
        };
        place.ok_or_else(|| {
            if self.shared.work.is_closed() {
                GitHubRunnerError::ShutDown
            } else {
                GitHubRunnerError::SessionLimit { limit: self.shared.config.max_concurrent_sessions }
            }
        })
    }

    fn ensure_reaper(&self) {
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if reaper.as_ref().is_none_or(AbortHandle::is_finished) {
            *reaper = Some(tokio::spawn(reaper::run(Arc::clone(&self.shared))).abort_handle());
        }
    }

    /// Gives a session's VM back, whatever its state, and waits until it is gone. May be repeated.
    ///
    /// # Errors
    /// When there never was such a session (or it ended more than a thousand sessions ago), or the provider
    /// fails; then the release is tried again by itself.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release.
    pub async fn release_session(&self, id: &SessionId) -> Result<()> {
        self.shared.release(id).await
    }

    /// The session as it is now; `None` while it has no VM and when it is gone.
    #[must_use]
    pub fn get_session(&self, id: &SessionId) -> Option<Session> {
        self.shared.table().get(id).cloned()
    }

    /// What a session went through; also of the latest sessions that are gone.
    #[must_use]
    pub fn session_trace(&self, id: &SessionId) -> Option<SessionTrace> {
        self.shared.table().trace(id).cloned()
    }

    /// Sets the state of a session. `Completed` and `Failed` end it: it no longer counts against the limit, and
    /// its VM goes after the linger time. `Terminating` releases it.
    ///
    /// # Errors
    /// When there is no such session, or it is over.
    pub fn update_session_state(&self, id: &SessionId, state: SessionState) -> Result<()> {
        match state {
            SessionState::Completed | SessionState::Failed => self.shared.finish(id, state),
            SessionState::Terminating => {
                self.shared.table().change(id, state)?;
                self.shared.start_release(id);
                Ok(())
            }
            _ => self.shared.table().change(id, state),
        }
    }

    /// Notes a snapshot of a session's VM.
    ///
    /// # Errors
    /// When there is no such session, or it is over.
    pub fn add_snapshot(&self, id: &SessionId, snapshot: SnapshotId) -> Result<()> {
        self.shared.table().add_snapshot(id, snapshot)
    }

    /// The newest snapshot of a session's VM.
    #[must_use]
    pub fn get_last_snapshot(&self, id: &SessionId) -> Option<SnapshotId> {
        self.shared.table().get(id).and_then(|session| session.snapshots.last().cloned())
    }

    /// How many sessions count against the limit: those at work, and those that wait for their VM.
    #[must_use]
    pub fn active_session_count(&self) -> usize {
        self.shared.table().at_work_ids().count()
    }

    /// The ids of the sessions that count against the limit, in no order.
    #[must_use]
    pub fn active_session_ids(&self) -> Vec<SessionId> {
        self.shared.table().at_work_ids().cloned().collect()
    }

    /// Releases the sessions that nobody holds and that were idle for `session_timeout`; returns how many.
    ///
    /// With `auto_cleanup` this happens by itself.
    ///
    /// # Errors
    /// The first failed release; the others were tried too.
    pub async fn cleanup_stale_sessions(&self) -> Result<usize> {
        let stale = self.shared.table().stale(Instant::now(), self.shared.config.session_timeout);
        self.release_all(&stale).await?;
        Ok(stale.len())
    }

    /// Refuses new sessions, and releases all VMs, also those that are being allocated. May be repeated.
    ///
    /// # Errors
    /// The first failed release; the others were tried too.
    pub async fn shutdown(&self) -> Result<()> {
        self.shared.work.close();
        let all = self.shared.table().close();
        self.release_all(&all).await
    }

    async fn release_all(&self, ids: &[SessionId]) -> Result<()> {
        let releases = join_all(ids.iter().map(|id| self.shared.release(id))).await;
        releases.into_iter().collect()
    }

    /// How many sessions there are, by state.
    #[must_use]
    pub fn get_stats(&self) -> SessionStats {
        self.shared.table().stats()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &SessionManagerConfig {
        &self.shared.config
    }
}

impl Drop for SessionManager {
    fn drop(&mut self) {
        if let Some(reaper) = self.reaper.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            reaper.abort();
        }
        self.shared.work.close();
        let all = self.shared.table().close();
        self.shared.release_in_drop(&all);
    }
}

/// Calls the provider. Only creating a session leads here: one VM per session.
pub(super) async fn call_provider(provider: &dyn VmProvider, vm_type: &str) -> Result<(String, Duration)> {
    match AssertUnwindSafe(provider.allocate(vm_type)).catch_unwind().await {
        Ok(Err(error)) => {
            Err(GitHubRunnerError::Allocation { vm_type: vm_type.to_owned(), source: Box::new(error) })
        }
        Ok(ok) => ok,
        Err(_) => Err(GitHubRunnerError::Panicked { task: "the provider's allocation" }),
    }
}
