//! Where a controller's hierarchy is, and where in it we may make groups.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// What limits one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

    /// Its name in the kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// The kernel's two interfaces, which name their files differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A directory in which we may make groups that a controller limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
}

/// Finds the place of a controller, or says why there is none.
pub(super) fn find(controller: Controller) -> Result<Place, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    let (mounts, groups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    find_in(&mounts, &groups, controller)
}

fn find_in(mounts: &str, groups: &str, controller: Controller) -> Result<Place, String> {
    let name = controller.name();
    if let Some((mount, own)) = own_directory(mounts, groups, None) {
        let offered = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if offered.split_whitespace().any(|offered| offered == name) {
            return version_two(&mount, &own, name);
        }
    }
    let Some((_, own)) = own_directory(mounts, groups, Some(name)) else {
        return Err(format!("this host has no `{name}` control groups mounted"));
    };
    if is_writable(&own) {
        Ok(Place { version: Version::One, directory: own })
    } else {
        Err(format!("{} cannot be written", own.display()))
    }
}

/// The mount point of a hierarchy and our own directory in it; of version 2 when no controller is named.
fn own_directory(mounts: &str, groups: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    // proc_pid_mountinfo(5): ID parent dev root point options [tags] - type source options
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let is_it = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        let mut fields = before.split(' ').skip(3);
        is_it.then_some((fields.next()?, fields.next()?))
    })?;
    // cgroups(7): hierarchy:controllers:path
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|one| one == name),
        };
        is_it.then_some(path)
    })?;
    // A container sees its own part of the hierarchy only, while the path may be told from the top.
    let below = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    Some((PathBuf::from(point), Path::new(point).join(below)))
}

/// In version 2 a group that has processes gives no controllers to groups below it: the nearest group above ours that
/// does, and that we may write to, is taken. Nothing is switched on in groups that somebody else looks after.
fn version_two(mount: &Path, own: &Path, name: &str) -> Result<Place, String> {
    for directory in own.ancestors().take_while(|directory| directory.starts_with(mount)) {
        let given = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
        let is_given = given.split_whitespace().any(|given| given == name);
        // Moving a process needs the right to write to the group that both places are below.
        if is_given && is_writable(directory) && is_writable(&directory.join("cgroup.procs")) {
            return Ok(Place { version: Version::Two, directory: directory.to_owned() });
        }
    }
    Err(format!(
        "no control group above {} gives us `{name}` (systemd: run in a unit with Delegate=yes)",
        own.display()
    ))
}

fn is_writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(dir: &Path) -> String {
        let dir = dir.display();
        format!(
            "20 1 0:3 / {dir}/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
             21 1 0:4 /docker/x {dir}/memory rw - cgroup cgroup rw,memory\n\
             22 1 0:5 / {dir}/unified rw - cgroup2 cgroup2 rw\n"
        )
    }

    const GROUPS: &str = "3:cpu,cpuacct:/\n2:memory:/docker/x/job\n0::/user/scope\n";

    fn tree(paths: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn version_one_is_below_our_own_group() {
        let dir = tree(&[("cpu/cgroup.procs", ""), ("memory/job/cgroup.procs", "")]);
        let mounts = mounts(dir.path());
        let cpu = find_in(&mounts, GROUPS, Controller::Cpu).unwrap();
        assert_eq!(cpu, Place { version: Version::One, directory: dir.path().join("cpu") });
        let memory = find_in(&mounts, GROUPS, Controller::Memory).unwrap();
        assert_eq!(memory.directory, dir.path().join("memory/job"));
        assert!(find_in(&mounts, GROUPS, Controller::Pids).unwrap_err().contains("`pids`"));
    }

    #[test]
    fn version_two_is_the_nearest_group_above_that_gives_the_controller() {
        let dir = tree(&[
            ("unified/cgroup.controllers", "cpu memory pids"),
            ("unified/cgroup.subtree_control", "cpu memory"),
            ("unified/cgroup.procs", ""),
            ("unified/user/cgroup.subtree_control", "memory"),
            ("unified/user/cgroup.procs", ""),
            ("unified/user/scope/cgroup.subtree_control", ""),
        ]);
        let mounts = mounts(dir.path());
        let find = |controller| find_in(&mounts, GROUPS, controller);
        assert_eq!(find(Controller::Memory).unwrap().directory, dir.path().join("unified/user"));
        let cpu = find(Controller::Cpu).unwrap();
        assert_eq!(cpu, Place { version: Version::Two, directory: dir.path().join("unified") });
        assert!(find(Controller::Pids).unwrap_err().contains("Delegate=yes"));
    }
}
