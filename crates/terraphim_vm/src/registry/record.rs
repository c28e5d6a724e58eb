//! One row.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ProcessId, VmId, VmSpec, VmState, process::Role};

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
    /// Whether the row says that a supervisor has the VM although that process has ended. A process that lives but is no
    /// supervisor of this VM counts as ended: the row is wrong about it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.state.is_owned()
            && !self
                .supervisor
                .as_ref()
                .is_some_and(|process| process.is_alive_as(Role::Supervisor, &self.id))
    }

    /// The state as it really is: a row that nobody has repaired yet reads as stopped.
    #[must_use]
    pub fn effective_state(&self) -> VmState {
        if self.is_stale() { VmState::Stopped } else { self.state }
    }
}
