//! Guards that end a session whatever happens to the code that holds them.

use std::sync::Arc;

use tracing::debug;

use super::shared::Shared;
use super::types::{Session, SessionState};
use crate::error::Result;
use crate::models::{SessionId, SnapshotId};

/// A session that its holder will end. Dropping it, also by a panic or a cancelled future, ends the session as
/// failed.
#[must_use = "dropping the lease ends the session"]
pub struct SessionLease {
    shared: Arc<Shared>,
    session: Session,
    is_finished: bool,
}

impl SessionLease {
    pub(super) fn new(shared: &Arc<Shared>, session: Session) -> Self {
        shared.table().lease(&session.id);
        SessionLease { shared: Arc::clone(shared), session, is_finished: false }
    }

    /// The session as it was opened: its id and its VM.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sets the state of the session.
    ///
    /// # Errors
    /// When the session is over, because someone released it.
    pub fn enter(&self, state: SessionState) -> Result<()> {
        self.shared.table().change(&self.session.id, state)
    }

    /// Notes a snapshot of the VM.
    ///
    /// # Errors
    /// When the session is over, because someone released it.
    pub fn add_snapshot(&self, snapshot: SnapshotId) -> Result<()> {
        self.shared.table().add_snapshot(&self.session.id, snapshot)
    }

    /// Ends the session. With a linger time of zero this waits until the VM is gone.
    ///
    /// # Errors
    /// When the VM could not be given back; that is tried again by itself.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release.
    pub async fn finish(mut self, success: bool) -> Result<()> {
        self.end(if success { SessionState::Completed } else { SessionState::Failed });
        if self.shared.config.completed_linger.is_zero() {
            self.shared.release(&self.session.id).await?;
        }
        Ok(())
    }

    fn end(&mut self, state: SessionState) {
        if !std::mem::replace(&mut self.is_finished, true)
            && let Err(error) = self.shared.finish(&self.session.id, state)
        {
            debug!(session.id = %self.session.id, "{error}");
        }
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        self.end(SessionState::Failed);
    }
}

/// A session whose creator still waits for it. Dropping it gives the session up.
pub(super) struct Pending<'a> {
    shared: &'a Arc<Shared>,
    id: Option<SessionId>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, id: &SessionId) -> Self {
        Pending { shared, id: Some(id.clone()) }
    }

    pub(super) fn disarm(mut self) {
        self.id = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shared.start_release(&id);
        }
    }
}
