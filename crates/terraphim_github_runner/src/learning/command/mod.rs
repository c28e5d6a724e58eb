//! Which command is which: `FOO=1 sudo make -j 8` and `make -j 4` are one command to learn about, `cd a && make` and
//! `cd a && rm` are two.
//!
//! A command is known at four levels, each less exact than the one before: its text, its canonical form, its tools
//! with their subcommands, its tools. What is not known about one level is taken from the next.

mod identity;
mod shell;
mod tool;

pub use identity::CommandIdentity;
pub(super) use identity::{parts, short_hash};

#[cfg(test)]
mod tests;
