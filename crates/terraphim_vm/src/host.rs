//! The VMs of this host: define, start, stop, remove, list, and repair what a crash left.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{net::UnixStream as StdStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use crate::{
    Events, Paths, ProcessId, Signalled, SshKeys, StopOptions, StopReport, StopStep, VmClient, VmError, VmId,
    VmRecord, VmSpec, VmState,
    error::IoContext as _,
    fault::{self, Point},
    image::ImageStore,
    logs,
    process::Role,
    reconcile::purge,
    registry::{Claim, Registry, RegistryError},
    spec::host_memory_mib,
    supervisor::{Readiness, SUBCOMMAND, SupervisorArgs, VmLock},
};

/// One host. Cheap to clone: it is two paths and a program's name.
#[derive(Clone, Debug)]
pub struct Host {
    paths: Paths,
    program: PathBuf,
}

/// What a supervisor needs until it says that the hypervisor runs: 0.1 s on a quiet machine; an image whose initial RAM
/// disk has to be composed first takes a second more.
const START_LIMIT: Duration = Duration::from_secs(60);
/// After its last answer a supervisor has only to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// What a supervisor needs on top of the grace period to climb the whole stop ladder.
const LADDER_LIMIT: Duration = Duration::from_secs(10);

/// What a supervisor and its hypervisor get from the environment; nothing else may reach them.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "RUST_LOG", "TCI_ACCEL"];
#[cfg(feature = "failpoints")]
const TEST_ENVIRONMENT: &[&str] = &[fault::VARIABLE];
#[cfg(not(feature = "failpoints"))]
const TEST_ENVIRONMENT: &[&str] = &[];

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
    /// The host that keeps its data in `paths`. Supervisors are this very program.
    ///
    /// # Errors
    /// The program's own path cannot be read.
    pub fn open(paths: Paths) -> Result<Host, VmError> {
        let program = std::env::current_exe().io("find", Path::new("/proc/self/exe"))?;
        Ok(Host { paths, program })
    }

    /// Starts supervisors as `program vm-supervisor ...` instead.
    #[must_use]
    pub fn with_supervisor_program(mut self, program: PathBuf) -> Host {
        self.program = program;
        self
    }

    /// Where things are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The image store.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn images(&self) -> Result<ImageStore, VmError> {
        Ok(ImageStore::open(&self.paths.images())?)
    }

    /// Defines a VM.
    ///
    /// # Errors
    /// All mistakes of the definition at once, a name that is taken, an image that does not exist.
    pub fn create(&self, spec: &VmSpec) -> Result<VmRecord, VmError> {
        self.create_for(spec, None)
    }

    /// Like [`Host::create`], for a VM that is to be started with [`Host::start_owned`]: it is removed also when `owner` ends
    /// before that.
    ///
    /// # Errors
    /// As [`Host::create`].
    pub fn create_owned(&self, spec: &VmSpec, owner: &ProcessId) -> Result<VmRecord, VmError> {
        self.create_for(spec, Some(owner))
    }

    fn create_for(&self, spec: &VmSpec, owner: Option<&ProcessId>) -> Result<VmRecord, VmError> {
        let problems = spec.problems(host_memory_mib());
        if !problems.is_empty() {
            return Err(VmError::Invalid(problems));
        }
        self.images()?.resolve(&spec.image)?;
        let id = VmId::random();
        let name = spec.name.clone().unwrap_or_else(|| format!("vm-{id}"));
        fault::at(Point::CliCreateChecked)?;
        let registry = self.write()?;
        registry.insert(&id, &name, spec, owner)?;
        fault::at(Point::CliCreateInserted)?;
        if let Err(error) = SshKeys::of(&self.paths, &id).ensure() {
            let _lock = VmLock::try_take(&self.paths, &id)?;
            purge(&self.paths, &registry, &Claim { id, epoch: 0 })?;
            return Err(error);
        }
        registry.get(&id)?.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    /// What happens to the VMs of this host: the events after number `after`, or those from now on.
    ///
    /// # Errors
    /// The registry cannot be read or watched.
    pub fn events(&self, after: Option<i64>) -> Result<Events, VmError> {
        Events::open(self, after)
    }

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

    /// Stops a VM and returns when its processes have ended. A VM that does not run is left alone; the start of one that
    /// does not run yet is abandoned.
    ///
    /// # Errors
    /// There is no such VM, or its processes do not end.
    pub async fn stop(&self, id: &VmId, options: &StopOptions) -> Result<StopReport, VmError> {
        self.repair(id)?;
        let record = self.record(id)?;
        let Some(supervisor) = record.supervisor.clone().filter(|_| record.state.is_owned()) else {
            return Ok(StopReport { step: StopStep::NotRunning });
        };
        fault::at(Point::CliStopAsked)?;
        if !supervisor.is_alive_as(Role::Supervisor, id) {
            return self.stop_by_database(id, record.epoch, options).await;
        }
        if record.state == VmState::Starting {
            // A supervisor takes calls once its hypervisor answers; until then it listens to the database.
            self.write()?.request_stop(&Claim { id: id.clone(), epoch: record.epoch })?;
        }
        let report = self.ask_to_stop(id, &supervisor, options).await?;
        fault::at(Point::CliStopAnswered)?;
        match report {
            // It is stopped or stuck: its death takes the hypervisor with it.
            Asked::Silent => {}
            Asked::Answered(report) if ended_within(&supervisor, LEAVE_LIMIT).await? => return Ok(report),
            // It was leaving already, and closed the connection on its way out.
            Asked::Leaving if ended_within(&supervisor, LEAVE_LIMIT).await? => {
                self.settle(id, record.epoch).await?;
                return Ok(StopReport { step: StopStep::NotRunning });
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
        self.settle(id, record.epoch).await?;
        let step = if killed == Signalled::Sent { StopStep::Kill } else { StopStep::NotRunning };
        Ok(StopReport { step })
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
            return Ok(StopReport { step: StopStep::NotRunning });
        }
        self.settle(id, epoch).await?;
        Ok(StopReport { step: StopStep::NotRunning })
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

    /// Removes a VM with its disk and logs; with `force` also one that runs.
    ///
    /// # Errors
    /// There is no such VM, or it runs.
    pub async fn remove(&self, id: &VmId, force: bool) -> Result<(), VmError> {
        loop {
            self.repair(id)?;
            let record = self.record(id)?;
            if record.state.is_owned() {
                if !force {
                    return Err(VmError::WrongState { id: id.clone(), state: record.state });
                }
                self.stop(id, &StopOptions { grace: Duration::ZERO }).await?;
            }
            let _lock = self.lock(id).await?;
            // Read again under the lock: it may have been started, and lost, or removed meanwhile.
            let record = self.record(id)?;
            if !record.state.is_owned() {
                fault::at(Point::CliRemoveLocked)?;
                return purge(&self.paths, &self.write()?, &Claim { id: id.clone(), epoch: record.epoch });
            }
        }
    }

    /// All VMs, oldest first. Writes nothing. Rows that cannot be read are warned of and left out.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn list(&self) -> Result<Vec<VmRecord>, VmError> {
        let warn = |error: &_| tracing::warn!("{error}");
        Ok(self.read()?.list()?.into_iter().filter_map(|row| row.inspect_err(warn).ok()).collect())
    }

    /// The VM with this name, id, or start of an id. Writes nothing.
    ///
    /// # Errors
    /// There is none, several ids start so, or its row is damaged.
    pub fn find(&self, wanted: &str) -> Result<VmRecord, VmError> {
        let mut all = Vec::new();
        for row in self.read()?.list()? {
            match row {
                Ok(record) => all.push(record),
                Err(error @ RegistryError::Row { .. }) if error.is_about(wanted) => return Err(error.into()),
                Err(_) => {}
            }
        }
        if let Some(exact) = all.iter().find(|vm| vm.name == wanted || vm.id.as_str() == wanted) {
            return Ok(exact.clone());
        }
        let mut matching: Vec<VmRecord> = all;
        matching.retain(|vm| !wanted.is_empty() && vm.id.as_str().starts_with(wanted));
        match (matching.pop(), matching.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                let shown = matching.iter().chain([&last]).map(|vm| format!("{} ({})", vm.id, vm.name));
                Err(VmError::Ambiguous { prefix: wanted.to_owned(), candidates: shown.collect() })
            }
            (None, _) => Err(VmError::NotFound(wanted.to_owned())),
        }
    }

    /// Talks to a running VM.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub fn client(&self, id: &VmId) -> Result<VmClient, VmError> {
        let record = self.record(id)?;
        match record.socket {
            Some(socket)
                if record.state.is_owned()
                    && record.supervisor.as_ref().is_some_and(|it| it.is_alive_as(Role::Supervisor, id)) =>
            {
                Ok(VmClient::new(id.clone(), self.paths.clone(), socket))
            }
            _ => Err(VmError::WrongState { id: id.clone(), state: record.effective_state() }),
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
        let log = fs::File::options().create(true).append(true).open(&log_path).io("open", &log_path)?;
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

    /// The lock of a VM whose supervisor is leaving.
    ///
    /// # Errors
    /// The VM was removed meanwhile, or the lock cannot be had.
    async fn lock(&self, id: &VmId) -> Result<VmLock, VmError> {
        let lock = self.lock_unless_removed(id, LEAVE_LIMIT).await?;
        lock.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    /// `None` when the VM was removed meanwhile.
    async fn lock_unless_removed(&self, id: &VmId, limit: Duration) -> Result<Option<VmLock>, VmError> {
        let lock = VmLock::take(&self.paths, id, limit).await?.ok_or_else(|| busy(id))?;
        if self.read()?.get(id)?.is_none() {
            lock.discard(&self.paths, id)?;
            return Ok(None);
        }
        Ok(Some(lock))
    }

    fn record(&self, id: &VmId) -> Result<VmRecord, VmError> {
        self.read()?.get(id)?.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    fn read(&self) -> Result<Registry, VmError> {
        Ok(Registry::read_only(&self.paths.registry())?)
    }

    fn write(&self) -> Result<Registry, VmError> {
        Ok(Registry::read_write(&self.paths.registry())?)
    }
}

fn busy(id: &VmId) -> VmError {
    VmError::Stuck { id: id.clone(), detail: "another process has been using it for too long".to_owned() }
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

async fn ended_within(process: &ProcessId, limit: Duration) -> Result<bool, VmError> {
    let Some(pidfd) = process.open().io("watch", Path::new("/proc"))? else { return Ok(true) };
    let pidfd = crate::watch::watched(pidfd).io("watch", Path::new("/proc"))?;
    Ok(timeout(limit, pidfd.readable()).await.is_ok())
}

/// The arguments with which this program was started, if it was started as a supervisor.
#[must_use]
pub fn supervisor_arguments(mut args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    args.next();
    (args.next()? == SUBCOMMAND).then(|| args.collect())
}
