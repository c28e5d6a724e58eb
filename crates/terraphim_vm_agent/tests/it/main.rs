//! The real agent over a socket, driven by the host's own client.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, in its helper functions too; measurements are printed"
)]

#[expect(unreachable_pub, dead_code, reason = "the client's source, of which the tests use a part")]
#[path = "../../../terraphim_vm/src/agent/mod.rs"]
mod agent;
use terraphim_vm_protocol as protocol;

mod exec;
mod files;
mod flow;
mod forward;
mod guest;
mod link;
mod refusals;
mod root;
mod support;
