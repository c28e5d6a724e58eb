//! The exit codes of `tci`: a documented interface, scripts branch on them.

use std::process::ExitCode;

use terraphim_github_runner::engine::RunConclusion;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done; a run succeeded.
    Success,
    /// 1: the workflow ran and failed.
    WorkflowFailed,
    /// 2: the workflow file or the command line is wrong; nothing was started.
    Usage,
    /// 3: the host failed (no QEMU, no space, a VM that does not come up): nothing is known about the workflow.
    Infrastructure,
    /// 124: what was waited for did not come in time, as timeout(1) says it.
    TimedOut,
    /// 130: cancelled by the user.
    Cancelled,
    /// The exit code of a command in a VM (`tci vm exec`, `tci vm shell`).
    Guest(u8),
}

/// For `tci --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    success
  1    the workflow failed
  2    invalid workflow, or wrong usage
  3    infrastructure fault: the host failed, nothing is known about the workflow
  124  the time limit of `tci vm wait` is over
  130  cancelled
`tci vm exec`, `shell` and `ssh` end with the exit code of the command in the VM.";

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::WorkflowFailed => 1,
            Exit::Usage => 2,
            Exit::Infrastructure => 3,
            Exit::TimedOut => 124,
            Exit::Cancelled => 130,
            Exit::Guest(code) => code,
        }
    }

    /// What several workflows together end with: the gravest of them.
    pub(crate) fn and(self, other: Exit) -> Exit {
        let gravity = |exit| match exit {
            Exit::Success => 0,
            Exit::WorkflowFailed | Exit::Guest(_) | Exit::TimedOut => 1,
            Exit::Usage => 2,
            Exit::Infrastructure => 3,
            Exit::Cancelled => 4,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl From<RunConclusion> for Exit {
    fn from(conclusion: RunConclusion) -> Exit {
        match conclusion {
            RunConclusion::Success => Exit::Success,
            RunConclusion::Failure => Exit::WorkflowFailed,
            RunConclusion::Cancelled => Exit::Cancelled,
            RunConclusion::InfrastructureFault => Exit::Infrastructure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_end_wins() {
        assert_eq!(Exit::Success.and(Exit::WorkflowFailed), Exit::WorkflowFailed);
        assert_eq!(Exit::Infrastructure.and(Exit::WorkflowFailed), Exit::Infrastructure);
        assert_eq!(Exit::Infrastructure.and(Exit::Cancelled), Exit::Cancelled);
    }
}
