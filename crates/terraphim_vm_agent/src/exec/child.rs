//! The new process until it becomes the program.
//!
//! As after vfork(2) it shares the agent's memory and the thread that made it stands still meanwhile: a copy of the
//! memory would cost an emulated guest more than all the rest. So the child makes system calls and nothing else, on a
//! stack of its own, and tells by a number in that memory what went wrong.

use std::{
    arch::asm,
    ffi::c_char,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{plan::Plan, texts::Texts};

/// clone(2); the constants of the `libc` crate are too narrow for their values.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
/// The child calls a dozen system calls from a few small functions; unoptimised ones need some KiB.
const STACK_SIZE: usize = 64 * 1024;

/// Where in the child something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Session,
    Streams,
    Credentials,
    Directory,
    Execute,
}

impl Stage {
    const ALL: [Stage; 5] =
        [Stage::Session, Stage::Streams, Stage::Credentials, Stage::Directory, Stage::Execute];
}

/// Why the child did not become the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) errno: i32,
}

/// Plain pointers and numbers, so that the child only makes system calls.
pub(super) struct Child<'a> {
    plan: &'a Plan,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    candidates: Vec<*const c_char>,
    streams: [RawFd; 3],
    is_terminal: bool,
    /// What the child leaves here: 0, or the stage's number plus one and the error's number.
    report: AtomicU64,
}

impl<'a> Child<'a> {
    pub(super) fn new(plan: &'a Plan, streams: [RawFd; 3], is_terminal: bool) -> Child<'a> {
        let terminated = |texts: &Texts| {
            let mut pointers = texts.pointers();
            pointers.push(std::ptr::null());
            pointers
        };
        Child {
            plan,
            argv: terminated(&plan.argv),
            env: terminated(&plan.env),
            candidates: plan.candidates.pointers(),
            streams,
            is_terminal,
            report: AtomicU64::new(0),
        }
    }

    /// Starts the process and returns when it has become the program, or could not: straight into the control group,
    /// and with a pidfd that was never anybody else's. A process that failed is still to be reaped.
    pub(super) fn start(&self, group: Option<&OwnedFd>) -> io::Result<(i32, OwnedFd)> {
        let mut pidfd: RawFd = -1;
        let mut stack = Box::<[MaybeUninit<u8>]>::new_uninit_slice(STACK_SIZE);
        let base = stack.as_mut_ptr() as usize;
        // SAFETY: all-zero bytes are valid clone_args, plain numbers.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        let flags = libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK;
        // No handler of the agent may run in the child.
        args.flags = u64::from(flags.cast_unsigned()) | CLONE_CLEAR_SIGHAND;
        args.pidfd = (&raw mut pidfd) as u64;
        args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
        args.stack = base as u64;
        // The x86-64 ABI wants the stack on a multiple of 16 at a call.
        args.stack_size = ((base + STACK_SIZE) & !15) as u64 - base as u64;
        if let Some(group) = group {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = group.as_raw_fd().cast_unsigned().into();
        }
        let masked = mask_signals()?;
        // SAFETY: `args` names a stack that lives until the call returns, which is after the child left this memory;
        // `self` does too, and `enter` never returns.
        let pid = unsafe { clone3(&args, enter, std::ptr::from_ref(self).cast()) };
        // SAFETY: restores the mask that `mask_signals` returned.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const masked, std::ptr::null_mut()) };
        drop(stack);
        let refused = io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EIO));
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(refused)?;
        // SAFETY: the kernel stored a new descriptor, which nothing else owns.
        Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }

    /// Why the started process did not become the program; `None` when it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        let report = self.report.load(Ordering::Acquire);
        let [errno, stage] = [report, report >> 32].map(|half| i32::try_from(half & 0xffff_ffff));
        let index = usize::try_from(stage.ok()?).ok()?.checked_sub(1)?;
        Some(Failure { stage: *Stage::ALL.get(index)?, errno: errno.unwrap_or(libc::EIO) })
    }

    /// The child's whole life until it becomes the program.
    fn run(&self) -> ! {
        let (stage, error) = self.become_program();
        let errno = error.raw_os_error().unwrap_or(libc::EIO).cast_unsigned();
        self.report.store((stage as u64 + 1) << 32 | u64::from(errno), Ordering::Release);
        // SAFETY: ends the process; nothing of it is used afterwards.
        unsafe { libc::_exit(127) }
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
        // SAFETY: plain system calls on the child's own state; the C library's mask type is filled before its use.
        unsafe {
            check(libc::setsid().into())?;
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
        // SAFETY: marks descriptors of the child, which has a table of its own.
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
        for &candidate in &self.candidates {
            last = self.execute_at(candidate);
            match last {
                libc::EACCES => forbidden = true,
                libc::ENOENT | libc::ENOTDIR => {}
                _ => break,
            }
        }
        let is_absent = matches!(last, libc::ENOENT | libc::ENOTDIR);
        io::Error::from_raw_os_error(if forbidden && is_absent { libc::EACCES } else { last })
    }

    /// Becomes this program, or says why not.
    fn execute_at(&self, candidate: *const c_char) -> i32 {
        let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        // execve(2) copies all arguments and variables before it looks for the file: in most places of `PATH` for nothing.
        // SAFETY: a C string that the plan owns.
        if self.candidates.len() > 1 && unsafe { libc::access(candidate, libc::F_OK) } != 0 {
            let why = errno();
            if matches!(why, libc::ENOENT | libc::ENOTDIR) {
                return why;
            }
        }
        // SAFETY: null-terminated arrays of C strings that the plan owns; on success this never returns.
        unsafe { libc::execve(candidate, self.argv.as_ptr(), self.env.as_ptr()) };
        errno()
    }
}

/// Where the child begins.
extern "C" fn enter(child: *const libc::c_void) -> ! {
    // SAFETY: `Child::start` passes itself, and stands still until the child has left this memory.
    let child = unsafe { &*child.cast::<Child<'_>>() };
    child.run()
}

/// clone3(2) with a function for the child. The C library has no such call, and its clone(2) knows no control groups.
///
/// # Safety
/// `args` must give the child a stack of its own, and `child` must not return.
unsafe fn clone3(
    args: &libc::clone_args,
    child: extern "C" fn(*const libc::c_void) -> !,
    argument: *const libc::c_void,
) -> i64 {
    let pid: i64;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11, in the child too, which has only its stack pointer
    // changed; that one points to the end of the stack in `args`, where `call` may write.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // The outermost frame, for whoever walks the stack.
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => pid,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") child,
            in("r9") argument,
            out("rcx") _,
            out("r11") _,
        );
    }
    pid
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks all signals in this thread: none may interrupt the child while it has the agent's memory. Returns the mask
/// before.
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
