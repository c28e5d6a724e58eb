//! The arguments of the hidden subcommand.

use std::{ffi::OsString, path::PathBuf};

use crate::{Paths, ProcessId, VmId};

/// What a supervisor is told by the process that starts it.
#[derive(Clone, Debug)]
pub struct SupervisorArgs {
    /// Which VM.
    pub id: VmId,
    /// Whose host.
    pub paths: Paths,
    /// The process whose end ends and removes the VM.
    pub owner: Option<ProcessId>,
    /// The descriptor on which the starter waits for the result.
    pub ready_fd: Option<i32>,
}

impl SupervisorArgs {
    /// As command line arguments, without the subcommand.
    #[must_use]
    pub fn to_os_args(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> =
            vec![self.id.as_str().into(), self.paths.data().into(), self.paths.runtime().into()];
        let owner =
            self.owner.as_ref().map(|owner| serde_json::to_string(owner).expect("plain data is JSON"));
        all.push(owner.unwrap_or_default().into());
        all.extend(self.ready_fd.map(|fd| fd.to_string().into()));
        all
    }

    /// Reads what [`SupervisorArgs::to_os_args`] wrote; `None` when it is something else.
    #[must_use]
    pub fn from_os_args(args: &[OsString]) -> Option<SupervisorArgs> {
        let [id, data, runtime, owner, rest @ ..] = args else { return None };
        let owner = match owner.to_str()? {
            "" => None,
            text => Some(serde_json::from_str(text).ok()?),
        };
        let ready_fd = match rest {
            [] => None,
            [fd] => Some(fd.to_str()?.parse().ok()?),
            _ => return None,
        };
        let paths = Paths::from_parts(PathBuf::from(data), PathBuf::from(runtime));
        Some(SupervisorArgs { id: id.to_str()?.parse().ok()?, paths, owner, ready_fd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_command_line() {
        let paths = Paths::from_parts("/a b/data".into(), "/run/x".into());
        let owner = ProcessId::current().ok();
        let args = SupervisorArgs { id: VmId::random(), paths, owner, ready_fd: Some(7) };
        let read = SupervisorArgs::from_os_args(&args.to_os_args()).unwrap();
        assert_eq!(
            (read.id, read.paths, read.owner, read.ready_fd),
            (args.id, args.paths, args.owner, args.ready_fd)
        );
        assert!(SupervisorArgs::from_os_args(&["x".into()]).is_none());
    }
}
