//! The static program that is PID 1 in every guest.
fn main() {}
