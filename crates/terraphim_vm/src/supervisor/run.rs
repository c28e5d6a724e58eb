//! The one loop of a supervisor: it alone changes the VM's state once the hypervisor runs.

use std::{
    future::Future,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::Path,
    pin::Pin,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::unix::AsyncFd,
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    StopOptions, StopReport, StopStep,
    changes::Changes,
    control::{self, Control},
    files::VmLock,
    leave::leave,
    snapshots::Snapshots,
    start::{Signals, Started},
    stop,
};
use crate::{
    VmError,
    agent::{AgentClient, AgentError},
    cgroup::Group,
    driver::qmp::QmpEvent,
    error::IoContext as _,
    fault::{self, Point},
    protocol::message::Configure,
    registry::{EndReason, RegistryError, VmEnd},
    state::StateEvent,
    watch::{LATER_LOOKS, watched},
};

/// The kernel alone needs 2.4 s under emulation on a quiet machine, three times that with every core busy; this is ten
/// times the worst that was seen.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// Why a hypervisor with a limit on its memory was killed.
const OUT_OF_MEMORY: &str = "the kernel killed it: it went over its limit of memory";

/// How long answers and output that are under way may take to leave after the VM has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether the guest can be talked to.
#[derive(Clone, Debug)]
pub(super) enum AgentState {
    /// The guest boots.
    Booting,
    /// It answers.
    Ready(AgentClient),
    /// It will not.
    Failed(Arc<str>),
}

/// A stop that somebody waits for.
pub(super) struct StopCall {
    pub(super) options: StopOptions,
    pub(super) reason: EndReason,
    pub(super) done: Option<oneshot::Sender<StopReport>>,
}

struct Ladder {
    climb: Pin<Box<dyn Future<Output = StopStep>>>,
    reason: EndReason,
    /// When the guest's time to shut down is over.
    patience: Instant,
}

struct Loop {
    started: Started,
    agent: watch::Sender<AgentState>,
    ended: watch::Sender<bool>,
    ladder: Option<Ladder>,
    waiting: Vec<oneshot::Sender<StopReport>>,
    /// What QEMU said last about the guest's end.
    shutdown: Option<String>,
}

/// Runs until the hypervisor has ended, then leaves nothing but what the VM keeps.
pub(super) async fn run(mut started: Started, mut signals: Signals, lock: VmLock) -> Result<(), VmError> {
    let (stops, mut stop_calls) = mpsc::channel(16);
    let (agent, agent_state) = watch::channel(AgentState::Booting);
    let (ended, ended_state) = watch::channel(false);
    let tasks = TaskTracker::new();
    let snapshots = Snapshots::new(&started, agent.clone())?;
    let tidy = snapshots.clone();
    tasks.spawn(async move { tidy.discard_unfinished().await });
    let control = Control::new(&started, (agent_state, ended_state.clone()), stops, snapshots, tasks.clone());
    let boot = tasks.spawn(connect_agent(started.agent.try_clone(), started.record.name.clone()));
    let mut boot = Box::pin(boot);
    let mut booting = true;
    let pidfd = watch(&started.hypervisor)?;
    let owner = started.owner.as_ref().map(watch).transpose()?;
    let mut changes = Changes::new(&started);
    let mut owned = true;
    // At once for the first time: the VM could be seen running, and be asked to stop, before there was a watch.
    let mut safety_net = Instant::now();
    let mut later = LATER_LOOKS.iter();
    let mut events = std::mem::replace(&mut started.qmp_events, mpsc::channel(1).1);
    let mut this = Loop { started, agent, ended, ladder: None, waiting: Vec::new(), shutdown: None };
    let reason = loop {
        tokio::select! {
            _ = pidfd.readable() => break this.end_reason(),
            accepted = this.started.socket.listener.accept() => control::accept(&control, accepted),
            Some(event) = events.recv() => this.note(event),
            Some(call) = stop_calls.recv() => this.begin_stop(call, &ended_state),
            step = climb(&mut this.ladder) => this.report(step),
            connected = &mut boot, if booting => {
                booting = false;
                this.booted(connected.map_err(|error| error.to_string()).and_then(|it| it));
            }
            () = ready(owner.as_ref()), if owned => {
                owned = false;
                this.stop_now(EndReason::OwnerDied, &ended_state);
            }
            () = this.started.socket.losses.changed() => this.restore_socket(),
            () = signals.any() => this.stop_now(EndReason::Requested, &ended_state),
            () = changes.registry() => {
                this.look_at_registry(&ended_state);
                later = LATER_LOOKS.iter();
                safety_net = Instant::now() + next_look(&mut later, &mut changes);
            }
            () = sleep_until(safety_net) => {
                safety_net = Instant::now() + next_look(&mut later, &mut changes);
                this.look_at_registry(&ended_state);
                this.restore_socket();
            }
        }
    };
    this.finish(reason, tasks, lock).await
}

fn next_look(later: &mut std::slice::Iter<'_, Duration>, changes: &mut Changes) -> Duration {
    let net = changes.safety_net();
    later.next().map_or(net, |look| net.min(*look))
}

async fn climb(ladder: &mut Option<Ladder>) -> StopStep {
    match ladder {
        Some(ladder) => ladder.climb.as_mut().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn ready(fd: Option<&AsyncFd<OwnedFd>>) {
    match fd {
        Some(fd) => drop(fd.readable().await),
        None => std::future::pending().await,
    }
}

/// Becomes readable when the process ends, or is so already when it has ended.
pub(super) fn watch(process: &crate::ProcessId) -> Result<AsyncFd<OwnedFd>, VmError> {
    let proc = Path::new("/proc");
    let fd = match process.open().io("watch", proc)? {
        Some(pidfd) => pidfd,
        // An event descriptor with a count is readable like the pidfd of an ended process.
        None => rustix::event::eventfd(
            1,
            rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC,
        )
        .io("watch", proc)?,
    };
    watched(fd).io("watch", proc)
}

/// Shakes hands with the agent as soon as it is up, and tells it what only the host knows.
async fn connect_agent(
    stream: std::io::Result<std::os::unix::net::UnixStream>,
    hostname: String,
) -> Result<AgentClient, String> {
    let connect = async {
        let stream = stream.and_then(UnixStream::from_std).map_err(|error| error.to_string())?;
        let describe = |error: AgentError| error.to_string();
        let agent = AgentClient::connect(stream, BOOT_LIMIT).await.map_err(describe)?;
        agent.configure(&Configure { hostname: Some(hostname), ..now() }).await.map_err(describe)?;
        Ok(agent)
    };
    connect.await
}

/// What a guest must be told whenever it (re)starts: the time, and randomness that nobody else has had.
pub(super) fn now() -> Configure {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Configure {
        hostname: None,
        realtime_ns: u64::try_from(since.as_nanos()).ok(),
        entropy_hex: Some(entropy()),
    }
}

fn entropy() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

impl Loop {
    fn note(&mut self, event: QmpEvent) {
        if event.name == "SHUTDOWN" {
            self.shutdown = event.data["reason"].as_str().map(str::to_owned);
        }
    }

    fn booted(&mut self, connected: Result<AgentClient, String>) {
        let state = match connected {
            Ok(agent) => AgentState::Ready(agent),
            Err(message) => {
                // One that is stopped while it boots is no news.
                if self.ladder.is_none() {
                    tracing::error!("the guest did not come up: {message}");
                }
                AgentState::Failed(message.into())
            }
        };
        self.agent.send_replace(state);
    }

    /// Begins to stop the VM, or to stop it sooner than it was asked before.
    fn begin_stop(&mut self, call: StopCall, ended: &watch::Receiver<bool>) {
        self.waiting.extend(call.done);
        let patience = Instant::now() + call.options.grace;
        let reason = match &self.ladder {
            Some(ladder) if ladder.patience <= patience => return,
            Some(ladder) => ladder.reason,
            None => call.reason,
        };
        self.pass(Point::StopRequested);
        if let Err(error) = self.started.registry.advance(&self.started.claim, StateEvent::StopRequested) {
            tracing::warn!("cannot record that the VM stops: {error}");
        }
        self.pass(Point::StopRecorded);
        let agent = match &*self.agent.borrow() {
            AgentState::Ready(agent) => Some(agent.clone()),
            _ => None,
        };
        let (qmp, hypervisor) = (self.started.qmp.clone(), self.started.hypervisor.clone());
        let climb = stop::climb(call.options, agent, qmp, hypervisor, ended.clone());
        self.ladder = Some(Ladder { climb: Box::pin(climb), reason, patience });
    }

    /// The end of a VM goes on whatever a test makes of one of its steps.
    fn pass(&self, point: Point) {
        if let Err(error) = fault::at(point) {
            tracing::error!("{error}");
        }
    }

    /// Somebody has removed the control socket: it is bound anew, unless something else is in its place.
    fn restore_socket(&mut self) {
        if let Err(error) = self.started.socket.restore() {
            tracing::warn!("the control socket is lost, the VM runs on: {error}");
        }
    }

    /// The guest is not asked: nobody is there to wait for it.
    fn stop_now(&mut self, reason: EndReason, ended: &watch::Receiver<bool>) {
        if self.ladder.is_none() {
            let options = StopOptions { grace: Duration::ZERO };
            self.begin_stop(StopCall { options, reason, done: None }, ended);
        }
    }

    /// An unreadable registry ends no VM: only a positive "stop" or "gone" does.
    fn look_at_registry(&mut self, ended: &watch::Receiver<bool>) {
        match self.started.registry.stop_requested(&self.started.claim) {
            Ok(Some(false)) => {}
            Ok(Some(true)) => {
                let call =
                    StopCall { options: StopOptions::default(), reason: EndReason::Requested, done: None };
                if self.ladder.is_none() {
                    self.begin_stop(call, ended);
                }
            }
            Ok(None) => self.stop_now(EndReason::Requested, ended),
            Err(error) => tracing::warn!("cannot read the registry, the VM runs on: {error}"),
        }
    }

    /// The ladder ends only after the hypervisor did, which ends the loop first; so this is never the last word.
    fn report(&mut self, step: StopStep) {
        tracing::debug!(?step, "the stop ladder is done");
        self.ladder = None;
    }

    fn end_reason(&self) -> EndReason {
        match (&self.ladder, self.shutdown.as_deref()) {
            (Some(ladder), _) => ladder.reason,
            (None, Some("guest-shutdown")) => EndReason::GuestPoweroff,
            (None, Some("guest-reset")) => EndReason::GuestReset,
            (None, _) => EndReason::HypervisorDied,
        }
    }

    async fn finish(mut self, reason: EndReason, tasks: TaskTracker, lock: VmLock) -> Result<(), VmError> {
        let status = self.started.child.process.take().and_then(|mut child| child.wait().ok());
        self.pass(Point::EndReaped);
        self.ended.send_replace(true);
        let step = match self.ladder.take() {
            Some(ladder) => ladder.climb.await,
            None => StopStep::NotRunning,
        };
        self.agent.send_replace(AgentState::Failed("the VM has ended".into()));
        self.started.executions.vm_ended(&end_text(reason)).await;
        self.record_end(reason, status, step);
        self.pass(Point::EndRecorded);
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(StopReport::of(step));
        }
        tasks.close();
        if timeout(FAREWELL, tasks.wait()).await.is_err() {
            tracing::warn!("{} answers were not taken within {FAREWELL:?}", tasks.len());
        }
        self.pass(Point::EndTold);
        let Started { paths, socket, registry, claim, owner, group, .. } = self.started;
        drop((socket, group));
        fault::at(Point::EndUnbound)?;
        leave(&paths, &registry, &claim, owner.as_ref(), lock)
    }

    fn record_end(&self, reason: EndReason, status: Option<ExitStatus>, step: StopStep) {
        let Started { registry, claim, .. } = &self.started;
        let mut end = VmEnd::of(reason);
        end.exit_code = status.and_then(|status| status.code());
        end.signal = status.and_then(|status| status.signal());
        end.detail = match step {
            StopStep::NotRunning => {
                crate::driver::qemu::log_tail(&self.started.paths.vm(&claim.id).join("qemu.log"))
            }
            step => format!("stopped by {step:?}").to_lowercase(),
        };
        if self.started.group.as_ref().is_some_and(Group::was_out_of_memory) {
            end.detail = format!("{OUT_OF_MEMORY}; {}", end.detail).trim_end_matches("; ").to_owned();
        }
        match registry.set_ended(claim, StateEvent::Ended, &end) {
            Ok(()) | Err(RegistryError::Superseded(_)) => {}
            Err(error) => tracing::error!("cannot record the end of the VM: {error}"),
        }
    }
}

fn end_text(reason: EndReason) -> String {
    let text = match reason {
        EndReason::Requested => "the VM was stopped",
        EndReason::GuestPoweroff => "the guest powered itself off",
        EndReason::GuestReset => "the guest rebooted or its kernel panicked",
        EndReason::HypervisorDied => "the hypervisor died",
        EndReason::OwnerDied => "the process that the VM was started for ended",
        EndReason::SupervisorDied | EndReason::HostRebooted | EndReason::StartFailed => "the VM ended",
    };
    text.to_owned()
}
