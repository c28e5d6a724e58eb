//! The GitHub Actions language, without I/O: workflow files, expressions, triggers, plans.

pub mod action;
pub mod command;
pub mod diagnostic;
pub mod env_file;
pub mod expr;
pub mod mask;
pub mod matrix;
pub mod plan;
pub mod resolve;
mod schema;
pub mod span;
pub mod template;
pub mod trigger;
pub mod workflow;
mod yaml;
