//! The registry of a host's VMs: one SQLite database, one row per VM.
//!
//! A row is written by whoever holds the VM's lock: its supervisor for life, or a command that takes the lock to
//! repair what a dead supervisor left. Every update names the epoch it was made for, so that a late writer changes
//! nothing. Commands that only read open the database read-only.

mod history;
mod opened;
mod record;
mod row;
mod schema;
mod store;
#[cfg(test)]
mod store_tests;

pub(crate) use opened::Opened;
pub use record::{EndReason, VmEnd, VmRecord};
pub use schema::RegistryError;
pub use store::{Claim, Registry};
