//! The paths of the agent's calls.

/// `GET`: answers 200 with an empty body.
pub const PING: &str = "/v1/ping";
/// `GET`: [`AgentInfo`](crate::message::AgentInfo).
pub const INFO: &str = "/v1/info";
/// `POST` [`Configure`](crate::message::Configure).
pub const CONFIGURE: &str = "/v1/configure";
/// `POST` [`View`](crate::message::View); `DELETE` `/v1/views/{name}`.
pub const VIEWS: &str = "/v1/views";
/// `POST`: see [`frame`](crate::frame).
pub const EXEC: &str = "/v1/exec";
/// `PUT` or `GET` with `?path=` (percent-encoded, absolute): a tar stream in or out.
pub const FILES: &str = "/v1/files";
/// `POST` [`Shutdown`](crate::message::Shutdown).
pub const SHUTDOWN: &str = "/v1/shutdown";
