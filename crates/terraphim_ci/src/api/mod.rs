//! The HTTP API of a VM host, `tci serve`.
//!
//! The server keeps nothing in memory that matters: VMs are in the registry, executions are with their supervisors, and
//! what was called is noted beside the VM's files ([`calls`]) before it starts. So it may be killed at any moment; the
//! next one takes up every running command ([`resume`]) and keeps its time limit.
//!
//! [`server`] is the router and the server's life, [`connections`] and [`stall`] bound what clients may keep waiting, [`auth`]
//! lets in, and every group of calls has a file.

mod auth;
mod body;
mod calls;
mod connections;
mod error;
mod execute;
mod files;
mod history;
mod issuer;
mod openapi;
mod resume;
mod running;
mod secret;
mod server;
mod settings;
mod snapshots;
mod stall;
mod state;
mod stream;
mod tokens;
mod vms;

pub(crate) use auth::{Claims, sign};
pub(crate) use secret::Secret;
pub(crate) use server::serve;
pub(crate) use settings::Settings;
pub(crate) use state::Api;
pub(crate) use tokens::{TokenRecord, Tokens};
