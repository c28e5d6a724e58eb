//! What a VM's supervisor and the agent inside it say to each other, without I/O.
//!
//! [`handshake`] opens a connection, [`call`] names the HTTP/2 calls that follow, [`message`] holds their JSON
//! bodies, [`frame`] is the codec of the two bodies of `POST /v1/exec`.

pub mod call;
pub mod frame;
pub mod handshake;
pub mod message;

/// The generation of the protocol, raised whenever an old peer would misunderstand a new one.
///
/// Both sides say theirs in the handshake; a supervisor refuses an agent of another generation.
pub const GENERATION: u32 = 1;

/// The name of the virtio-serial port that carries the agent's connection.
pub const AGENT_PORT: &str = "tci.agent";
