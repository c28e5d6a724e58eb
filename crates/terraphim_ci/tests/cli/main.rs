//! The program as a user meets it: what it prints, where, and how it ends. Nothing here needs a VM.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod actions;
mod basics;
mod check;
mod fixture;
#[path = "../../../terraphim_github_runner/tests/support/git_server.rs"]
mod git_server;
mod learn;
mod llm;
mod model_server;
mod plan;
mod real_model;
mod refusals;
mod runs;
mod services;
mod settings;
mod tokens;
mod words;
