//! The GitHub Actions language, without I/O: workflow files, expressions, triggers, plans.
