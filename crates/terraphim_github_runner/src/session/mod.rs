//! Sessions: one run's hold on one VM.

pub mod manager;
mod types;

pub use manager::VmProvider;
pub use types::{AtLimit, Session, SessionManagerConfig, SessionState, SessionStats};
