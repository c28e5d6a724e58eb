//! What happens to the VMs of a host, in order and without gaps.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    Host, ProcessId, VmEnd, VmError, VmId, VmRecord,
    error::IoContext as _,
    watch::{LATER_LOOKS, Watch, watched},
};

/// One change of one VM's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEvent {
    /// Its number: later events have larger ones, and none is given twice.
    pub seq: i64,
    /// Which VM.
    pub id: VmId,
    /// The VM's name, also when it was removed. Absent in what an earlier version wrote of VMs that are gone.
    pub name: Option<String>,
    /// The state that it entered, or `removed`.
    pub state: String,
    /// Which start of the VM this belongs to; 0 before the first.
    pub epoch: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How it ended, for an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<VmEnd>,
}

/// The events of a host from some point on.
pub struct Events {
    host: Host,
    changes: Watch,
    after: i64,
    waiting: VecDeque<VmEvent>,
    later: std::slice::Iter<'static, Duration>,
}

/// Read at once.
pub(crate) const BATCH: u32 = 500;
/// What somebody else needs to repair a VM.
const MOMENT: Duration = Duration::from_millis(50);

impl Events {
    pub(crate) fn open(host: &Host, after: Option<i64>) -> Result<Events, VmError> {
        let path = host.paths().registry();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).io("create", directory)?;
        }
        // Watched before the first look, so that nothing falls in between.
        let changes = Watch::new(&path)?;
        let after = match after {
            Some(after) => after,
            None => host.read()?.last_event()?,
        };
        Ok(Events { host: host.clone(), changes, after, waiting: VecDeque::new(), later: LATER_LOOKS.iter() })
    }

    /// The events that have happened by now and were not returned yet, at most some hundred; empty when there are none.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn so_far(&mut self) -> Result<Vec<VmEvent>, VmError> {
        self.look()?;
        Ok(self.waiting.drain(..).collect())
    }

    /// The next event. A supervisor that dies cannot write one; its keeper does, and where that is dead as well its VM is repaired here.
    ///
    /// # Errors
    /// The registry cannot be read.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<VmEvent, VmError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            self.look()?;
            if self.waiting.is_empty() {
                self.change().await?;
            }
        }
    }

    fn look(&mut self) -> Result<(), VmError> {
        let events = self.host.read()?.events(self.after, BATCH)?;
        self.after = events.last().map_or(self.after, |event| event.seq);
        self.waiting.extend(events);
        Ok(())
    }

    /// Returns when there may be something new.
    async fn change(&mut self) -> Result<(), VmError> {
        let path = self.host.paths().registry();
        let records = self.host.list()?;
        if records.iter().any(VmRecord::is_stale) {
            self.host.reconcile()?;
            // Somebody else may be at it, or about to start the VM anew.
            let changed = timeout(MOMENT, self.changes.changed()).await;
            return changed.map_or(Ok(()), |changed| changed.map(drop)).io("watch", &path);
        }
        let supervisors = records.iter().filter_map(|record| record.supervisor.as_ref());
        let mut ends = Vec::new();
        for pidfd in supervisors.filter_map(|supervisor| ProcessId::open(supervisor).transpose()) {
            ends.push(watched(pidfd.io("watch", &path)?).io("watch", &path)?);
        }
        let ended = async {
            let all = ends.iter().map(|end| Box::pin(end.readable()));
            match ends.is_empty() {
                true => std::future::pending().await,
                false => drop(futures_util::future::select_all(all).await),
            }
        };
        tokio::select! {
            changed = timeout(self.later.next().copied().unwrap_or(Duration::MAX), self.changes.changed()) => {
                if let Ok(changed) = changed {
                    changed.io("watch", &path)?;
                    self.later = LATER_LOOKS.iter();
                }
            }
            () = ended => {}
        }
        Ok(())
    }
}
