//! What `tci` keeps is its owner's alone.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::host::{Said, World};

/// Directories below `path` (itself too) and databases, with what others may do. What links lead to is shared by tests.
fn open_to_others(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.mode() & 0o7777;
    let is_database = path.extension().is_some_and(|extension| extension == "db");
    if (metadata.is_dir() && mode != 0o700) || (is_database && mode != 0o600) {
        found.push((path.to_owned(), mode));
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            open_to_others(&entry.unwrap().path(), found);
        }
    }
}

/// `tci` with the umask that a careless session has.
fn careless(world: &World, args: &[&str]) -> Said {
    let tci = world.tci();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(tci.get_program()).args(tci.get_args());
    command.args(args).env_clear().current_dir(world.repo());
    command.envs(tci.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Said::of(&command.output().unwrap())
}

#[test]
fn the_data_directory_is_private_whatever_the_umask() {
    let world = World::new();
    // Made by `tci` itself, the images of the tests below it.
    let shared = world.path().join("shared");
    fs::rename(world.data(), &shared).unwrap();
    careless(&world, &["vm", "ls"]).ends(0, &[]);
    careless(&world, &["runs", "ls"]).ends(0, &[]);
    let listed = careless(&world, &["image", "ls"]);
    listed.ends(0, &[]);
    for name in ["images", "cache"] {
        let _ = fs::remove_dir_all(world.data().join(name));
        let target = fs::read_link(shared.join(name)).unwrap();
        std::os::unix::fs::symlink(target, world.data().join(name)).unwrap();
    }
    world.workflow("one", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'true'}]\n");
    careless(&world, &["run", "--image", "busybox", "--memory", "128"]).ends(0, &[]);
    let create = ["vm", "create", "--name", "box", "--image", "busybox", "--memory", "128"];
    careless(&world, &create).ends(0, &[]);
    careless(&world, &["vm", "start", "box"]).ends(0, &[]);
    careless(&world, &["vm", "exec", "box", "--", "true"]).ends(0, &[]);
    let mut found = Vec::new();
    open_to_others(&world.data(), &mut found);
    careless(&world, &["vm", "rm", "--force", "box"]).ends(0, &[]);
    assert_eq!(found, [], "others may look into these");
    assert!(fs::metadata(world.data()).unwrap().permissions().mode() & 0o7777 == 0o700);
}
