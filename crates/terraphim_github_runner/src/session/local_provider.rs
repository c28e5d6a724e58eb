//! VMs of this host.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use terraphim_vm::{Host, ProcessId, StopOptions, VmError, VmId, VmSpec};
use thiserror::Error;

use super::manager::VmProvider;
use crate::error::{GitHubRunnerError, Result};

/// A VM that is given back gets no time to shut down: nothing of it is kept.
const NO_GRACE: Duration = Duration::ZERO;

/// Gives VMs of this host. A VM type is the name of a [`VmSpec`].
#[derive(Clone)]
pub struct LocalVmProvider {
    host: Host,
    types: BTreeMap<String, VmSpec>,
    keeps: bool,
}

/// There is no such VM type.
#[derive(Debug, Error)]
#[error("there is no VM type {vm_type:?}; there are {}", known.join(", "))]
pub struct UnknownVmType {
    /// The type asked for.
    pub vm_type: String,
    /// The types there are.
    pub known: Vec<String>,
}

impl LocalVmProvider {
    /// Gives VMs of these types.
    #[must_use]
    pub fn new(host: Host, types: BTreeMap<String, VmSpec>) -> Self {
        LocalVmProvider { host, types, keeps: false }
    }

    /// Leaves VMs running that are given back, so that they can be looked at. Otherwise they are removed, also when
    /// this process dies.
    #[must_use]
    pub fn keeping(self, keeps: bool) -> Self {
        LocalVmProvider { keeps, ..self }
    }

    /// Starts a VM that was created. It is removed again if that fails.
    async fn start(&self, id: &VmId) -> std::result::Result<(), VmError> {
        let started = match (self.keeps, ProcessId::current()) {
            (false, Ok(owner)) => self.host.start_owned(id, &owner).await,
            _ => self.host.start(id).await,
        };
        let ready = match started {
            Ok(_) => match self.host.client(id) {
                Ok(client) => client.wait_agent().await.map(drop),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let Err(error) = ready else { return Ok(()) };
        let console = self.host.paths().vm(id).join("console.log");
        let said = tokio::task::spawn_blocking(move || last_lines(&console)).await.unwrap_or_default();
        // The error is the caller's to tell; what the guest said is lost with the VM.
        if !said.is_empty() {
            tracing::warn!(vm.id = %id, "a VM that did not start had said last: {said}");
        }
        match self.host.remove(id, true).await {
            // Its supervisor was quicker: the VM has an owner, and goes when it ends.
            Ok(_) | Err(VmError::NotFound(_)) => {}
            Err(left) => tracing::warn!(vm.id = %id, "cannot remove a VM that did not start: {left}"),
        }
        Err(error)
    }

    async fn create(&self, vm_type: &str) -> Result<VmId> {
        let what = || format!("create a VM of type {vm_type}");
        let spec = self.types.get(vm_type).ok_or_else(|| {
            let known = self.types.keys().cloned().collect();
            GitHubRunnerError::failed(what(), UnknownVmType { vm_type: vm_type.to_owned(), known })
        })?;
        let (host, spec, keeps) = (self.host.clone(), spec.clone(), self.keeps);
        // Creating makes files and waits for locks.
        let created = tokio::task::spawn_blocking(move || match (keeps, ProcessId::current()) {
            (false, Ok(owner)) => host.create_owned(&spec, &owner),
            _ => host.create(&spec),
        })
        .await;
        match created {
            Ok(record) => Ok(record.map_err(|error| GitHubRunnerError::failed(what(), error))?.id),
            Err(error) => Err(GitHubRunnerError::failed(what(), error)),
        }
    }
}

/// Whether the hypervisor runs and the guest says nothing: its supervisor answers for it with 503.
fn is_silence(error: &VmError) -> bool {
    matches!(error, VmError::Refused { status: 503, .. })
}

/// The end of a console's log, in one line.
fn last_lines(path: &std::path::Path) -> String {
    const BYTES: u64 = 600;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut text = Vec::new();
        file.take(BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ").replace(char::is_control, " ")
}

#[async_trait]
impl VmProvider for LocalVmProvider {
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)> {
        let begin = Instant::now();
        let id = self.create(vm_type).await?;
        let failed = |id: &VmId, error| GitHubRunnerError::failed(format!("start VM {id}"), error);
        let Err(error) = self.start(&id).await else { return Ok((id.to_string(), begin.elapsed())) };
        if !is_silence(&error) {
            return Err(failed(&id, error));
        }
        // An emulated guest hangs in its boot once in some hundred times while others boot beside it. Nothing has run in
        // it, so a second one may try; a host where that one is silent too has another fault.
        tracing::warn!(vm.id = %id, "VM did not start: {error}; starting another VM in its place");
        let id = self.create(vm_type).await?;
        self.start(&id).await.map_err(|error| failed(&id, error))?;
        Ok((id.to_string(), begin.elapsed()))
    }

    async fn release(&self, vm_id: &str) -> Result<()> {
        if self.keeps {
            return Ok(());
        }
        let failed = |error| GitHubRunnerError::failed(format!("remove VM {vm_id}"), error);
        let id: VmId = vm_id.parse().map_err(|error| {
            GitHubRunnerError::failed(format!("remove VM {vm_id}"), Box::new(error) as crate::error::BoxError)
        })?;
        let stopped = self.host.stop(&id, &StopOptions { grace: NO_GRACE }).await;
        let removed = match stopped {
            Ok(_) => self.host.remove(&id, true).await,
            Err(error) => Err(error),
        };
        match removed {
            // Its supervisor removes a VM whose owner is gone; so may the user.
            Ok(()) | Err(VmError::NotFound(_)) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}
