//! The engine, over an executor that runs real processes of this machine in a temporary directory.
//!
//! Nothing is isolated here, so that executor exists in these tests only.
#![expect(clippy::unwrap_used, reason = "a test may end so, and its helpers are part of it")]

mod cancel;
mod containers;
mod directories;
#[path = "../support/expected.rs"]
mod expected;
mod flow;
#[path = "../support/git_server.rs"]
mod git_server;
mod host;
mod learning;
mod remote;
mod rerun;
#[path = "../support/secret_texts.rs"]
mod secret_texts;
mod secrets;
mod services;
mod world;
