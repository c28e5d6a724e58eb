//! Making the process. Runs on a [worker](crate::worker): it enters the view, and stands still until the program runs.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, OnceLock},
    time::Instant,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{WaitId, WaitIdOptions, waitid},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use terraphim_vm_protocol::{
    frame::Tag,
    message::{ExecExited, ExecFailed, ExecFailure, ExecRequest, TerminalSize},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    child::{Child, Failure, Stage},
    exit_status, failed,
    output::Output,
    plan::Plan,
    written::{self, Blank},
};
use crate::{
    reaper::{Claim, Reaper},
    tree::{Group, Groups, Tree},
    users::User,
    view::Namespace,
    watch::watch,
    worker::Seat,
};

/// A started process and the agent's ends of its streams.
pub(super) struct Process {
    /// Whose it is.
    pub(super) user: User,
    /// The files to return that were written for it, see [`Blank`].
    pub(super) blank: Option<Blank>,
    pub(super) pid: i32,
    pub(super) spawn_us: u64,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) outputs: Vec<(Tag, OwnedFd)>,
    /// The pseudo-terminal, to change its size.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) tree: Arc<Tree>,
    pidfd: OwnedFd,
    started: Instant,
    claim: Claim,
}

/// The standard streams: the agent's ends, and the child's.
struct Streams {
    stdin: Option<OwnedFd>,
    outputs: Vec<(Tag, OwnedFd)>,
    terminal: Option<OwnedFd>,
    child: [OwnedFd; 3],
}

/// Starts the process of a request.
pub(super) fn start(
    seat: &mut Seat,
    request: &ExecRequest,
    view: Option<Namespace>,
    groups: Option<&Groups>,
    reaper: &Arc<Reaper>,
) -> Result<Process, ExecFailed> {
    let resources =
        |what: &str, error: io::Error| failed(ExecFailure::Resources, format!("cannot {what}: {error}"));
    let group = groups.map(Groups::take).transpose();
    let group = group.map_err(|error| resources("make a control group", error))?;
    if let Some(view) = &view {
        seat.enter(view).map_err(|error| resources("enter the view", error))?;
    }
    let plan = Plan::new(request)?;
    let blank = written::write_files(seat, &plan.user, request)?;
    let streams = make_streams(request, plan.user.uid).map_err(|error| resources("make streams", error))?;
    launch(&plan, blank, streams, group, reaper)
}

fn make_streams(request: &ExecRequest, uid: u32) -> io::Result<Streams> {
    if let Some(size) = request.terminal {
        return make_terminal(request, size, uid);
    }
    let (stdin, child_stdin) = if request.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        (Some(write), read)
    } else {
        (None, nothing()?)
    };
    let (out, child_out) = output_pipe()?;
    let (err, child_err) = output_pipe()?;
    Ok(Streams {
        stdin,
        outputs: vec![(Tag::Stdout, out), (Tag::Stderr, err)],
        terminal: None,
        child: [child_stdin, child_out, child_err],
    })
}

/// The input of a process that has none. Opened once: the copies have nothing in common that a process could change.
fn nothing() -> io::Result<OwnedFd> {
    static NOTHING: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(nothing) = NOTHING.get() {
        return nothing.try_clone();
    }
    let opened: OwnedFd = fs::File::open("/dev/null")?.into();
    NOTHING.get_or_init(|| opened).try_clone()
}

fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

fn make_terminal(request: &ExecRequest, size: TerminalSize, uid: u32) -> io::Result<Streams> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    set_size(&master, size)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    }
    rustix::io::ioctl_fionbio(&master, true)?;
    let stdin = if request.stdin { Some(master.try_clone()?) } else { None };
    Ok(Streams {
        stdin,
        outputs: vec![(Tag::Stdout, master.try_clone()?)],
        terminal: Some(master),
        child: [slave.try_clone()?, slave.try_clone()?, slave],
    })
}

/// Changes the size of a pseudo-terminal; its foreground processes get `SIGWINCH`.
pub(super) fn set_size(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

fn launch(
    plan: &Plan,
    blank: Option<Blank>,
    streams: Streams,
    group: Option<Group>,
    reaper: &Arc<Reaper>,
) -> Result<Process, ExecFailed> {
    let resources =
        |error: io::Error| failed(ExecFailure::Resources, format!("cannot start a process: {error}"));
    let descriptors = [0, 1, 2].map(|index| streams.child[index].as_raw_fd());
    let child = Child::new(plan, descriptors, streams.terminal.is_some());
    let starting = reaper.starting();
    let started = Instant::now();
    let (pid, pidfd) = child.start(group.as_ref().map(Group::directory)).map_err(resources)?;
    let claim = starting.claim(pid);
    drop(starting);
    let spawn_us = micros(started);
    if let Some(failure) = child.failure() {
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(explain(plan, failure));
    }
    let tree = Arc::new(Tree::new(pid, group, reaper.clone()));
    let Streams { stdin, outputs, terminal, child: _ } = streams;
    Ok(Process {
        user: plan.user.clone(),
        blank,
        pid,
        spawn_us,
        stdin,
        outputs,
        terminal,
        tree,
        pidfd,
        started,
        claim,
    })
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a process leaves: a zombie, an empty control group, and the agent's ends of its outputs.
pub(super) struct Remains {
    pidfd: Option<AsyncFd<OwnedFd>>,
    pub(super) outputs: Vec<Output>,
    claim: Claim,
    tree: Arc<Tree>,
    /// The rest of the tree is to live on.
    pub(super) goes_on: bool,
}

impl Process {
    /// Waits for the end of the process, and ends everything it left behind unless that is to be kept.
    pub(super) async fn wait(self, keeps: bool) -> (io::Result<ExecExited>, Remains) {
        let Process { pidfd, started, claim, tree, .. } = self;
        let mut remains = Remains { pidfd: None, outputs: Vec::new(), claim, tree, goes_on: false };
        let exited = async {
            let pidfd = remains.pidfd.insert(watch(pidfd, Interest::READABLE)?);
            let _ = pidfd.readable().await?;
            let duration_us = micros(started);
            // The zombie keeps its pid taken, so the group and session that are killed now are its own.
            remains.goes_on = keeps && remains.tree.may_go_on();
            let orphans_killed = if remains.goes_on { 0 } else { remains.tree.end().await };
            remains.tree.forget_pid();
            // Left as it is: reaping it can wait until the host has its answer.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let status = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), look)?;
            let status = status.as_ref().and_then(exit_status).ok_or(io::ErrorKind::InvalidData)?;
            Ok(ExecExited { status, duration_us, orphans_killed })
        };
        let exited = exited.await;
        (exited, remains)
    }
}

impl Remains {
    /// Reaps the zombie, closes what is open, and keeps the group for the next execution. What goes on is returned, with
    /// where it writes.
    pub(super) fn put_away(self, groups: Option<&Groups>) -> Option<(Arc<Tree>, Vec<Output>)> {
        self.tree.forget_pid();
        if let Some(pidfd) = &self.pidfd {
            // It has ended, so this does not wait.
            let _ = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
        }
        drop(self.claim);
        if self.goes_on {
            return Some((self.tree, self.outputs));
        }
        if let (Some(groups), Some(tree)) = (groups, Arc::into_inner(self.tree)) {
            tree.give_back(groups);
        }
        None
    }
}

fn explain(plan: &Plan, failure: Failure) -> ExecFailed {
    let Failure { stage, errno } = failure;
    let error = io::Error::from_raw_os_error(errno);
    let program = plan.argv.iter().next().unwrap_or_default().to_string_lossy();
    if stage == Stage::Directory {
        let message = format!("cannot enter working directory {}: {error}", plan.cwd.to_string_lossy());
        return failed(ExecFailure::WorkingDirectory, message);
    }
    if stage == Stage::Credentials {
        return failed(ExecFailure::BadRequest, format!("cannot become user `{}`: {error}", plan.user.name));
    }
    if stage != Stage::Execute {
        return failed(ExecFailure::Resources, format!("cannot prepare {program}: {error}"));
    }
    let message = format!("cannot execute {program}: {error}");
    match errno {
        libc::ENOENT | libc::ENOTDIR => {
            failed(ExecFailure::NotFound, format!("{message} (it, or the interpreter it names)"))
        }
        libc::ENOMEM | libc::EAGAIN | libc::ENFILE => failed(ExecFailure::Resources, message),
        _ => failed(ExecFailure::NotExecutable, message),
    }
}
