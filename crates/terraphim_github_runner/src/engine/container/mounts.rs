//! The files of a job, mounted where the engine sees them.
//!
//! Elsewhere each job has a view of its own. A container engine is one process for all jobs of a VM, and a path that a
//! step names (`docker run -v "$PWD":/x`) means the same to it as to the step only where both have the same mounts. So in
//! a VM with an engine the jobs run one after the other, and each has its files mounted for the whole VM while it runs.

use super::launch::words;
use super::tool::Call;
use crate::engine::event::Conclusion;
use crate::engine::inputs::Isolation;
use crate::engine::job::Job;
use crate::error::{GitHubRunnerError, Result};
use crate::workflow::Mount;

/// Mounts; six arguments for each: what, source or lower layer, target, upper layer, owner, mode.
const MOUNT: &str = r#"set -e
make() { [ -e "$1" ] || { mkdir -p -- "$1"; chmod "$3" "$1"; [ -z "$2" ] || chown "$2:" "$1"; }; }
while [ $# -gt 0 ]; do
  mkdir -p -- "$3"
  if [ "$1" = overlay ]; then
    make "$4" "$5" 755; make "$4.work" "" 700
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$4,workdir=$4.work" "$3"
  else
    make "$2" "$5" "$6"; mount --rbind "$2" "$3"
  fi
  shift 6
done"#;

/// Removes what a job left in the engine, if that was started, and unmounts, the last first. What is in use goes when it
/// is no longer.
const LEAVE: &str = r#"code=0
if [ -e /run/docker.pid ]; then
  ids=$(docker ps --all --quiet) && { [ -z "$ids" ] || docker rm --force --volumes $ids >/dev/null; } || code=1
  docker network prune --force >/dev/null & networks=$!
  docker volume prune --all --force >/dev/null || code=1
  wait "$networks" || code=1
fi
for target; do umount -l "$target" || code=1; done
exit "$code""#;

impl Job {
    /// Makes the directories that containers have beside those of every job.
    ///
    /// # Errors
    /// The VM or its host failed, or it cannot make them.
    pub(in crate::engine) async fn prepare_directories(&self) -> Result<()> {
        let layout = &self.shared.inputs.layout;
        let temp = layout.temp();
        // The files are those of the user of the VM, and git refuses to work on files of others than its own user. What steps
        // have set meanwhile stays.
        let script = "mkdir -p \"$@\" && chmod 777 \"$1\" || exit; [ -e \"$1/.gitconfig\" ] || \
            printf '[safe]\\n\\tdirectory = *\\n' > \"$1/.gitconfig\"";
        let home = format!("{temp}/_github_home");
        let more = [
            format!("{temp}/_github_workflow"),
            format!("{temp}/{}", super::paths::FILE_COMMANDS),
            format!("{}/_actions", layout.root),
            layout.tool_cache.clone(),
            super::paths::EXTERNALS.to_owned(),
        ];
        let mut argv = words(&["sh", "-c", script, "sh", &home]);
        argv.extend(more);
        let answer = self.ask_at_the_end(Call::of(argv)).await?;
        if answer.conclusion == Conclusion::Success {
            return Ok(());
        }
        let operation = format!("make the directories of containers in VM {}", self.place.session().vm_id);
        Err(GitHubRunnerError::failed(operation, answer.stderr))
    }

    /// Mounts the files of the job where an engine sees them, too. True if there is an engine.
    ///
    /// # Errors
    /// The VM or its host failed, or it cannot mount.
    pub(in crate::engine) async fn mount_for_engine(&self) -> Result<bool> {
        if self.place.daemon.is_none() {
            return Ok(false);
        }
        let inputs = &self.shared.inputs;
        let mounts = inputs.layout.mounts(inputs.repository_name(), &self.ready.key);
        let answer = self.ask_at_the_end(Call::of(mount(&mounts))).await?;
        if answer.conclusion == Conclusion::Success {
            return Ok(true);
        }
        let operation =
            format!("mount the files of job {} in VM {}", self.ready.key, self.place.session().vm_id);
        Err(GitHubRunnerError::failed(operation, answer.stderr))
    }

    /// Leaves a VM with an engine as the next job wants to find it.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn leave_engine(&self) -> Result<()> {
        let inputs = &self.shared.inputs;
        // A VM of one job goes with it.
        if self.place.daemon.is_none() || inputs.isolation == Isolation::Job {
            return Ok(());
        }
        let mounts = inputs.layout.mounts(inputs.repository_name(), &self.ready.key);
        let answer = self.ask_at_the_end(Call::of(leave(&mounts))).await?;
        if answer.conclusion != Conclusion::Success {
            tracing::warn!(job = %self.ready.key, "something of the job stays in its VM: {}", answer.stderr);
        }
        Ok(())
    }
}

/// The command that mounts.
fn mount(mounts: &[Mount]) -> Vec<String> {
    let mut argv = words(&["sh", "-c", MOUNT, "sh"]);
    for mount in mounts {
        let owner = |owner: &Option<String>| owner.clone().unwrap_or_default();
        argv.extend(match mount {
            Mount::Bind { source, target, owner: who, mode } => [
                "bind".to_owned(),
                source.clone(),
                target.clone(),
                String::new(),
                owner(who),
                format!("{:o}", mode.unwrap_or(0o755)),
            ],
            Mount::Overlay { lower, upper, target, owner: who } => [
                "overlay".to_owned(),
                lower.clone(),
                target.clone(),
                upper.clone(),
                owner(who),
                String::new(),
            ],
        });
    }
    argv
}

/// The command that leaves nothing of the job but its files.
fn leave(mounts: &[Mount]) -> Vec<String> {
    let target = |mount: &Mount| match mount {
        Mount::Bind { target, .. } | Mount::Overlay { target, .. } => target.clone(),
    };
    words(&["sh", "-c", LEAVE, "sh"]).into_iter().chain(mounts.iter().rev().map(target)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::JobKey;
    use crate::engine::layout::Layout;

    #[test]
    fn a_job_has_its_mounts_and_gives_them_back_in_reverse() {
        let mounts = Layout::default().mounts("r", &JobKey::new("j", None));
        let argv = mount(&mounts);
        assert_eq!(
            argv[4..10],
            [
                "overlay",
                "/run/tci/scratch/tree",
                "/workspace/r",
                "/run/tci/scratch/jobs/j/workspace",
                "runner",
                ""
            ]
        );
        assert_eq!(argv.len(), 4 + 6 * mounts.len());
        assert_eq!(argv.last().unwrap(), "755");
        let targets = [
            "/run/runner/file_commands",
            "/tmp",
            "/home/runner",
            "/workspace/_temp",
            "/opt/hostedtoolcache",
            "/workspace/r",
        ];
        assert_eq!(leave(&mounts)[4..], targets);
    }
}
