//! Ending a child the moment its parent dies.
//!
//! `PR_SET_PDEATHSIG` comes last of all that the kernel does for a process that ends: after its memory is freed and its
//! files are closed, and to close one inotify instance alone takes milliseconds (it waits for readers, `fsnotify_destroy_group`).
//! So the child also has the reading end of a pipe that only the parent can write to, and has asked for `SIGKILL` when
//! something happens to it (fcntl(2), `F_SETOWN`, `F_SETSIG`, `O_ASYNC`). Nothing is ever written: what happens is the parent's end.
//! Unlike the other signal, this one does not depend on the thread that started the child.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    pipe::{PipeFlags, pipe_with},
};

/// The parent's end has at least this number. What is to be done for closed files is done last closed first
/// (`task_work_run` in the kernel), and they are closed by their numbers.
const LAST: i32 = 200;

/// The parent's end, whose closing kills the child, and the child's, which it has to keep open.
pub(super) fn leash() -> io::Result<(OwnedFd, OwnedFd)> {
    let (child_end, parent_end) = pipe_with(PipeFlags::CLOEXEC)?;
    // A process that may not have so many has not many others to close either.
    Ok((fcntl_dupfd_cloexec(&parent_end, LAST).unwrap_or(parent_end), child_end))
}

/// Called in the child between fork and exec. Makes system calls only.
pub(super) fn put_on(child_end: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all of these take numbers, no pointers.
    let set = |command: i32, argument: i32| match unsafe {
        libc::fcntl(child_end.as_raw_fd(), command, argument)
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: takes nothing.
    set(libc::F_SETOWN, unsafe { libc::getpid() })?;
    set(F_SETSIG, libc::SIGKILL)?;
    set(libc::F_SETFL, libc::O_ASYNC)
}

/// fcntl(2); the `libc` crate has it for other systems only.
const F_SETSIG: i32 = 10;

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::AsFd as _,
            unix::process::{CommandExt as _, ExitStatusExt as _},
        },
        process::Command,
    };

    use super::*;

    #[test]
    fn a_child_dies_with_the_parent_s_end_and_not_before() {
        let (parent_end, child_end) = leash().unwrap();
        assert!(parent_end.as_raw_fd() >= LAST);
        let mut command = Command::new("sleep");
        let setup = move || {
            put_on(child_end.as_fd())?;
            crate::process::inherit_only([child_end.as_fd()].into_iter())
        };
        // SAFETY: between fork and exec the closure makes system calls only and allocates nothing.
        unsafe { command.arg("1000").pre_exec(setup) };
        let mut child = command.spawn().unwrap();
        drop(command);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(child.try_wait().unwrap(), None);
        drop(parent_end);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
