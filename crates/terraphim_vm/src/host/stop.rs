//! Stopping a VM, whatever state its supervisor is in.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use tokio::time::timeout;

use super::{Host, LEAVE_LIMIT, is_full};
use crate::{
    ProcessId, Signalled, StopOptions, StopReport, StopStep, VmError, VmId, VmState,
    error::IoContext as _,
    fault::{self, Point},
    process::Role,
    registry::Claim,
};

/// What a supervisor needs on top of the grace period to climb the whole stop ladder.
const LADDER_LIMIT: Duration = Duration::from_secs(10);

/// What a supervisor made of being asked to stop.
enum Asked {
    /// It did, and said how.
    Answered(StopReport),
    /// It did not say how, and is on its way out.
    Leaving,
    /// Nothing, in time.
    Silent,
}

impl Host {
    /// Stops a VM and returns when its processes have ended. A VM that does not run is left alone; the start of one that
    /// does not run yet is abandoned. Where the disk is too full for its end to be recorded, the first command that finds
    /// room does that.
    ///
    /// # Errors
    /// There is no such VM, or its processes do not end.
    pub async fn stop(&self, id: &VmId, options: &StopOptions) -> Result<StopReport, VmError> {
        if unless_full(id, self.repair(id))? == Recorded::No {
            // Only what is seen to have ended is to be recorded as such.
            return Ok(StopReport { step: StopStep::NotRunning, is_unrecorded: true });
        }
        let record = self.record(id)?;
        let Some(supervisor) = record.supervisor.clone().filter(|_| record.state.is_owned()) else {
            return Ok(StopReport::of(StopStep::NotRunning));
        };
        fault::at(Point::CliStopAsked)?;
        if !supervisor.is_alive_as(Role::Supervisor, id) {
            return self.stop_by_database(id, record.epoch, options).await;
        }
        if record.state == VmState::Starting {
            // A supervisor takes calls once its hypervisor answers; until then it listens to the database, and to signals.
            let claim = Claim { id: id.clone(), epoch: record.epoch };
            match self.write()?.request_stop(&claim) {
                Err(error) if error.is_full() => {
                    supervisor.signal(Signal::TERM).io("signal", Path::new("/proc"))?;
                }
                requested => requested?,
            }
        }
        let report = self.ask_to_stop(id, &supervisor, options).await?;
        fault::at(Point::CliStopAnswered)?;
        match report {
            // It is stopped or stuck: its death takes the hypervisor with it.
            Asked::Silent => {}
            Asked::Answered(report) if ended_within(&supervisor, LEAVE_LIMIT).await? => {
                if self.has_ended(id, record.epoch) {
                    return Ok(report);
                }
                // Its supervisor could not record it.
                return self.settled(id, record.epoch, report.step).await;
            }
            // It was leaving already, and closed the connection on its way out.
            Asked::Leaving if ended_within(&supervisor, LEAVE_LIMIT).await? => {
                return self.settled(id, record.epoch, StopStep::NotRunning).await;
            }
            Asked::Answered(_) | Asked::Leaving => {}
        }
        let killed = supervisor.kill_as(Role::Supervisor, id).io("kill", Path::new("/proc"))?;
        if !ended_within(&supervisor, LEAVE_LIMIT).await? {
            return Err(VmError::Stuck {
                id: id.clone(),
                detail: "its supervisor cannot be killed".to_owned(),
            });
        }
        let step = if killed == Signalled::Sent { StopStep::Kill } else { StopStep::NotRunning };
        self.settled(id, record.epoch, step).await
    }

    /// The row names no supervisor of this VM, yet somebody has its lock: a keeper that is about to record an end, or a
    /// supervisor whose row was tampered with. Both read the database.
    async fn stop_by_database(
        &self,
        id: &VmId,
        epoch: i64,
        options: &StopOptions,
    ) -> Result<StopReport, VmError> {
        self.write()?.request_stop(&Claim { id: id.clone(), epoch })?;
        // A supervisor gives the guest its usual time: only the calls on its socket can ask for less.
        let limit = options.grace.max(StopOptions::default().grace) + LADDER_LIMIT;
        if self.lock_unless_removed(id, limit).await?.is_none() {
            return Ok(StopReport::of(StopStep::NotRunning));
        }
        self.settled(id, epoch, StopStep::NotRunning).await
    }

    /// Asks the supervisor through its socket, or by a signal when that is gone.
    async fn ask_to_stop(
        &self,
        id: &VmId,
        supervisor: &ProcessId,
        options: &StopOptions,
    ) -> Result<Asked, VmError> {
        let Ok(client) = self.client(id) else { return Ok(Asked::Leaving) };
        match timeout(options.grace + LADDER_LIMIT, client.stop(options)).await {
            Ok(Ok(report)) => Ok(Asked::Answered(report)),
            Ok(Err(VmError::Unreachable { .. })) if supervisor.is_alive_as(Role::Supervisor, id) => {
                supervisor.signal(Signal::TERM).io("signal", Path::new("/proc"))?;
                Ok(Asked::Leaving)
            }
            Ok(Err(_)) => Ok(Asked::Leaving),
            Err(_) => Ok(Asked::Silent),
        }
    }

    /// Whether this start of the VM is over, as far as the registry knows.
    fn has_ended(&self, id: &VmId, epoch: i64) -> bool {
        !matches!(self.record(id), Ok(row) if row.epoch == epoch && row.state.is_owned())
    }

    /// The report of a stop after which the end of the supervisor is recorded, if there is room.
    async fn settled(&self, id: &VmId, epoch: i64, step: StopStep) -> Result<StopReport, VmError> {
        let recorded = unless_full(id, self.settle(id, epoch).await)?;
        Ok(StopReport { step, is_unrecorded: recorded == Recorded::No })
    }

    /// Waits until the end of a killed supervisor is recorded: by its keeper, who has the lock, or by us.
    async fn settle(&self, id: &VmId, epoch: i64) -> Result<(), VmError> {
        loop {
            self.repair(id)?;
            if self.has_ended(id, epoch) {
                return Ok(());
            }
            if self.lock_unless_removed(id, LEAVE_LIMIT).await?.is_none() {
                return Ok(());
            }
        }
    }
}

async fn ended_within(process: &ProcessId, limit: Duration) -> Result<bool, VmError> {
    let Some(pidfd) = process.open().io("watch", Path::new("/proc"))? else { return Ok(true) };
    let pidfd = crate::watch::watched(pidfd).io("watch", Path::new("/proc"))?;
    Ok(timeout(limit, pidfd.readable()).await.is_ok())
}

/// Whether the registry says how a VM that has ended did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    Yes,
    No,
}

/// A VM that has ended has ended, also when there is no room to record it.
fn unless_full(id: &VmId, recorded: Result<(), VmError>) -> Result<Recorded, VmError> {
    match recorded {
        Err(error) if is_full(&error) => {
            // The report says so: whoever asked for the stop tells of it.
            tracing::info!("VM {id} has ended, which cannot be recorded: {error}");
            Ok(Recorded::No)
        }
        recorded => recorded.map(|()| Recorded::Yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryError;

    #[test]
    fn a_full_disk_does_not_make_a_stop_fail() {
        let id = VmId::random();
        let failed = |code| {
            let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            Err(VmError::Registry(RegistryError::Database { path: "vms.db".into(), source }))
        };
        assert_eq!(unless_full(&id, Ok(())).unwrap(), Recorded::Yes);
        assert_eq!(unless_full(&id, failed(rusqlite::ffi::SQLITE_FULL)).unwrap(), Recorded::No);
        unless_full(&id, failed(rusqlite::ffi::SQLITE_CORRUPT)).unwrap_err();
    }
}
