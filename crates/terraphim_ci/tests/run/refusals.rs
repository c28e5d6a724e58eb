//! What is refused before a VM starts: one clear message, the right end, and nothing left behind.

use std::{fs, os::unix::fs::symlink};

use crate::host::World;

const GOOD: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'true'}]\n";

/// The file, the line, the key, the remedy.
fn refused(text: &str, words: &[&str]) {
    let world = World::new();
    world.workflow("bad", text);
    let said = world.tell(&["run"]);
    said.ends(2, &[".github/workflows/bad.yml"]);
    said.ends(2, words);
    assert_eq!(said.errors(), 1, "one message: {said:#?}");
    assert_eq!(world.tell(&["runs", "ls", "--json"]).stdout.trim(), "[]");
}

#[test]
fn workflows_that_cannot_run_are_refused_with_their_place() {
    refused("on: push\njobs:\n  a: [\n", &["bad.yml:"]);
    refused(&GOOD.replace("    steps", "    stepz"), &["bad.yml:5:5", "stepz"]);
    refused(&GOOD.replace("[{run: 'true'}]", "[{run: [1]}]"), &["bad.yml:5:19"]);
    refused(
        &GOOD.replace("{run: 'true'}", "{uses: some/action@v1}"),
        &["bad.yml:5", "some/action@v1", "hint:"],
    );
    refused(
        &GOOD.replace("    steps", "    services: {db: {image: x}}\n    steps"),
        &["bad.yml:5", "services", "hint:"],
    );
}

#[test]
fn a_host_that_cannot_run_vms_is_named_with_a_remedy() {
    let world = World::new();
    world.workflow("good", GOOD);
    world.tell(&["run", "--image", "none-such"]).ends(2, &["none-such", "hint:"]);
    world.tell(&["run", "--memory", "9000G"]).ends(2, &["memory"]);
    // Git is there, QEMU is not.
    let bin = world.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink("/usr/bin/git", bin.join("git")).unwrap();
    let no_qemu = crate::host::Said::of(&world.tci().env("PATH", &bin).arg("run").output().unwrap());
    no_qemu.ends(3, &["qemu-system-x86_64", "install"]);
    assert_eq!(no_qemu.errors(), 1, "{no_qemu:#?}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let world = World::without_images();
    world.workflow("good", GOOD);
    // Nobody can make a directory below a file, not even root.
    fs::write(world.data(), "a file").unwrap();
    let said = world.tell(&["run"]);
    said.ends(3, &["data"]);
    assert_eq!(said.errors(), 1, "{said:#?}");
    for command in [&["vm", "ls"][..], &["runs", "ls"], &["image", "ls"]] {
        assert_ne!(world.tell(command).code, 101);
    }
}

#[test]
fn damaged_databases_are_named_and_left_alone() {
    for name in ["runs.db", "vms.db"] {
        let world = World::new();
        world.workflow("good", GOOD);
        fs::write(world.data().join(name), "this is no database, whatever its name says\n".repeat(100))
            .unwrap();
        let said = world.tell(&["run"]);
        said.ends(3, &[name]);
        assert_eq!(said.errors(), 1, "{said:#?}");
        assert!(fs::read_to_string(world.data().join(name)).unwrap().starts_with("this is no"), "left alone");
    }
}
