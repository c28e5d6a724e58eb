//! Virtual machines: registry, supervisor, hypervisor driver, images.
//!
//! [`Host`] defines, starts, stops and lists the VMs of this machine; [`VmClient`] talks to a running one; [`Exec`]
//! follows a process in a guest. Every VM is owned by a process of its own, see [`supervisor`].

pub mod agent;
pub mod driver;
#[cfg(feature = "failpoints")]
pub mod fault;
pub mod image;
pub mod logs;
pub mod registry;
pub mod state;
pub mod supervisor;

mod cgroup;
mod client;
mod error;
mod events;
mod exec;
#[cfg(not(feature = "failpoints"))]
mod fault;
mod host;
mod id;
mod limits;
mod past;
mod paths;
mod private;
mod process;
mod reconcile;
mod spec;
mod ssh;
mod watch;

pub use terraphim_vm_protocol as protocol;

pub use cgroup::{LimitsReport, limits_support};
pub use client::{VmClient, VmForward};
pub use driver::{accelerator::Accelerator, qmp::QmpError};
pub use error::{VmError, chain};
pub use events::{Events, VmEvent};
pub use exec::{Exec, ExecEvent};
pub use host::{Host, supervisor_arguments};
pub use id::{BadVmId, VmId};
pub use limits::{Limits, QEMU_MEMORY_MIB, QEMU_THREADS};
pub use past::{Execution, ExecutionEnd};
pub use paths::Paths;
pub use private::{make_private_directory, make_private_file};
pub use process::{ProcessId, Signalled};
pub use registry::{EndReason, VmEnd, VmRecord};
pub use spec::{MAX_VCPUS, MIN_MEMORY_MIB, Mount, Network, SpecProblem, VmSpec, host_memory_mib};
pub use ssh::SshKeys;
pub use state::VmState;
pub use supervisor::{ForwardTarget, Snapshot, StopOptions, StopReport, StopStep, SupervisorArgs};
pub use watch::DirectoryWatch;
