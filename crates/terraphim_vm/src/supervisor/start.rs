//! The straight line from nothing to a running hypervisor. Whatever fails, dropping what was made so far undoes it.

use std::{fs, path::Path, process::Child, sync::Arc, time::Duration};

use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

use super::{
    SupervisorArgs,
    executions::Executions,
    files::{Socket, VmLock, own_directory},
    leave::leave,
    lifeline::{Lifeline, Readiness},
    stop::KillOnDrop,
};
use crate::{
    Limits, Paths, ProcessId, VmError,
    cgroup::Group,
    driver::{
        accelerator::Accelerator,
        qemu::{self, BASE_DEVICE, Machine, SCRATCH_DEVICE},
        qmp::{Qmp, QmpEvent},
        user::QemuUser,
    },
    error::IoContext as _,
    fault::{self, Point},
    image::ImageStore,
    reconcile::{is_emptied, remove_files},
    registry::{Claim, EndReason, Registry, RegistryError, VmEnd, VmRecord},
    state::StateEvent,
    watch::{LATER_LOOKS, Watch},
};

/// A running hypervisor and everything that goes with it.
pub(super) struct Started {
    pub(super) paths: Paths,
    pub(super) registry: Arc<Registry>,
    pub(super) claim: Claim,
    pub(super) record: VmRecord,
    pub(super) owner: Option<ProcessId>,
    pub(super) socket: Socket,
    pub(super) child: KillOnDrop,
    pub(super) hypervisor: ProcessId,
    pub(super) qmp: Qmp,
    pub(super) qmp_events: mpsc::Receiver<QmpEvent>,
    pub(super) agent: std::os::unix::net::UnixStream,
    pub(super) executions: Executions,
    pub(super) accelerator: Accelerator,
    /// Dropped after the hypervisor has ended.
    pub(super) group: Option<Group>,
}

/// QEMU answers at once; the rest is for a loaded host.
const THROTTLE_LIMIT: Duration = Duration::from_secs(30);

/// Events between two looks of the loop; a guest that causes more has its own events dropped.
const EVENT_BACKLOG: usize = 64;

/// How often the registry is looked at where there are no notices of its changes.
const WITHOUT_NOTICES: Duration = Duration::from_millis(50);

/// The signals that ask a supervisor to stop its VM, from before anybody can know its process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> Result<Signals, VmError> {
        let watch = |kind| signal(kind).io("watch signals of", Path::new("/proc/self"));
        Ok(Signals { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts the VM and tells the starter how it went. `None`: there is nothing to supervise.
pub(super) async fn start(
    args: &SupervisorArgs,
    lifeline: &mut Lifeline,
) -> Result<Option<(Started, Signals, VmLock)>, VmError> {
    let Some(lock) = VmLock::try_take(&args.paths, &args.id)? else {
        lifeline.send(&Readiness::AlreadyOwned);
        return Ok(None);
    };
    fault::at(Point::StartLocked)?;
    if is_emptied(&args.paths, &args.id) {
        lifeline.send(&Readiness::NoSuchVm);
        return Ok(None);
    }
    let registry = Arc::new(Registry::read_write(&args.paths.registry())?);
    let me = ProcessId::current().io("read", Path::new("/proc/self/stat"))?;
    let mut signals = Signals::watch()?;
    let socket_path = |epoch| args.paths.socket(&args.id, epoch);
    let claimed = registry.claim(&args.id, &me, args.owner.as_ref(), socket_path)?;
    let record = registry.get(&args.id)?;
    let (Some((claim, socket)), Some(record)) = (claimed, record) else {
        // Removed while the starter made ready for it.
        remove_files(&args.paths, &args.id)?;
        lifeline.send(&Readiness::NoSuchVm);
        return Ok(None);
    };
    let built = tokio::select! {
        biased;
        built = build(args, Arc::clone(&registry), claim.clone(), record, &socket) => built.map_err(Unbuilt::Failed),
        reason = unwanted(args, &registry, &claim, &mut signals) => Err(reason.map_or_else(Unbuilt::Failed, Unbuilt::Abandoned)),
    };
    match built {
        Ok(started) => {
            lifeline.send(&Readiness::Running);
            fault::at(Point::StartTold)?;
            Ok(Some((started, signals, lock)))
        }
        Err(Unbuilt::Failed(error)) => {
            let end = VmEnd { detail: error.to_string(), ..VmEnd::of(EndReason::StartFailed) };
            if let Err(unrecorded) = registry.set_ended(&claim, StateEvent::StartFailed, &end) {
                tracing::error!("cannot record that the VM did not start: {unrecorded}");
            }
            Err(error)
        }
        Err(Unbuilt::Abandoned(reason)) => {
            let end = VmEnd { detail: "stopped while it started".to_owned(), ..VmEnd::of(reason) };
            match registry
                .advance(&claim, StateEvent::StopRequested)
                .and_then(|()| registry.set_ended(&claim, StateEvent::Ended, &end))
            {
                Ok(()) | Err(RegistryError::Superseded(_)) => {}
                Err(error) => tracing::error!("cannot record the end of the VM: {error}"),
            }
            leave(&args.paths, &registry, &claim, args.owner.as_ref(), lock)?;
            lifeline.send(&Readiness::Failed("it was stopped while it started".to_owned()));
            Ok(None)
        }
    }
}

/// Why there is no running hypervisor.
enum Unbuilt {
    Failed(VmError),
    Abandoned(EndReason),
}

/// Returns when nobody wants the VM any more: before its hypervisor answers, nobody else listens for that.
async fn unwanted(
    args: &SupervisorArgs,
    registry: &Registry,
    claim: &Claim,
    signals: &mut Signals,
) -> Result<EndReason, VmError> {
    // A user has so many of these (inotify(7)); without one the registry is looked at again and again, for the moment of a start.
    let mut changes = Watch::new(&args.paths.registry()).ok();
    let owner = args.owner.as_ref().map(super::run::watch).transpose()?;
    let patience = if changes.is_some() { Duration::MAX } else { WITHOUT_NOTICES };
    // Also from the beginning: what is not seen yet may have been written before there was a watch.
    let mut later = LATER_LOOKS.iter();
    loop {
        match registry.stop_requested(claim) {
            Ok(Some(true) | None) => return Ok(EndReason::Requested),
            Ok(Some(false)) => {}
            Err(error) => tracing::warn!("cannot read the registry, the start goes on: {error}"),
        }
        let changed = async {
            match &mut changes {
                Some(changes) => drop(changes.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = timeout(later.next().map_or(patience, |look| patience.min(*look)), changed) => {
                if changed.is_ok() {
                    later = LATER_LOOKS.iter();
                }
            }
            () = signals.any() => return Ok(EndReason::Requested),
            () = super::run::ready(owner.as_ref()) => return Ok(EndReason::OwnerDied),
        }
    }
}

async fn build(
    args: &SupervisorArgs,
    registry: Arc<Registry>,
    claim: Claim,
    record: VmRecord,
    socket: &Path,
) -> Result<Started, VmError> {
    fault::at(Point::StartClaimed)?;
    let socket = Socket::bind(socket)?;
    fault::at(Point::StartBound)?;
    let directory = args.paths.vm(&args.id);
    own_directory(&directory)?;
    let accelerator = Accelerator::detect(&args.paths.cache())?;
    let group = Group::create(&args.paths, &args.id, &record.spec.limits)?;
    let (mut child, qmp_stream, agent) = spawn(args, &record, &directory, &accelerator, group.as_ref())?;
    fault::at(Point::StartSpawned)?;
    let process = child.process.as_ref().map_or(0, Child::id).cast_signed();
    // A hypervisor that has ended by now is found dead below, with its own words as the reason.
    let hypervisor = ProcessId::of(process).io("read", Path::new("/proc"))?;
    registry.set_hypervisor(&claim, &hypervisor)?;
    fault::at(Point::StartRecorded)?;
    let (event_sender, qmp_events) = mpsc::channel(EVENT_BACKLOG);
    let qmp = match Qmp::connect(qmp_stream, event_sender).await {
        Ok(qmp) => qmp,
        Err(error) => return Err(died(args, &directory, &mut child, error)),
    };
    throttle(&qmp, &record.spec.limits).await?;
    fault::at(Point::StartAnswered)?;
    let executions = Executions::open(&args.paths, &args.id)?;
    registry.advance(&claim, StateEvent::Launched)?;
    fault::at(Point::StartRunning)?;
    Ok(Started {
        paths: args.paths.clone(),
        registry,
        claim,
        record,
        owner: args.owner.clone(),
        socket,
        child,
        hypervisor,
        qmp,
        qmp_events,
        agent,
        executions,
        accelerator,
        group,
    })
}

/// Slows the guest's disks down to their limits, before the guest has read anything.
async fn throttle(qmp: &Qmp, limits: &Limits) -> Result<(), VmError> {
    for device in [BASE_DEVICE, SCRATCH_DEVICE] {
        if let Some(arguments) = limits.throttle(device) {
            qmp.execute("block_set_io_throttle", Some(arguments), THROTTLE_LIMIT).await?;
        }
    }
    Ok(())
}

type Spawned = (KillOnDrop, UnixStream, std::os::unix::net::UnixStream);

fn spawn(
    args: &SupervisorArgs,
    record: &VmRecord,
    directory: &Path,
    accelerator: &Accelerator,
    group: Option<&Group>,
) -> Result<Spawned, VmError> {
    let image = ImageStore::open(&args.paths.images())?.resolve(&record.spec.image)?;
    let scratch = directory.join("scratch.qcow2");
    let scratch_base = crate::image::scratch_base(&args.paths.cache(), u64::from(record.spec.disk_mib))?;
    if !scratch.exists() {
        // Under another name until it is whole: a full disk or a kill would leave one that no QEMU opens.
        let unfinished = directory.join("scratch.unfinished");
        let _ = fs::remove_file(&unfinished);
        crate::image::create_overlay(&scratch_base, &unfinished)?;
        fs::rename(&unfinished, &scratch).io("create", &scratch)?;
    }
    fault::at(Point::StartDisk)?;
    let spawned = Machine {
        id: &args.id,
        spec: &record.spec,
        kernel: &image.kernel,
        initrd: &image.initrd()?,
        rootfs: &image.rootfs,
        rootfs_format: image.rootfs_format.as_str(),
        scratch: &scratch,
        scratch_base: &scratch_base,
        console: &directory.join("console.log"),
        log: &directory.join("qemu.log"),
        accelerator,
        user: QemuUser::for_vm(&args.id, accelerator),
        groups: group.map(Group::entrances).transpose()?.unwrap_or_default(),
    }
    .spawn()?;
    let path = Path::new(qemu::PROGRAM);
    let child = KillOnDrop::new(spawned.child, spawned.leash);
    spawned.qmp.set_nonblocking(true).io("use the control connection of", path)?;
    spawned.agent.set_nonblocking(true).io("use the agent connection of", path)?;
    let qmp = UnixStream::from_std(spawned.qmp).io("use the control connection of", path)?;
    Ok((child, qmp, spawned.agent))
}

/// The reason of a hypervisor that ended before it answered: its own words where it left some.
fn died(args: &SupervisorArgs, directory: &Path, child: &mut KillOnDrop, error: crate::QmpError) -> VmError {
    let tail = qemu::log_tail(&directory.join("qemu.log"));
    let status = child.process.as_mut().and_then(wait_briefly);
    let message = match (status, tail.is_empty()) {
        (Some(status), false) => format!("QEMU ended with {status}: {tail}"),
        (Some(status), true) => format!("QEMU ended with {status} and said nothing"),
        (None, _) => return error.into(),
    };
    VmError::Start { id: args.id.clone(), message }
}

/// The connection ends a moment before the process does.
fn wait_briefly(child: &mut Child) -> Option<std::process::ExitStatus> {
    const MOMENT: Duration = Duration::from_millis(500);
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    let limit = rustix::time::Timespec::try_from(MOMENT).ok()?;
    let mut wait = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut wait, Some(&limit)).ok()?;
    child.try_wait().ok().flatten()
}
