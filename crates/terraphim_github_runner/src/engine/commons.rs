//! What all jobs of a run share, those of called workflows too: VMs and room.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::inputs::Isolation;
use super::place::{Place, open};
use super::shared::Shared;
use crate::error::Result;
use crate::session::{SessionManager, SessionState};

/// What all jobs of a run share.
pub(super) struct Commons<'a> {
    /// The jobs run one after the other, because their VM has a container engine.
    pub(super) takes_turns: bool,
    pub(super) sessions: &'a SessionManager,
    /// The type of the VM that the jobs share.
    vm_type: String,
    /// Cancels the run.
    pub(super) cancel: CancellationToken,
    /// The VM that the jobs share, once something needs it. An async lock: the second job that needs it waits for it.
    place: tokio::sync::Mutex<Option<Arc<Place>>>,
    /// One for each job that may run at the same time; first come, first served.
    slots: Semaphore,
    vm_ids: Mutex<Vec<String>>,
}

impl<'a> Commons<'a> {
    pub(super) fn new(
        shared: &Shared,
        sessions: &'a SessionManager,
        vm_type: String,
        cancel: CancellationToken,
    ) -> Commons<'a> {
        // Without views of their own, jobs would work in each other's files.
        let shares = shared.inputs.isolation == Isolation::Workflow && !shared.executor.capabilities().views;
        // Ports and paths mean the same to the engine of a VM whichever job it works for.
        let is_alone = shared.inputs.isolation == Isolation::Workflow
            && shared.inputs.vm_types.engines.contains(&vm_type);
        let room = if shares || is_alone { 1 } else { shared.inputs.parallelism.max(1) };
        Commons {
            takes_turns: is_alone,
            sessions,
            vm_type,
            cancel,
            place: tokio::sync::Mutex::default(),
            slots: Semaphore::new(room.min(Semaphore::MAX_PERMITS)),
            vm_ids: Mutex::default(),
        }
    }

    /// Waits for room for one more job; `None` if `cancel` came first.
    pub(super) async fn slot(&self, cancel: &CancellationToken) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            slot = self.slots.acquire() => slot.ok(),
        }
    }

    /// The VM that the jobs share; `None` if the run was cancelled before there was one.
    pub(super) async fn place(&self, shared: &Shared) -> Result<Option<Arc<Place>>> {
        let mut known = self.place.lock().await;
        if let Some(place) = &*known {
            return Ok(Some(Arc::clone(place)));
        }
        let place = open(shared, self.sessions, &self.vm_type, None, &self.cancel).await?.map(Arc::new);
        if let Some(place) = &place {
            let vm_id = place.session().vm_id.clone();
            self.vm_ids.lock().unwrap_or_else(PoisonError::into_inner).push(vm_id);
            place.lease.enter(SessionState::Executing)?;
        }
        known.clone_from(&place);
        Ok(place)
    }

    /// The VM that the jobs share, if there is one by now.
    pub(super) async fn known_place(&self) -> Option<Arc<Place>> {
        self.place.lock().await.clone()
    }

    /// Takes the VM that the jobs shared, to give it back.
    pub(super) async fn take_place(&self) -> Option<Arc<Place>> {
        self.place.lock().await.take()
    }

    /// The VM that the jobs shared.
    pub(super) fn vm_ids(&self) -> Vec<String> {
        self.vm_ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
