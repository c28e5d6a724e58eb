//! Control groups, by which a host limits what a hypervisor takes.
//!
//! A VM with limits has a group of its own, made before its hypervisor starts and removed after it has ended. Version 2
//! is used where the host has the controller there, else version 1. Which directories a VM has is noted beside it
//! before they are made, so that whoever finds a dead supervisor can remove them.

mod group;
mod place;

pub use group::{LimitsReport, limits_support};

pub(crate) use group::{Group, remove_left};
