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
#[expect(dead_code, reason = "what is served is served to other tests")]
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
mod records;
mod refusals;
mod signals;
mod silent;
mod tree;
mod vm;
