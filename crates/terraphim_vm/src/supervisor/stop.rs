//! The stop ladder: ask the guest, ask the hypervisor, terminate it, kill it.

use std::{os::fd::OwnedFd, process::Child, time::Duration};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use crate::{ProcessId, agent::AgentClient, driver::qmp::Qmp};

/// How a VM is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOptions {
    /// How long the guest gets to shut down. Zero: the guest is not asked.
    pub grace: Duration,
}

/// Long enough for the guest's processes to see `SIGTERM` and for its file systems to be written.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Default for StopOptions {
    fn default() -> StopOptions {
        StopOptions { grace: DEFAULT_GRACE }
    }
}

/// What ended the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopStep {
    /// Nothing: it did not run.
    NotRunning,
    /// The guest shut down.
    Guest,
    /// QEMU was asked to quit.
    Quit,
    /// QEMU got `SIGTERM`.
    Terminate,
    /// QEMU got `SIGKILL`.
    Kill,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReport {
    /// Which step of the ladder worked.
    pub step: StopStep,
    /// Whether there was no room on the disk to record the end: the first command that finds some does it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unrecorded: bool,
}

impl StopReport {
    pub(crate) fn of(step: StopStep) -> StopReport {
        StopReport { step, is_unrecorded: false }
    }
}

/// QEMU quits within 5 ms on a quiet machine (measured); the rest is for a loaded one.
const QUIT_LIMIT: Duration = Duration::from_secs(2);
const TERMINATE_LIMIT: Duration = Duration::from_secs(1);

/// Climbs until `ended` is true and says which step did it.
pub(super) async fn climb(
    options: StopOptions,
    agent: Option<AgentClient>,
    qmp: Qmp,
    hypervisor: ProcessId,
    mut ended: watch::Receiver<bool>,
) -> StopStep {
    let mut over =
        async |limit: Duration| matches!(timeout(limit, ended.wait_for(|ended| *ended)).await, Ok(Ok(_)));
    if let Some(agent) = agent.filter(|_| !options.grace.is_zero()) {
        // Half for the guest's processes, half for writing back.
        let asked = agent.shutdown(options.grace / 2);
        let done = async {
            // The answer may be lost with the guest; what counts is that it ends.
            let _ = asked.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            over = over(options.grace) => if over { return StopStep::Guest },
            () = done => {}
        }
    }
    let quit = async {
        let _ = qmp.execute("quit", None, QUIT_LIMIT).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        over = over(QUIT_LIMIT) => if over { return StopStep::Quit },
        () = quit => {}
    }
    let _ = hypervisor.signal(Signal::TERM);
    if over(TERMINATE_LIMIT).await {
        return StopStep::Terminate;
    }
    let _ = hypervisor.signal(Signal::KILL);
    let _ = over(Duration::MAX).await;
    StopStep::Kill
}

/// Kills and reaps a hypervisor when the start-up that owns it is abandoned.
#[derive(Debug)]
pub(super) struct KillOnDrop {
    pub(super) process: Option<Child>,
    /// Closed by the kernel when this process is killed, which kills the hypervisor too.
    _leash: OwnedFd,
}

impl KillOnDrop {
    pub(super) fn new(process: Child, leash: OwnedFd) -> KillOnDrop {
        KillOnDrop { process: Some(process), _leash: leash }
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
