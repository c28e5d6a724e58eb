//! From the command line to the loop.

use std::{ffi::OsString, io, process::ExitCode};

use rustix::process::Pid;

use super::{SupervisorArgs, keeper, lifeline::Lifeline, run, start};
use crate::{VmError, chain};

/// The supervisor's whole life. To be called first thing in the program, before any thread exists: it forks, so that
/// it is nobody's child but its keeper's, and makes a session of its own, so that no terminal can end it.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let Some(args) = SupervisorArgs::from_os_args(args) else { return ExitCode::from(2) };
    match detach() {
        Ok(Role::Starter) => return ExitCode::SUCCESS,
        Ok(Role::Keeper(supervisor)) => {
            // Only the supervisor may hold the line: its end is how the starter learns of a death.
            drop(Lifeline::take(&args));
            return keeper::keep(supervisor, &args);
        }
        Ok(Role::Supervisor) => {}
        Err(error) => {
            tracing::error!("cannot detach: {error}");
            return ExitCode::FAILURE;
        }
    }
    let mut lifeline = Lifeline::take(&args);
    match supervise(&args, &mut lifeline) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started it says for itself that this VM cannot be started.
            let message = if let VmError::Start { message, .. } = error { message } else { chain(&error) };
            tracing::error!("{message}");
            lifeline.send(&super::Readiness::Failed(message));
            ExitCode::FAILURE
        }
    }
}

enum Role {
    Starter,
    Keeper(Pid),
    Supervisor,
}

fn detach() -> io::Result<Role> {
    if fork()?.is_some() {
        return Ok(Role::Starter);
    }
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::chdir("/")?;
    if let Some(supervisor) = fork()? {
        let _ = rustix::thread::set_name(c"tci-keeper");
        return Ok(Role::Keeper(supervisor));
    }
    // Apart from the keeper's, so that what is sent to one session does not reach both.
    rustix::process::setsid()?;
    let _ = rustix::thread::set_name(c"tci-supervisor");
    Ok(Role::Supervisor)
}

/// The child's pid in the parent, `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the process has one thread, so the child may go on as any process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

fn supervise(args: &SupervisorArgs, lifeline: &mut Lifeline) -> Result<(), VmError> {
    // One thread: the hypervisor's life hangs on the thread that starts it (see `Machine::spawn`).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| VmError::Io { operation: "start the runtime in", path: "/".into(), source })?;
    runtime.block_on(async {
        let Some((started, signals, lock)) = start::start(args, lifeline).await? else { return Ok(()) };
        run::run(started, signals, lock).await
    })
}
