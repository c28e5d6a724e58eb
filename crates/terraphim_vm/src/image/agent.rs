//! The guest agent that this program carries.

/// The static program that is PID 1 in every guest, built by `build.rs` together with this crate.
pub const AGENT: &[u8] = include_bytes!(env!("TERRAPHIM_VM_AGENT"));

/// Names the content of [`AGENT`], so that a start-up need not hash it.
pub(super) const AGENT_KEY: &str = env!("TERRAPHIM_VM_AGENT_KEY");
