//! The VMs of this host: define, start, stop, remove, list, and repair what a crash left.

use std::{
    ffi::OsString,
    fs, io,
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
    Events, Paths, ProcessId, SshKeys, StopOptions, StopReport, StopStep, VmClient, VmError, VmId, VmRecord,
    VmSpec, VmState,
    error::IoContext as _,
    image::ImageStore,
    process::boot_id,
    registry::{Claim, EndReason, Registry, VmEnd},
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
        let problems = spec.problems(host_memory_mib());
        if !problems.is_empty() {
            return Err(VmError::Invalid(problems));
        }
        self.images()?.resolve(&spec.image)?;
        let id = VmId::random();
        let name = spec.name.clone().unwrap_or_else(|| format!("vm-{id}"));
        let registry = self.write()?;
        registry.insert(&id, &name, spec)?;
        if let Err(error) = SshKeys::of(&self.paths, &id).ensure() {
            registry.delete(&id)?;
            remove_files(&self.paths, &id)?;
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
            match self.spawn_supervisor(id, owner.clone()).await? {
                Some(Readiness::Running) => return self.record(id),
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

    /// Stops a VM and returns when its processes have ended. A VM that does not run is left alone.
    ///
    /// # Errors
    /// There is no such VM, or its processes do not end.
    pub async fn stop(&self, id: &VmId, options: &StopOptions) -> Result<StopReport, VmError> {
        self.repair(id)?;
        let record = self.record(id)?;
        let Some(supervisor) = record.supervisor.clone().filter(|_| record.state.is_owned()) else {
            return Ok(StopReport { step: StopStep::NotRunning });
        };
        let limit = options.grace + LADDER_LIMIT;
        let report = match self.client(id) {
            Ok(client) => timeout(limit, client.stop(options)).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        if report.is_some() && ended_within(&supervisor, LEAVE_LIMIT).await? {
            return Ok(report.unwrap_or(StopReport { step: StopStep::Guest }));
        }
        // It does not answer (its socket is gone, it is stopped or stuck): its death takes the hypervisor with it.
        supervisor.signal(Signal::KILL).io("kill", Path::new("/proc"))?;
        let gone = ended_within(&supervisor, LEAVE_LIMIT).await?;
        let hypervisor = match &record.hypervisor {
            Some(hypervisor) => ended_within(hypervisor, LEAVE_LIMIT).await?,
            None => true,
        };
        if !(gone && hypervisor) {
            return Err(VmError::Stuck { id: id.clone(), detail: "it cannot be killed".to_owned() });
        }
        self.repair(id)?;
        Ok(report.unwrap_or(StopReport { step: StopStep::Kill }))
    }

    /// Removes a VM with its disk and logs; with `force` also one that runs.
    ///
    /// # Errors
    /// There is no such VM, or it runs.
    pub async fn remove(&self, id: &VmId, force: bool) -> Result<(), VmError> {
        self.repair(id)?;
        let record = self.record(id)?;
        if record.state.is_owned() {
            if !force {
                return Err(VmError::WrongState { id: id.clone(), state: record.state });
            }
            self.stop(id, &StopOptions { grace: Duration::ZERO }).await?;
        }
        let _lock = self.lock(id).await?;
        self.write()?.delete(id)?;
        remove_files(&self.paths, id)
    }

    /// All VMs, oldest first. Writes nothing.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn list(&self) -> Result<Vec<VmRecord>, VmError> {
        Ok(self.read()?.list()?)
    }

    /// The VM with this name, id, or start of an id. Writes nothing.
    ///
    /// # Errors
    /// There is none, or several ids start so.
    pub fn find(&self, wanted: &str) -> Result<VmRecord, VmError> {
        let all = self.list()?;
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
                if record.state.is_owned() && record.supervisor.as_ref().is_some_and(ProcessId::is_alive) =>
            {
                Ok(VmClient::new(id.clone(), self.paths.clone(), socket))
            }
            _ => Err(VmError::WrongState { id: id.clone(), state: record.effective_state() }),
        }
    }

    /// Brings every row in line with the processes that really run; what a crash left is removed.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn repair_all(&self) -> Result<(), VmError> {
        for record in self.list()?.iter().filter(|record| record.is_stale()) {
            self.repair(&record.id)?;
        }
        Ok(())
    }

    /// The same for one VM. A living supervisor's row is not touched: its lock cannot be had.
    fn repair(&self, id: &VmId) -> Result<(), VmError> {
        if !self.read()?.get(id)?.is_some_and(|record| record.is_stale()) {
            return Ok(());
        }
        let Some(_lock) = VmLock::try_take(&self.paths, id)? else { return Ok(()) };
        // Read again under the lock: somebody may have repaired or started it meanwhile.
        let Some(record) = self.read()?.get(id)?.filter(VmRecord::is_stale) else { return Ok(()) };
        if let Some(hypervisor) = &record.hypervisor {
            // The kernel has killed it already; this is for the moment in between.
            let _ = hypervisor.signal(Signal::KILL);
        }
        if let Some(socket) = &record.socket {
            let _ = fs::remove_file(socket);
            let _ = fs::remove_dir(self.paths.vm_runtime(id));
        }
        crate::cgroup::remove_left(&self.paths, id)?;
        let registry = self.write()?;
        if record.owner.is_some() {
            registry.delete(id)?;
            return remove_files(&self.paths, id);
        }
        let same_boot =
            record.supervisor.as_ref().is_some_and(|it| boot_id().is_ok_and(|boot| boot == it.boot_id));
        let reason = if same_boot { EndReason::SupervisorDied } else { EndReason::HostRebooted };
        let claim = Claim { id: id.clone(), epoch: record.epoch };
        Ok(registry.set_ended(&claim, VmState::Stopped, &VmEnd::of(reason))?)
    }

    async fn spawn_supervisor(
        &self,
        id: &VmId,
        owner: Option<ProcessId>,
    ) -> Result<Option<Readiness>, VmError> {
        let directory = self.paths.vm(id);
        fs::create_dir_all(&directory).io("create", &directory)?;
        let log_path = directory.join("supervisor.log");
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
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .stdin(Stdio::null())
            .stdout(log.try_clone().io("open", &log_path)?)
            .stderr(log);
        keep(&mut command, far.as_raw_fd());
        let mut child = command.spawn().io("start", &self.program)?;
        drop(far);
        // The supervisor forks at once and its first process ends: waiting for that takes a millisecond.
        child.wait().io("wait for", &self.program)?;
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
                    changed = changes.changed() => changed.io("watch", &self.paths.registry())?,
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
    async fn lock(&self, id: &VmId) -> Result<VmLock, VmError> {
        VmLock::take(&self.paths, id, LEAVE_LIMIT).await?.ok_or_else(|| busy(id))
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

/// Removes everything that a VM has on disk. The caller holds its lock.
pub(crate) fn remove_files(paths: &Paths, id: &VmId) -> Result<(), VmError> {
    crate::cgroup::remove_left(paths, id)?;
    for directory in [paths.vm(id), paths.vm_runtime(id)] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).io("remove", &directory);
            }
            _ => {}
        }
    }
    let lock = paths.lock(id);
    fs::remove_file(&lock)
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .io("remove", &lock)
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
