//! The GitHub Actions language, without I/O: workflow files, expressions, triggers, plans.

pub mod diagnostic;
pub mod expr;
pub mod matrix;
mod schema;
pub mod span;
pub mod template;
pub mod workflow;
mod yaml;
