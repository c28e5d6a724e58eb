//! Runs of workflow files in real virtual machines, by the program as a user starts it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod behaviours;
mod flags;
mod flow;
mod host;
mod hostile;
mod limits;
mod output;
mod private;
mod records;
mod refusals;
mod signals;
mod tree;
mod vm;
