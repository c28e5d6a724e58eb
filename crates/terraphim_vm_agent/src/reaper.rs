//! Zombies. The first process of each execution is reaped by its own execution, which needs the pid to stay taken
//! until everything it left behind is dead; whatever else became a child of this process is reaped here.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

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

    /// Reaps for as long as the process lives. Needs a tokio runtime.
    pub(crate) fn run(self: Arc<Reaper>) -> std::io::Result<impl Future<Output = ()>> {
        let mut child = signal(SignalKind::child())?;
        Ok(async move {
            loop {
                tokio::select! {
                    _ = child.recv() => {}
                    () = self.changed.notified() => {}
                }
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
        let state = self.lock();
        if state.starting > 0 {
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
        self.0.lock().starting -= 1;
        self.0.changed.notify_one();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.reaper.lock().claimed.remove(&self.pid);
        self.reaper.changed.notify_one();
    }
}
