//! Gives each run its VM.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;

/// Gives and takes VMs.
#[async_trait]
pub trait VmProvider: Send + Sync {
    /// Gives a VM that is ready to run commands: its id, and how long it took to get it.
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)>;

    /// Takes a VM back; nothing of it remains. A VM that is already gone is no error.
    async fn release(&self, vm_id: &str) -> Result<()>;
}
