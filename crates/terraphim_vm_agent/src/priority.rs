//! The agent comes first: it does little, and that at once, however many processes of a job want the processor.
//!
//! Among the thousand processes of a fork bomb the best "nice" value is a few per cent of one processor. A real-time policy
//! comes before all of them, and sched(7)'s "reset on fork" keeps it from what is started; the kernel leaves the others one
//! twentieth of the time in any case (`sched_rt_runtime_us`).

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

static COMES_FIRST: AtomicBool = AtomicBool::new(false);

/// Puts the calling thread first, and later threads that call [`follow`].
pub(crate) fn come_first() -> io::Result<()> {
    set()?;
    COMES_FIRST.store(true, Ordering::Relaxed);
    Ok(())
}

/// Puts a new thread of the agent where the first one is.
pub(crate) fn follow() {
    if COMES_FIRST.load(Ordering::Relaxed) {
        // What the first thread could, this one can.
        let _ = set();
    }
}

/// By the system call: the C library's function refuses, as POSIX means processes where Linux means threads.
fn set() -> io::Result<()> {
    let lowest: libc::c_int = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads a `sched_param`, which is one number; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const lowest) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
