//! A guest that never says a word, which an emulated one does once in some hundred boots.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::host::{Said, World};

/// Lets the first hypervisors, as many as said, start with a processor that stands still.
fn silence(world: &World, hypervisors: usize) -> std::ffi::OsString {
    let directory = world.path().join("bin");
    fs::create_dir(&directory).unwrap();
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("qemu-system-x86_64"))
        .find(|file| file.exists())
        .unwrap();
    let tokens = directory.join("tokens");
    fs::create_dir(&tokens).unwrap();
    for number in 0..hypervisors {
        fs::create_dir(tokens.join(number.to_string())).unwrap();
    }
    // To remove an empty directory is atomic: each token is taken once.
    let script = format!(
        "#!/bin/bash\nfor token in {tokens}/*; do rmdir \"$token\" 2>/dev/null && exec {real} \"$@\" -S; done\n\
         exec {real} \"$@\"\n",
        tokens = tokens.display(),
        real = real.display(),
    );
    let program = directory.join("qemu-system-x86_64");
    fs::write(&program, script).unwrap();
    // A hypervisor that root starts runs as somebody else, who has to get there.
    for (path, mode) in [(world.path(), 0o755), (&directory, 0o755), (&tokens, 0o777), (&program, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut path = directory.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path
}

fn run(silent: usize) -> (World, Said) {
    let world = World::new();
    world.workflow(
        "ci",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: echo spoken}]\n",
    );
    let path = silence(&world, silent);
    let mut command = world.tci();
    let command = command.arg("run").env("PATH", path).env("TCI_ACCEL", "tcg");
    let said = Said::of(&command.output().unwrap());
    (world, said)
}

#[test]
#[ignore = "soak: waits for a boot that never ends"]
fn soak_a_guest_that_is_silent_at_its_first_boot_is_replaced() {
    let (world, said) = run(1);
    said.ends(0, &["did not start", "starting another VM in its place", "spoken"]);
    world.assert_clean();
}

#[test]
#[ignore = "soak: waits for two boots that never end"]
fn soak_a_host_whose_guests_are_all_silent_is_told_of() {
    let (world, said) = run(2);
    assert!(!said.all().contains("spoken"), "{said:#?}");
    assert_eq!(
        said.stderr.matches("starting another VM in its place").count(),
        1,
        "one VM more is tried, not two: {said:#?}"
    );
    said.ends(3, &["starting another VM in its place", "cannot start VM"]);
    world.assert_clean();
}
