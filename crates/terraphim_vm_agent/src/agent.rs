//! The agent's state, its two ways to start, and its one loop.

use std::{
    cell::OnceCell,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
};

use rustix::io::FdFlags;
use terraphim_vm_protocol::AGENT_PORT;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, UnixStream},
    runtime::{Builder, LocalOptions},
    sync::watch,
    task::JoinSet,
};

use crate::{
    boot, calls::info::Machine, forward::Forwards, kmsg, left::Left, link::Link, port::Port, priority,
    reaper::Reaper, server, tree::Groups, view::Views, worker::Workers,
};

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// PID 1: the machine is its own.
    Init,
    /// A guest on somebody's machine: it changes nothing outside its children.
    Serve,
}

/// What the calls share. Everything runs on one thread; threads get what they need handed over.
pub(crate) struct Agent {
    pub(crate) role: Role,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) groups: Option<Arc<Groups>>,
    pub(crate) views: Rc<Views>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) left: Left,
    pub(crate) forwards: Forwards,
    /// What went wrong during start-up without ending it.
    pub(crate) warnings: Vec<String>,
    /// Read when the host asks for the first time.
    pub(crate) machine: OnceCell<Machine>,
    /// Whether this process is to end as soon as everything has been said.
    pub(crate) ending: watch::Sender<bool>,
}

impl Agent {
    fn new(role: Role, groups: Option<Groups>, warnings: Vec<String>) -> io::Result<Rc<Agent>> {
        Ok(Rc::new(Agent {
            role,
            reaper: Arc::default(),
            groups: groups.map(Arc::new),
            views: Rc::default(),
            workers: Arc::new(Workers::new()?),
            left: Left::default(),
            forwards: Forwards::default(),
            warnings,
            machine: OnceCell::new(),
            ending: watch::Sender::new(false),
        }))
    }
}

/// Starts the guest and serves it until it is powered off.
pub(crate) fn run_init() -> ExitCode {
    let mut booted = match boot::boot() {
        Ok(booted) => booted,
        Err(error) => boot::give_up(&format!("cannot start the guest: {error}")),
    };
    let groups = Groups::prepare(Path::new("/sys/fs/cgroup"));
    let groups = groups.map_err(|error| booted.warnings.push(format!("no control groups: {error}"))).ok();
    for warning in &booted.warnings {
        kmsg::say(warning);
    }
    let agent = match Agent::new(Role::Init, groups, booted.warnings) {
        Ok(agent) => agent,
        Err(error) => boot::give_up(&format!("cannot find the agent's own mounts: {error}")),
    };
    let ended = run(agent, async move |agent| {
        let device = booted.uevents.wait_for("the agent's port", || crate::port::find(AGENT_PORT))?;
        let mut port = Port::open(&device)?;
        let mut ending = agent.ending.subscribe();
        loop {
            tokio::select! {
                connected = port.wait_for_host() => connected?,
                _ = ending.wait_for(|ending| *ending) => return Ok(()),
            }
            serve_connections(&mut Link::new(&mut port), agent).await;
        }
    });
    match ended {
        Ok(()) => boot::power_off(),
        Err(error) => boot::give_up(&format!("cannot go on: {error}")),
    }
}

/// Serves the socket `fd`: a connected one until its end, or every connection that a listening one takes.
pub(crate) fn run_serve(fd: &str) -> ExitCode {
    let served = socket(fd).and_then(|fd| {
        let agent = Agent::new(Role::Serve, None, Vec::new())?;
        // What a process leaves behind becomes a child of this process, as it would of PID 1.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        run(agent, async move |agent| serve_socket(fd, agent).await)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            kmsg::say(&format!("cannot serve descriptor {fd}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn socket(fd: &str) -> io::Result<OwnedFd> {
    let number: RawFd = fd.parse().map_err(|_| io::Error::other("it is not a number"))?;
    if number <= 2 {
        return Err(io::Error::other("it is a standard stream"));
    }
    // SAFETY: the caller of this program passed the descriptor to it, and nothing here has opened any yet.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    debug_assert_eq!(socket.as_raw_fd(), number);
    Ok(socket)
}

async fn serve_socket(socket: OwnedFd, agent: &Rc<Agent>) -> io::Result<()> {
    if rustix::net::sockopt::socket_acceptconn(&socket)? {
        let listener = UnixListener::from_std(socket.into())?;
        let mut ending = agent.ending.subscribe();
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                _ = ending.wait_for(|ending| *ending) => return Ok(()),
            };
            serve_connections(&mut Link::new(stream), agent).await;
        }
    }
    let stream = UnixStream::from_std(socket.into())?;
    serve_connections(&mut Link::new(stream), agent).await;
    Ok(())
}

/// The work is a task like any other: what wakes the future of `block_on` itself costs two more system calls each time.
fn run(agent: Rc<Agent>, work: impl AsyncFnOnce(&Rc<Agent>) -> io::Result<()> + 'static) -> io::Result<()> {
    let mut builder = Builder::new_current_thread();
    let runtime =
        builder.enable_all().on_thread_start(priority::follow).build_local(LocalOptions::default())?;
    runtime.block_on(async {
        tokio::task::spawn_local(agent.reaper.clone().run()?);
        let work = tokio::task::spawn_local(async move { work(&agent).await });
        work.await.map_err(io::Error::other)?
    })
}

/// Connection after connection on one stream, until its end. What a connection started has ended before the next begins.
async fn serve_connections<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>, agent: &Rc<Agent>) {
    loop {
        // An error of the stream is its end: the host is gone, and comes back on a new one if at all.
        let mut ending = agent.ending.subscribe();
        tokio::select! {
            greeted = link.handshake() => if !greeted.unwrap_or(false) { return },
            _ = ending.wait_for(|ending| *ending) => return,
        }
        let mut calls = JoinSet::new();
        server::serve(&mut *link, agent, &mut calls).await;
        while calls.join_next().await.is_some() {}
        if !link.is_superseded() {
            return;
        }
    }
}

/// The id of this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}
