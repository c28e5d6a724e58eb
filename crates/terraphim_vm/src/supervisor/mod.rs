//! The process that owns one VM.
//!
//! It takes the VM's lock for its life, claims the registry row, starts the hypervisor, answers on the control socket
//! and ends when the hypervisor has ended. Nobody else writes the row meanwhile.
//!
//! [`main`] detaches and runs `start`, the straight line up to `Running`, then `run`, the one loop of the process;
//! `leave` is what both end in, and `keeper` the small process that waits for this one. `control` is the HTTP API on
//! the socket, `executions` keeps what ran in the guest (each in a place of `places`), `snapshots` sets it back, `forwards`
//! lets it out.

mod args;
mod changes;
mod control;
mod executions;
mod files;
mod forwards;
mod keeper;
mod leave;
mod lifeline;
mod main;
mod places;
mod run;
mod snapshots;
mod start;
mod stop;

pub use args::SupervisorArgs;
pub use control::{ExecutionInfo, VmStatus};
pub use forwards::ForwardTarget;
pub use main::main;
pub use snapshots::Snapshot;
pub use stop::{StopOptions, StopReport, StopStep};

pub(crate) use control::{EXEC_ID_HEADER, OUTPUT_OFFSET_QUERY, SignalRequest};
pub(crate) use files::VmLock;
pub(crate) use forwards::NewForward;
pub(crate) use lifeline::{Readiness, SUBCOMMAND};
pub(crate) use snapshots::{NewSnapshot, Rollback};
