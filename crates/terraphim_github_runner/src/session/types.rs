//! What a session is, and what its manager can be told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::models::{SessionId, SnapshotId};

/// One run's hold on one VM, as it was when it was asked for.
///
/// A value of this type keeps nothing alive: the VM belongs to the
/// [`SessionManager`](super::SessionManager).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The id of the run's [`WorkflowContext`](crate::WorkflowContext).
    pub id: SessionId,
    /// The VM, by the provider's name for it.
    pub vm_id: String,
    /// The type of VM that was asked for.
    pub vm_type: String,
    /// When the VM was ready.
    pub started_at: DateTime<Utc>,
    /// Where the session is in its life.
    pub state: SessionState,
    /// Snapshots taken of the VM, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// When the session last changed or was touched.
    pub last_activity: DateTime<Utc>,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The VM is being allocated.
    Initializing,
    /// The VM is ready and nothing runs in it.
    Active,
    /// A command runs in the VM.
    Executing,
    /// The VM is paused, for instance while a snapshot is taken.
    Paused,
    /// The workflow succeeded; the VM may be kept for a while.
    Completed,
    /// The workflow failed, was cancelled or panicked; the VM may be kept for a while.
    Failed,
    /// The VM was set back to a snapshot.
    RolledBack,
    /// The VM is being given back.
    Terminating,
}

impl SessionState {
    /// Whether a session in this state is done with its work and no longer counts against the limit.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, SessionState::Completed | SessionState::Failed | SessionState::Terminating)
    }
}

/// What [`SessionManager::create_session`](super::SessionManager::create_session) does when all sessions
/// are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// It fails at once.
    #[default]
    Refuse,
    /// It waits, first come first served, until a session is over.
    Queue,
}

/// Settings of a [`SessionManager`](super::SessionManager).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionManagerConfig {
    /// The type of VM to ask for. [`SessionManager::new`](super::SessionManager::new) lets
    /// `FIRECRACKER_VM_TYPE` replace it.
    pub default_vm_type: String,
    /// A session without activity for this long, and that no executor holds, is stale.
    pub session_timeout: Duration,
    /// How many sessions may be at work, and how many VMs may exist, at the same time.
    pub max_concurrent_sessions: usize,
    /// Whether stale sessions are released by themselves.
    pub auto_cleanup: bool,
    /// How often to look for stale sessions, and how long to wait before a failed release is tried again.
    pub cleanup_interval: Duration,
    /// How long a finished session keeps its VM so that it can be looked at. The VM goes earlier when its
    /// place is needed. Zero gives it back at once.
    pub completed_linger: Duration,
    /// What to do when all sessions are in use.
    pub at_limit: AtLimit,
    /// How long to wait for a VM. A cold boot with software emulation on a busy machine takes up to a minute.
    pub allocation_timeout: Duration,
}

impl Default for SessionManagerConfig {
    fn default() -> Self {
        SessionManagerConfig {
            default_vm_type: "bionic-test".to_owned(),
            session_timeout: Duration::from_secs(3600),
            max_concurrent_sessions: 10,
            auto_cleanup: true,
            cleanup_interval: Duration::from_secs(60),
            completed_linger: Duration::from_secs(30),
            at_limit: AtLimit::Refuse,
            allocation_timeout: Duration::from_secs(300),
        }
    }
}

/// How many sessions there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStats {
    /// All sessions that hold a VM or wait for one.
    pub total_sessions: usize,
    /// Those that wait for their VM.
    pub initializing_sessions: usize,
    /// Those that are ready.
    pub active_sessions: usize,
    /// Those in which a command runs.
    pub executing_sessions: usize,
    /// Those that succeeded and keep their VM for a while.
    pub completed_sessions: usize,
    /// Those that failed or were rolled back.
    pub failed_sessions: usize,
    /// Snapshots of all of them.
    pub total_snapshots: usize,
}
