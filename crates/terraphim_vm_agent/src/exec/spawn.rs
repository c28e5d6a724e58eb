//! Making the process. Runs on a thread of its own, which the view it enters is confined to.

use std::{
    ffi::{CString, c_char},
    fs,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use rustix::{
    fs::{Mode, OFlags},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{WaitId, WaitIdOptions, waitid},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use terraphim_vm_protocol::{
    frame::Tag,
    message::{ExecExited, ExecFailed, ExecFailure, ExecRequest, TerminalSize},
};
use tokio::io::Interest;

use super::{
    exit_status, failed,
    plan::{self, Plan},
};
use crate::{
    reaper::{Claim, Reaper},
    tree::{Group, Groups, Tree},
    view::Namespace,
    watch::watch,
};

/// What Linux lets anyone ask for (`pipe-max-size`); bulk output then crosses in few, large reads.
const PIPE_SIZE: usize = 1 << 20;
/// clone(2); the constant of the `libc` crate is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A started process and the agent's ends of its streams.
pub(super) struct Process {
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
    request: &ExecRequest,
    view: Option<Namespace>,
    groups: Option<&Groups>,
    reaper: &Arc<Reaper>,
    number: u64,
) -> Result<Process, ExecFailed> {
    let resources =
        |what: &str, error: io::Error| failed(ExecFailure::Resources, format!("cannot {what}: {error}"));
    let group = groups.map(|groups| groups.make(number)).transpose();
    let group = group.map_err(|error| resources("make a control group", error))?;
    if let Some(view) = &view {
        view.enter().map_err(|error| resources("enter the view", error))?;
    }
    let plan = Plan::new(request)?;
    plan::write_files(&plan.user, &request.write_files)?;
    let streams = make_streams(request, plan.user.uid).map_err(|error| resources("make streams", error))?;
    launch(&plan, streams, group, reaper)
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
        (None, fs::File::open("/dev/null")?.into())
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

fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // Refused when the user has too many large pipes; the default size works too, only slower.
    let _ = fcntl_setpipe_size(&write, PIPE_SIZE);
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
    streams: Streams,
    group: Option<Group>,
    reaper: &Arc<Reaper>,
) -> Result<Process, ExecFailed> {
    let resources =
        |error: io::Error| failed(ExecFailure::Resources, format!("cannot start a process: {error}"));
    let group_fd = group.as_ref().map(Group::open).transpose().map_err(resources)?;
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| resources(error.into()))?;
    let child = Child::new(plan, &streams, child_report.as_raw_fd());
    let starting = reaper.starting();
    let started = Instant::now();
    let (pid, pidfd) = clone(&child, group_fd.as_ref()).map_err(resources)?;
    let claim = starting.claim(pid);
    drop((child_report, starting));
    let mut failure = [0; 8];
    // The child's end closes when it executes the program, or after it wrote why it could not.
    let outcome = fs::File::from(report).read_exact(&mut failure);
    let spawn_us = micros(started);
    if outcome.is_ok() {
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(explain(plan, failure));
    }
    let tree = Arc::new(Tree::new(pid, group, reaper.clone()));
    let Streams { stdin, outputs, terminal, child: _ } = streams;
    Ok(Process { pid, spawn_us, stdin, outputs, terminal, tree, pidfd, started, claim })
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Process {
    /// Waits for the end of the process, ends everything it left behind, and reaps it.
    pub(super) async fn wait(self) -> io::Result<ExecExited> {
        let pidfd = watch(self.pidfd, Interest::READABLE)?;
        let _ = pidfd.readable().await?;
        let duration_us = micros(self.started);
        // The zombie keeps its pid taken, so the group and session that are killed now are its own.
        let orphans_killed = self.tree.end().await;
        self.tree.forget_pid();
        let status = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), WaitIdOptions::EXITED)?;
        drop(self.claim);
        let status = status.as_ref().and_then(exit_status).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ExecExited { status, duration_us, orphans_killed })
    }
}

/// Where in the child something failed.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Stage {
    Session = 1,
    Streams = 2,
    Credentials = 3,
    Directory = 4,
    Execute = 5,
}

fn explain(plan: &Plan, report: [u8; 8]) -> ExecFailed {
    let [stage, errno] = [&report[..4], &report[4..]]
        .map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("half of eight bytes")));
    let errno = errno.cast_signed();
    let error = io::Error::from_raw_os_error(errno);
    let program = plan.argv[0].to_string_lossy();
    if stage == Stage::Directory as u32 {
        let message = format!("cannot enter working directory {}: {error}", plan.cwd.to_string_lossy());
        return failed(ExecFailure::WorkingDirectory, message);
    }
    if stage == Stage::Credentials as u32 {
        return failed(ExecFailure::BadRequest, format!("cannot become user `{}`: {error}", plan.user.name));
    }
    if stage != Stage::Execute as u32 {
        return failed(ExecFailure::Resources, format!("cannot prepare {program}: {error}"));
    }
    let message = format!("cannot execute {program}: {error}");
    match errno {
        libc::ENOENT | libc::ENOTDIR => {
            failed(ExecFailure::NotFound, format!("{message} (it, or the interpreter it names)"))
        }
        libc::ENOMEM | libc::EAGAIN | libc::ENFILE => failed(ExecFailure::Resources, message),
        libc::E2BIG => failed(ExecFailure::BadRequest, message),
        _ => failed(ExecFailure::NotExecutable, message),
    }
}

/// Plain pointers and numbers, so that the child only makes system calls.
struct Child<'a> {
    plan: &'a Plan,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    streams: [RawFd; 3],
    is_terminal: bool,
    report: RawFd,
}

impl<'a> Child<'a> {
    fn new(plan: &'a Plan, streams: &Streams, report: RawFd) -> Child<'a> {
        let pointers = |texts: &[CString]| {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        Child {
            plan,
            argv: pointers(&plan.argv),
            env: pointers(&plan.env),
            streams: [0, 1, 2].map(|index| streams.child[index].as_raw_fd()),
            is_terminal: streams.terminal.is_some(),
            report,
        }
    }

    /// The child's whole life until it becomes the program.
    fn run(&self) -> ! {
        let (stage, error) = self.become_program();
        let mut report = [0; 8];
        report[..4].copy_from_slice(&(stage as u32).to_ne_bytes());
        report[4..].copy_from_slice(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
        // SAFETY: writes from a local array and ends the process; nothing of it is used afterwards.
        unsafe {
            libc::write(self.report, report.as_ptr().cast(), report.len());
            libc::_exit(127)
        }
    }

    fn become_program(&self) -> (Stage, io::Error) {
        if let Err(error) = self.set_up_session() {
            return (Stage::Session, error);
        }
        if let Err(error) = self.set_up_streams() {
            return (Stage::Streams, error);
        }
        if let Err(error) = self.change_user() {
            return (Stage::Credentials, error);
        }
        // SAFETY: a C string that the plan owns.
        if unsafe { libc::chdir(self.plan.cwd.as_ptr()) } != 0 {
            return (Stage::Directory, io::Error::last_os_error());
        }
        (Stage::Execute, self.execute())
    }

    fn set_up_session(&self) -> io::Result<()> {
        // The agent's own priority and exemption from the out-of-memory killer are not for its children.
        reset_oom_score();
        // SAFETY: plain system calls on the child's own state; the C library's mask type is filled before its use.
        unsafe {
            check(libc::setsid().into())?;
            // Refused where the agent itself is below the normal priority; then that is the child's too.
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
            libc::umask(0o022);
            // The Rust runtime ignores it; programs expect to be ended by it.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into())
        }
    }

    fn set_up_streams(&self) -> io::Result<()> {
        for (target, source) in (0..).zip(self.streams) {
            // SAFETY: both are descriptors of the child; dup2 clears close-on-exec in the copy.
            check(unsafe { libc::dup2(source, target) }.into())?;
        }
        if self.is_terminal {
            // SAFETY: takes a number, not a pointer.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into())?;
        }
        // Whatever the agent inherited itself: the child has nothing but its standard streams.
        // SAFETY: marks descriptors of the child; the report's stays usable until the program is executed.
        check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
    }

    /// By system calls: the C library's versions would look for threads that the child does not have.
    fn change_user(&self) -> io::Result<()> {
        if !self.plan.changes_user {
            return Ok(());
        }
        let user = &self.plan.user;
        // SAFETY: the kernel reads `len` numbers from the plan's slice; the others take numbers.
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()))?;
            check(libc::syscall(libc::SYS_setresgid, user.gid, user.gid, user.gid))?;
            check(libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid))
        }
    }

    /// Tries every place in `PATH`; a program that may not be executed is only reported when no other is found.
    fn execute(&self) -> io::Error {
        let mut forbidden = false;
        let mut last = libc::ENOENT;
        for candidate in &self.plan.candidates {
            // SAFETY: null-terminated arrays of C strings that the plan owns; on success this never returns.
            unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
            last = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            match last {
                libc::EACCES => forbidden = true,
                libc::ENOENT | libc::ENOTDIR => {}
                _ => return io::Error::from_raw_os_error(last),
            }
        }
        io::Error::from_raw_os_error(if forbidden { libc::EACCES } else { last })
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn reset_oom_score() {
    if let Ok(file) =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = rustix::io::write(&file, b"0");
    }
}

/// clone3(2): straight into the control group, and with a pidfd that was never anybody else's.
fn clone(child: &Child<'_>, group: Option<&OwnedFd>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero bytes are valid clone_args, plain numbers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD.cast_unsigned().into();
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd().cast_unsigned().into();
    }
    let masked = mask_signals()?;
    // SAFETY: without CLONE_VM this is fork(2): the child has a copy of memory and of this thread alone, and only makes
    // system calls, since another thread may have held any lock at this moment.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        child.run();
    }
    let error = io::Error::last_os_error();
    // SAFETY: restores the mask that `mask_signals` returned.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const masked, std::ptr::null_mut()) };
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(error)?;
    // SAFETY: the kernel stored a new descriptor, which nothing else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Blocks all signals in this thread: a handler of the agent must not run in the child. Returns the mask before.
fn mask_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets are filled by the C library before they are used.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
            0 => Ok(before),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
