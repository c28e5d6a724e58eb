//! Runs of workflow files in real virtual machines, by the program as a user starts it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod behaviours;
mod collection;
mod containers;
#[path = "../../../terraphim_github_runner/tests/support/expected.rs"]
mod expected;
mod fix;
mod flags;
mod flow;
#[path = "../../../terraphim_github_runner/tests/support/git_server.rs"]
mod git_server;
mod host;
mod hostile;
mod identity;
mod learning;
mod limits;
#[path = "../cli/model_server.rs"]
mod model_server;
mod output;
mod private;
mod private_images;
mod records;
mod refusals;
mod registry;
mod signals;
mod silent;
mod tree;
mod vm;
