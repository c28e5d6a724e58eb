//! The last step of a supervisor, whether its VM ran or did not get that far.

use super::files::VmLock;
use crate::{
    Paths, ProcessId, VmError,
    reconcile::{clear, purge},
    registry::{Claim, Registry},
};

/// Leaves what the VM keeps: nothing when its row is gone, or when it was made for one process, to anybody else of no use.
/// The lock goes last.
pub(super) fn leave(
    paths: &Paths,
    registry: &Registry,
    claim: &Claim,
    owner: Option<&ProcessId>,
    lock: VmLock,
) -> Result<(), VmError> {
    let left = match registry.get(&claim.id) {
        Ok(None) => clear(paths, registry, &claim.id),
        Ok(Some(_)) if owner.is_some() => purge(paths, registry, claim),
        Ok(Some(_)) => Ok(()),
        // Not readable is not gone: nothing is removed.
        Err(error) => Err(error.into()),
    };
    drop(lock);
    left
}
