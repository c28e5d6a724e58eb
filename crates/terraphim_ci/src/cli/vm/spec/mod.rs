//! What a VM is to be, from files and flags: every value knows where it was said, and all mistakes are told at once.
//!
//! [`tree`] reads TOML and YAML into one shape, [`draft`] takes values from it and from flags, later ones over earlier
//! ones, and makes the definition.

mod draft;
mod tree;

pub(super) use draft::Draft;
