//! Starting a VM: its supervisor, and those that want to start it at the same moment.

use std::{
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{fs::OpenOptionsExt as _, net::UnixStream as StdStream, process::CommandExt as _},
    },
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{Host, LEAVE_LIMIT, busy};
use crate::{
    ProcessId, VmError, VmId, VmRecord, VmState,
    error::IoContext as _,
    fault::{self, Point},
    logs,
    registry::EndReason,
    supervisor::{Readiness, SUBCOMMAND, SupervisorArgs, VmLock},
};

/// What a supervisor needs until it says that the hypervisor runs: 0.1 s on a quiet machine; an image whose initial RAM
/// disk has to be composed first takes a second more.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a supervisor and its hypervisor get from the environment; nothing else may reach them.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "RUST_LOG", "TCI_ACCEL"];
#[cfg(feature = "failpoints")]
const TEST_ENVIRONMENT: &[&str] = &[fault::VARIABLE];
#[cfg(not(feature = "failpoints"))]
const TEST_ENVIRONMENT: &[&str] = &[];

impl Host {
    /// Starts a VM and returns when its hypervisor runs; the guest boots meanwhile, and calls that need it wait for it.
    /// A VM that runs is left alone.
    ///
    /// # Errors
    /// There is no such VM, or the start failed; then the row says why.
    pub async fn start(&self, id: &VmId) -> Result<VmRecord, VmError> {
        self.start_for(id, None).await
    }

    /// Like [`Host::start`], for a VM that is of use only to `owner`: when that process ends, however it does, the VM
    /// is stopped and removed.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_owned(&self, id: &VmId, owner: &ProcessId) -> Result<VmRecord, VmError> {
        self.start_for(id, Some(owner.clone())).await
    }

    /// What to tell of a call that failed while the guest of a started VM booted: that another process stopped, restarted or
    /// removed the VM, if one did, else the error itself.
    #[must_use]
    pub fn boot_error(&self, started: &VmRecord, error: VmError) -> VmError {
        let Ok(row) = self.read().and_then(|registry| Ok(registry.get(&started.id)?)) else { return error };
        let what = match row {
            None => "removed",
            Some(row) if row.epoch != started.epoch => "stopped and started anew",
            Some(row) if row.state == VmState::Stopping => "stopped",
            Some(row) if row.end.as_ref().is_some_and(|end| end.reason == EndReason::Requested) => "stopped",
            Some(_) => return error,
        };
        let message = format!("it was {what} by another process while its guest booted");
        VmError::Start { id: started.id.clone(), message }
    }

    async fn start_for(&self, id: &VmId, owner: Option<ProcessId>) -> Result<VmRecord, VmError> {
        let failed = |message: String| VmError::Start { id: id.clone(), message };
        loop {
            self.repair(id)?;
            self.record(id)?;
            fault::at(Point::CliStartRepaired)?;
            match self.spawn_supervisor(id, owner.clone()).await? {
                Some(Readiness::Running) => {
                    fault::at(Point::CliStartReady)?;
                    return self.record(id);
                }
                Some(Readiness::AlreadyOwned) => {
                    if let Some(running) = self.await_owner(id).await? {
                        return Ok(running);
                    }
                }
                Some(Readiness::NoSuchVm) => return Err(VmError::NotFound(id.to_string())),
                Some(Readiness::Failed(message)) => return Err(failed(message)),
                None => {
                    let log = self.paths.vm(id).join("supervisor.log");
                    self.repair(id)?;
                    return Err(failed(format!("its supervisor died; see {}", log.display())));
                }
            }
        }
    }

    async fn spawn_supervisor(
        &self,
        id: &VmId,
        owner: Option<ProcessId>,
    ) -> Result<Option<Readiness>, VmError> {
        let directory = self.paths.vm(id);
        crate::make_private_directory(&directory).io("create", &directory)?;
        let log_path = directory.join("supervisor.log");
        logs::cut(&log_path).io("cut", &log_path)?;
        let mut options = fs::File::options();
        options.create(true).append(true).mode(0o600);
        let log = options.open(&log_path).io("open", &log_path)?;
        let (near, far) = StdStream::pair().io("make a socket pair for", &self.program)?;
        let args = SupervisorArgs {
            id: id.clone(),
            paths: self.paths.clone(),
            owner,
            ready_fd: Some(far.as_raw_fd()),
        };
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .args(args.to_os_args())
            .env_clear()
            .envs(
                ENVIRONMENT
                    .iter()
                    .chain(TEST_ENVIRONMENT)
                    .filter_map(|name| Some((*name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone().io("open", &log_path)?)
            .stderr(log);
        keep(&mut command, far.as_raw_fd());
        let mut child = command.spawn().io("start", &self.program)?;
        drop(far);
        // The supervisor forks at once and its first process ends: waiting for that takes a millisecond.
        child.wait().io("wait for", &self.program)?;
        fault::at(Point::CliStartSpawned)?;
        near.set_nonblocking(true).io("wait for", &self.program)?;
        let stream = UnixStream::from_std(near).io("wait for", &self.program)?;
        let mut line = String::new();
        let read = timeout(START_LIMIT, BufReader::new(stream).read_line(&mut line)).await;
        match read {
            Ok(Ok(length)) if length > 0 => {
                let damaged =
                    |error| VmError::Start { id: id.clone(), message: format!("unreadable answer: {error}") };
                serde_json::from_str(&line).map(Some).map_err(damaged)
            }
            Ok(_) => Ok(None),
            Err(_) => Err(VmError::Start {
                id: id.clone(),
                message: format!("its supervisor said nothing for {START_LIMIT:?}"),
            }),
        }
    }

    /// Another supervisor has the VM: the row once that one runs it, `None` once it has left.
    async fn await_owner(&self, id: &VmId) -> Result<Option<VmRecord>, VmError> {
        let mut changes = crate::watch::Watch::new(&self.paths.registry())?;
        let settled = async {
            loop {
                let record = self.record(id)?;
                // It may have been killed a moment ago and look alive still: who runs a VM answers.
                if record.state == VmState::Running && self.answers(id).await {
                    return Ok(Some(record));
                }
                tokio::select! {
                    changed = changes.changed() => drop(changed.io("watch", &self.paths.registry())?),
                    lock = VmLock::take(&self.paths, id, START_LIMIT) => return lock.map(|_| None),
                }
            }
        };
        timeout(START_LIMIT, settled).await.unwrap_or_else(|_| Err(busy(id)))
    }

    async fn answers(&self, id: &VmId) -> bool {
        match self.client(id) {
            Ok(client) => matches!(timeout(LEAVE_LIMIT, client.ping()).await, Ok(Ok(()))),
            Err(_) => false,
        }
    }
}

/// Lets the child keep one descriptor and no other: a pipe of whoever called us would stay open as long as the VM runs.
fn keep(command: &mut Command, fd: i32) {
    let setup = move || {
        // SAFETY: the descriptor is open in the parent until after the fork, so it is open here.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        crate::process::inherit_only(std::iter::once(fd))
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Paths, VmSpec, registry::VmEnd, state::StateEvent};

    #[test]
    fn whoever_waits_for_the_guest_is_told_who_is_behind_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(Paths::new(dir.path()).unwrap()).unwrap();
        let (registry, id) = (host.write().unwrap(), VmId::random());
        let process = ProcessId { pid: 1, start_time: u64::MAX, boot_id: "b".into() };
        registry.insert(&id, "vm", &VmSpec::default(), None).unwrap();
        let start = || {
            let claimed = registry.claim(&id, &process, None, |_| "/s".into()).unwrap();
            let claim = claimed.unwrap().0;
            registry.advance(&claim, StateEvent::Launched).unwrap();
            (claim, registry.get(&id).unwrap().unwrap())
        };
        let told = |started: &VmRecord| host.boot_error(started, VmError::NoHome).to_string();
        let as_it_is = VmError::NoHome.to_string();
        let (claim, started) = start();
        assert_eq!(told(&started), as_it_is, "nobody is behind it");
        registry.set_ended(&claim, StateEvent::Ended, &VmEnd::of(EndReason::HypervisorDied)).unwrap();
        assert_eq!(told(&started), as_it_is);

        let (claim, started) = start();
        let stopped =
            format!("cannot start VM {id}: it was stopped by another process while its guest booted");
        registry.advance(&claim, StateEvent::StopRequested).unwrap();
        assert_eq!(told(&started), stopped);
        registry.set_ended(&claim, StateEvent::Ended, &VmEnd::of(EndReason::Requested)).unwrap();
        assert_eq!(told(&started), stopped);
        let (claim, again) = start();
        assert!(told(&started).contains("it was stopped and started anew by another process"));
        registry.set_ended(&claim, StateEvent::Ended, &VmEnd::of(EndReason::Requested)).unwrap();
        registry.delete(&claim).unwrap();
        assert!(told(&again).contains("it was removed by another process"));
    }
}
