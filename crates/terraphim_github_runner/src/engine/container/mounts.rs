//! The files of a job, mounted where the engine sees them.
//!
//! Elsewhere each job has a view of its own. A container engine is one process for all jobs of a VM, and a path that a
//! step names (`docker run -v "$PWD":/x`) means the same to it as to the step only where both have the same mounts. So in
//! a VM with an engine the jobs run one after the other, and each has its files mounted for the whole VM while it runs.

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
const LEAVE: &str = r#"if [ -e /run/docker.pid ]; then
  ids=$(docker ps --all --quiet); [ -z "$ids" ] || docker rm --force --volumes $ids >/dev/null
  docker network prune --force >/dev/null & docker volume prune --all --force >/dev/null & wait
fi
for target; do umount -l "$target"; done"#;

/// The command that mounts.
pub(super) fn mount(mounts: &[Mount]) -> Vec<String> {
    let mut argv = super::launch::words(&["sh", "-c", MOUNT, "sh"]);
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
pub(super) fn leave(mounts: &[Mount]) -> Vec<String> {
    let target = |mount: &Mount| match mount {
        Mount::Bind { target, .. } | Mount::Overlay { target, .. } => target.clone(),
    };
    super::launch::words(&["sh", "-c", LEAVE, "sh"])
        .into_iter()
        .chain(mounts.iter().rev().map(target))
        .collect()
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
        assert_eq!(argv.last().unwrap(), "1777");
        assert_eq!(leave(&mounts)[4..], ["/tmp", "/home/runner", "/workspace/_temp", "/workspace/r"]);
    }
}
