//! Hypervisor back ends: today QEMU's microvm machine.

pub mod accelerator;
mod leash;
mod probe;
pub mod qemu;
pub mod qmp;
mod tsc;
pub mod user;
