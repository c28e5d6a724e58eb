//! Points at which a test kills, stops or fails this process: the feature `failpoints`, which no release has.
//!
//! `TCI_FAULT=POINT:ACTION` in the environment makes the first process that passes `POINT` do `ACTION`, once: `kill` and
//! `stop` send itself `SIGKILL` and `SIGSTOP`, `exit` ends it without unwinding, `error` makes the step fail, `sleep` holds
//! it for two seconds. Whoever is to be killed at a point without having passed it is killed while the process that did is
//! stopped there. The name of a point begins with the process that passes it.

// Without the feature the points are still named where they are passed, and do nothing.
#![cfg_attr(not(feature = "failpoints"), allow(unreachable_pub, reason = "public with the feature only"))]

use crate::VmError;

macro_rules! points {
    ($($(#[doc = $meaning:literal])+ $point:ident = $name:literal,)+) => {
        /// A step in the life of a VM, named after what has just been done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $meaning])+ $point,)+
        }

        #[cfg(feature = "failpoints")]
        impl Point {
            /// All points.
            pub const ALL: &[Point] = &[$(Point::$point,)+];

            /// The name that `TCI_FAULT` gives it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A definition was found good.
    CliCreateChecked = "cli.create.checked",
    /// The row is written.
    CliCreateInserted = "cli.create.inserted",
    /// What a dead supervisor left is cleared away; the start begins.
    CliStartRepaired = "cli.start.repaired",
    /// The supervisor is spawned and on its own.
    CliStartSpawned = "cli.start.spawned",
    /// The supervisor said that the hypervisor runs.
    CliStartReady = "cli.start.ready",
    /// A process in the guest is asked for.
    CliExecAsked = "cli.exec.asked",
    /// The process in the guest has started.
    CliExecStarted = "cli.exec.started",
    /// The VM was found running and is about to be asked to stop.
    CliStopAsked = "cli.stop.asked",
    /// The supervisor said how the stop went.
    CliStopAnswered = "cli.stop.answered",
    /// A VM that has ended is locked for its removal.
    CliRemoveLocked = "cli.remove.locked",
    /// The row is deleted; a note says whose files are left.
    RemoveDeleted = "remove.deleted",
    /// The VM's directories are gone.
    RemoveFiles = "remove.files",
    /// The supervisor has its lock.
    StartLocked = "supervisor.start.locked",
    /// The row names the supervisor.
    StartClaimed = "supervisor.start.claimed",
    /// The control socket is bound.
    StartBound = "supervisor.start.bound",
    /// The disk is made.
    StartDisk = "supervisor.start.disk",
    /// The hypervisor is spawned, and no row says so.
    StartSpawned = "supervisor.start.spawned",
    /// The row names the hypervisor.
    StartRecorded = "supervisor.start.recorded",
    /// The hypervisor answers.
    StartAnswered = "supervisor.start.answered",
    /// The row says that the VM runs.
    StartRunning = "supervisor.start.running",
    /// The starter was told.
    StartTold = "supervisor.start.told",
    /// The directory of an execution is made.
    ExecPrepared = "supervisor.exec.prepared",
    /// The process in the guest has started.
    ExecStarted = "supervisor.exec.started",
    /// Output was written.
    ExecWritten = "supervisor.exec.written",
    /// It is noted that a snapshot is being taken.
    SnapshotNoted = "supervisor.snapshot.noted",
    /// The hypervisor has saved the snapshot.
    SnapshotSaved = "supervisor.snapshot.saved",
    /// The snapshot is listed.
    SnapshotKept = "supervisor.snapshot.kept",
    /// The guest stands still before it is set back.
    RollbackHalted = "supervisor.rollback.halted",
    /// The guest is set back and not yet running.
    RollbackLoaded = "supervisor.rollback.loaded",
    /// A stop was asked for.
    StopRequested = "supervisor.stop.requested",
    /// The row says so.
    StopRecorded = "supervisor.stop.recorded",
    /// The hypervisor has ended and was reaped.
    EndReaped = "supervisor.end.reaped",
    /// The row says how the VM ended.
    EndRecorded = "supervisor.end.recorded",
    /// Whoever waited for the end was told.
    EndTold = "supervisor.end.told",
    /// The socket is gone.
    EndUnbound = "supervisor.end.unbound",
    /// The keeper has seen the supervisor die.
    KeeperWoken = "keeper.woken",
    /// Whoever found a dead supervisor has the VM's lock.
    RepairLocked = "repair.locked",
    /// The socket that it left is gone.
    RepairUnbound = "repair.unbound",
    /// The row is true again.
    RepairRecorded = "repair.recorded",
}

/// Passes a point.
///
/// # Errors
/// A test asked for one.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(crate) fn at(_point: Point) -> Result<(), VmError> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub(crate) use injected::at;
#[cfg(feature = "failpoints")]
pub use injected::{Action, VARIABLE};

#[cfg(feature = "failpoints")]
mod injected {
    use std::{
        io,
        sync::{
            OnceLock,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Point, VmError};

    /// The variable of the environment.
    pub const VARIABLE: &str = "TCI_FAULT";

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Action {
        /// `SIGKILL`.
        Kill,
        /// `SIGSTOP`.
        Stop,
        /// Ends at once with exit code 1.
        Exit,
        /// The step fails.
        Error,
        /// Two seconds pass.
        Sleep,
    }

    impl Action {
        /// All actions.
        pub const ALL: [Action; 5] = [Action::Kill, Action::Stop, Action::Exit, Action::Error, Action::Sleep];

        /// Its name in `TCI_FAULT`.
        #[must_use]
        pub fn name(self) -> &'static str {
            match self {
                Action::Kill => "kill",
                Action::Stop => "stop",
                Action::Exit => "exit",
                Action::Error => "error",
                Action::Sleep => "sleep",
            }
        }
    }

    /// Longer than anything between two points takes, shorter than every limit.
    const SLEEP: Duration = Duration::from_secs(2);

    static PASSED: AtomicBool = AtomicBool::new(false);

    pub(crate) fn at(point: Point) -> Result<(), VmError> {
        match wanted() {
            Some((wanted, action)) if wanted == point && !PASSED.swap(true, Ordering::Relaxed) => {
                act(point, action)
            }
            _ => Ok(()),
        }
    }

    fn act(point: Point, action: Action) -> Result<(), VmError> {
        let signal = |signal| kill_process(getpid(), signal).expect("a process may signal itself");
        match action {
            Action::Kill => signal(Signal::KILL),
            Action::Stop => signal(Signal::STOP),
            // SAFETY: `_exit` takes any status and does not return; that nothing is unwound is what it is for.
            Action::Exit => unsafe { libc::_exit(1) },
            Action::Error => {
                let source = io::Error::other(format!("{VARIABLE} asks for this failure"));
                return Err(VmError::Io { operation: "pass", path: point.name().into(), source });
            }
            Action::Sleep => std::thread::sleep(SLEEP),
        }
        Ok(())
    }

    /// What the environment asks for, read once.
    fn wanted() -> Option<(Point, Action)> {
        static WANTED: OnceLock<Option<(Point, Action)>> = OnceLock::new();
        *WANTED.get_or_init(|| {
            let text = std::env::var(VARIABLE).ok()?;
            let found = text.split_once(':').and_then(|(point, action)| {
                let point = Point::ALL.iter().find(|known| known.name() == point)?;
                let action = Action::ALL.iter().find(|known| known.name() == action)?;
                Some((*point, *action))
            });
            // A test that asks for nothing known must not pass because nothing happened.
            Some(found.unwrap_or_else(|| panic!("{VARIABLE}={text}: there is no such point or action")))
        })
    }
}
