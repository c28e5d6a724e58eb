//! The program as a user meets it: what it prints, where, and how it ends. Nothing here needs a VM.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod basics;
mod check;
mod fixture;
mod learn;
mod plan;
mod refusals;
mod runs;
mod services;
mod settings;
