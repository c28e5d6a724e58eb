//! One row.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ProcessId, VmId, VmSpec};

/// Where a VM is in its life.
///
/// ```text
/// Created -> Starting -> Running -> Stopping -> Stopped
///               |           |                      |
///               v           v                      |
///            Failed      Stopped (reason)          |
///               |           |                      |
///               +-----------+----> Starting <------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Defined, never started.
    Created,
    /// Its supervisor has claimed it.
    Starting,
    /// The hypervisor runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// It ran and ended.
    Stopped,
    /// It could not be started.
    Failed,
}

impl VmState {
    pub(crate) const ALL: [VmState; 6] = [
        VmState::Created,
        VmState::Starting,
        VmState::Running,
        VmState::Stopping,
        VmState::Stopped,
        VmState::Failed,
    ];

    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VmState::Created => "created",
            VmState::Starting => "starting",
            VmState::Running => "running",
            VmState::Stopping => "stopping",
            VmState::Stopped => "stopped",
            VmState::Failed => "failed",
        }
    }

    /// Whether a supervisor must be alive in this state.
    #[must_use]
    pub fn is_owned(self) -> bool {
        matches!(self, VmState::Starting | VmState::Running | VmState::Stopping)
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody asked for it.
    Requested,
    /// The guest powered itself off.
    GuestPoweroff,
    /// The guest rebooted or panicked (QEMU reports both alike).
    GuestReset,
    /// The hypervisor was killed or failed.
    HypervisorDied,
    /// The supervisor died, and the hypervisor with it.
    SupervisorDied,
    /// The machine was restarted.
    HostRebooted,
    /// The process that the VM was started for ended.
    OwnerDied,
    /// It could not be started.
    StartFailed,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEnd {
    /// Why.
    pub reason: EndReason,
    /// The hypervisor's exit code, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the hypervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// More, for people: the step of the stop ladder that worked, the end of the hypervisor's output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl VmEnd {
    /// An end that is known by its reason only.
    #[must_use]
    pub fn of(reason: EndReason) -> VmEnd {
        VmEnd { reason, exit_code: None, signal: None, detail: String::new() }
    }
}

/// One VM as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its definition.
    pub spec: VmSpec,
    /// Its state as last written.
    pub state: VmState,
    /// The supervisor of the newest start.
    pub supervisor: Option<ProcessId>,
    /// Its hypervisor.
    pub hypervisor: Option<ProcessId>,
    /// The control socket.
    pub socket: Option<PathBuf>,
    /// The process the VM was started for; when it ends, the VM is removed.
    pub owner: Option<ProcessId>,
    /// How it ended last.
    pub end: Option<VmEnd>,
    /// Number of starts so far; every start has its own.
    pub epoch: i64,
    /// When it was defined, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When the row was last written, likewise.
    pub updated_at_ms: i64,
}

impl VmRecord {
    /// Whether the row says that a supervisor has the VM although that process has ended.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.state.is_owned() && !self.supervisor.as_ref().is_some_and(ProcessId::is_alive)
    }

    /// The state as it really is: a row that nobody has repaired yet reads as stopped.
    #[must_use]
    pub fn effective_state(&self) -> VmState {
        if self.is_stale() { VmState::Stopped } else { self.state }
    }
}
