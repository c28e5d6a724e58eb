//! The host's end of the connection to the agent in a guest: a nonce handshake, then HTTP/2, the host being the client.

mod client;
mod error;
mod exec;
mod forward;

pub use client::AgentClient;
pub use error::AgentError;
pub use exec::{AgentExec, AgentInput};
pub use forward::{AgentConnection, AgentForward};
