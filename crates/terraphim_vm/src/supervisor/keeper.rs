//! The supervisor's parent: it waits, and when the supervisor dies without a word it says so in the registry.
//!
//! The kernel ends the hypervisor with its supervisor, but nobody would write that down before the next command. This process
//! is the fork that the supervisor needs anyway to be nobody's child; it has started no runtime and opened nothing, so it
//! costs a few pages. Killing it harms nothing: the next command does its work. It is also who reaps: the supervisor, and
//! what the supervisor leaves, on hosts whose PID 1 does not.

use std::{io, process::ExitCode};

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, set_child_subreaper, wait, waitpid},
};

use super::SupervisorArgs;
use crate::{
    Host,
    fault::{self, Point},
};

/// Waits for the supervisor. One that ended as it should has left nothing to do.
pub(super) fn keep(supervisor: Pid, args: &SupervisorArgs) -> ExitCode {
    // Without it the hypervisor is reaped by PID 1, which is as good on most hosts.
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
    let ended = match await_child(supervisor) {
        Ok(status) if status.exit_status() == Some(0) => return ExitCode::SUCCESS,
        Ok(status) => describe(status),
        Err(error) => format!("the supervisor cannot be waited for: {error}"),
    };
    let repaired = fault::at(Point::KeeperWoken)
        .and_then(|()| Host::open(args.paths.clone()))
        .and_then(|host| host.repair_because(&args.id, &ended));
    while wait(WaitOptions::NOHANG).is_ok_and(|child| child.is_some()) {}
    match repaired {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{ended}, and the registry cannot be repaired: {error}");
            ExitCode::FAILURE
        }
    }
}

fn await_child(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("the supervisor ended with exit code {code}"),
        (_, Some(signal)) => format!("the supervisor was killed by signal {signal}"),
        (None, None) => "the supervisor ended".to_owned(),
    }
}
