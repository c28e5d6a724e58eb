//! Repository tasks: `cargo xtask arrows` and friends.
fn main() {}
