//! Where things are in the guest.

use super::event::JobKey;
use crate::workflow::Mount;

/// The directories of the guest that a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Holds the workspace of the repository and the runner's temporary directory, as a job sees them.
    pub root: String,
    /// On the VM's writable disk: the pristine working tree and what each job wrote.
    pub scratch: String,
    /// In the VM's memory: what each job writes for each of its steps.
    pub memory: String,
    /// The directory of the files through which steps and the engine speak, as a job sees it. In memory: every step has five
    /// new ones, and making them on a disk takes an emulated guest as long as starting a process.
    pub file_commands: String,
    /// The home directory, as a job sees it.
    pub home: String,
    /// The directory for temporary files, as a job sees it.
    pub tmp: String,
    /// Tools: those of the image, and what each job installs, which no other job sees.
    pub tool_cache: String,
    /// The search path that jobs start with.
    pub path: String,
    /// Who runs the steps; the executor's default when absent.
    pub user: Option<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Layout {
            root: "/workspace".to_owned(),
            scratch: terraphim_vm::protocol::message::SCRATCH.to_owned(),
            memory: "/run/tci/memory".to_owned(),
            file_commands: "/run/runner/file_commands".to_owned(),
            home: "/home/runner".to_owned(),
            tmp: "/tmp".to_owned(),
            tool_cache: "/opt/hostedtoolcache".to_owned(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            user: Some("runner".to_owned()),
        }
    }
}

impl Layout {
    /// Where the pristine working tree is put: below the scratch disk for jobs with views of their own, else
    /// where the one job at a time works in it.
    pub(super) fn tree(&self, has_views: bool, repository: &str) -> String {
        if has_views { format!("{}/tree", self.scratch) } else { self.workspace_of(repository) }
    }

    /// The workspace of the repository, as a job sees it.
    #[must_use]
    pub fn workspace_of(&self, repository: &str) -> String {
        format!("{}/{repository}", self.root)
    }

    /// `RUNNER_TEMP`.
    pub(super) fn temp(&self) -> String {
        format!("{}/_temp", self.root)
    }

    /// Where the files through which steps and the engine speak are, for steps that run in no container.
    pub(super) fn file_commands(&self, has_views: bool) -> String {
        if has_views { self.file_commands.clone() } else { format!("{}/_runner_file_commands", self.temp()) }
    }

    /// Where a repository with actions is put, as every job sees it. It is outside of what each job has for itself.
    pub(super) fn action_root(&self, repository: &str, reference: &str) -> String {
        format!("{}/_actions/{repository}/{reference}", self.root)
    }

    /// The mounts that give a job a workspace, a home and temporary directories of its own.
    pub(super) fn mounts(&self, repository: &str, job: &JobKey) -> Vec<Mount> {
        let own = |name: &str| format!("{}/jobs/{job}/{name}", self.scratch);
        let bind_from = |source: String, target: String, mode| Mount::Bind {
            source,
            target,
            owner: self.user.clone(),
            mode,
        };
        let bind = |name: &str, target: String, mode| bind_from(own(name), target, mode);
        vec![
            Mount::Overlay {
                lower: self.tree(true, repository),
                upper: own("workspace"),
                target: self.workspace_of(repository),
                owner: self.user.clone(),
            },
            Mount::Overlay {
                lower: self.tool_cache.clone(),
                upper: own("tools"),
                target: self.tool_cache.clone(),
                owner: self.user.clone(),
            },
            bind("temp", self.temp(), None),
            bind("home", self.home.clone(), None),
            // World-writable with the sticky bit, as every /tmp.
            bind("tmp", self.tmp.clone(), Some(0o1777)),
            bind_from(format!("{}/{job}", self.memory), self.file_commands.clone(), None),
        ]
    }
}
