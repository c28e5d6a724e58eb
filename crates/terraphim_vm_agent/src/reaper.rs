//! Zombies. The first process of each execution is reaped by its own execution, which needs the pid to stay taken
//! until everything it left behind is dead; whatever else became a child of this process is reaped here.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use crate::watch::watch;

/// Which children are not to be reaped here.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    /// Taken for a few instructions at a time, by the threads that start processes too.
    state: Mutex<State>,
    changed: Notify,
    no_children: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Processes being started: a child seen meanwhile may be one whose pid is not yet claimed.
    starting: usize,
    /// Something ended while a process was being started.
    is_behind: bool,
    claimed: HashSet<i32>,
}

/// A process is being started; nothing is reaped while this lives.
pub(crate) struct Starting(Arc<Reaper>);

/// A child that its holder reaps.
#[derive(Debug)]
pub(crate) struct Claim {
    reaper: Arc<Reaper>,
    pid: i32,
}

impl Reaper {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn starting(self: &Arc<Reaper>) -> Starting {
        self.lock().starting += 1;
        Starting(self.clone())
    }

    /// Whether this child belongs to an execution.
    pub(crate) fn is_claimed(&self, pid: i32) -> bool {
        self.lock().claimed.contains(&pid)
    }

    /// How many executions have a live first process.
    pub(crate) fn claimed(&self) -> usize {
        self.lock().claimed.len()
    }

    /// Reaps for as long as the process lives. Needs a tokio runtime, and to be called before there is another thread.
    pub(crate) fn run(self: Arc<Reaper>) -> io::Result<impl Future<Output = ()>> {
        let ends = watch(ends_of_children()?, Interest::READABLE)?;
        Ok(async move {
            loop {
                tokio::select! {
                    () = next_end(&ends) => {}
                    () = self.changed.notified() => {}
                }
                // The execution whose process has just ended answers first.
                tokio::task::yield_now().await;
                self.pass();
            }
        })
    }

    /// Returns when no child is left; only when nothing starts processes any more.
    pub(crate) async fn wait_for_no_children(&self) {
        let none = self.no_children.notified();
        self.changed.notify_one();
        none.await;
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.is_behind = state.starting > 0;
        if state.is_behind {
            return;
        }
        loop {
            let pid = match peek() {
                Ok(Some(pid)) => pid,
                Err(Errno::CHILD) => return self.no_children.notify_waiters(),
                Ok(None) | Err(_) => return,
            };
            // It hides the zombies behind it for as long as its execution needs; then there is another pass.
            if state.claimed.contains(&pid.as_raw_nonzero().get()) {
                return;
            }
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

/// A descriptor that tells of `SIGCHLD`, which from now on interrupts nobody: in an emulated guest a handler costs as much
/// as ten system calls. Threads that are started later have the mask too; a process that is started has an empty one.
fn ends_of_children() -> io::Result<OwnedFd> {
    // SAFETY: the C library fills the set before it is used; the others take it by pointer for the call only.
    unsafe {
        let mut child = std::mem::zeroed();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const child, std::ptr::null_mut()) {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        match libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Returns when a child has ended since the last call. Several ends may be one signal (signal(7)).
async fn next_end(ends: &AsyncFd<OwnedFd>) {
    let mut information = [0; size_of::<libc::signalfd_siginfo>()];
    loop {
        match rustix::io::read(ends.as_fd(), &mut information[..]) {
            Err(Errno::AGAIN) => {}
            // Nothing else fails: the descriptor is open and the room is enough (signalfd(2)).
            Ok(_) | Err(_) => return,
        }
        // An error would be that of a runtime that ends.
        if let Ok(mut guard) = ends.readable().await {
            guard.clear_ready();
        }
    }
}

/// A zombie child, left as it is; `None` when all children live.
fn peek() -> Result<Option<Pid>, Errno> {
    // SAFETY: all-zero bytes are a valid siginfo_t, plain old data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one siginfo_t, to which `info` gives it room.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, look) } == -1 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    // SAFETY: waitid(2) fills the SIGCHLD fields, or leaves them zero when no child has ended.
    Ok(Pid::from_raw(unsafe { info.si_pid() }))
}

impl Starting {
    /// The started child, to be reaped by the caller.
    pub(crate) fn claim(&self, pid: i32) -> Claim {
        self.0.lock().claimed.insert(pid);
        Claim { reaper: self.0.clone(), pid }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.starting -= 1;
        if state.is_behind {
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.reaper.lock().claimed.remove(&self.pid);
        self.reaper.changed.notify_one();
    }
}
