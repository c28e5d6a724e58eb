//! Sessions: one run's hold on one VM.
//!
//! ```text
//!                create_session                     finish            linger over, place needed,
//!  Initializing ----------------> Active, Executing, ------> Completed   release, shutdown, drop
//!   (VM is being allocated)       Paused, RolledBack         or Failed ------> Terminating ------> gone
//!        |                             |                   (VM is kept)                  ^  |
//!        | allocation failed           +---- release, stale, shutdown, drop -------------+  | release failed:
//!        +---> gone                                                                      +--+ tried again
//! ```
//!
//! To bring VMs from elsewhere, implement [`VmProvider`].

pub mod http_provider;
mod lease;
pub mod local_provider;
pub mod manager;
mod reaper;
mod shared;
mod table;
mod trace;
mod types;

pub use http_provider::HttpVmProvider;
pub use lease::SessionLease;
pub use local_provider::LocalVmProvider;
pub use manager::{SessionManager, VmProvider};
pub use trace::{SessionPhase, SessionTrace, StateChange};
pub use types::{AtLimit, Session, SessionManagerConfig, SessionState, SessionStats};
