//! The program tci: a self-hosted CI for GitHub Actions workflows.
fn main() {}
