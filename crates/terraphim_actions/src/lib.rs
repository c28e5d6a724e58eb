//! The GitHub Actions language, without I/O: workflow files, expressions, triggers, plans.

pub mod diagnostic;
pub mod expr;
pub mod span;
