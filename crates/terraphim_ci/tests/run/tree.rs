//! The working tree as the guest sees it.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
};

use crate::host::{World, peak_kib};

#[test]
fn the_guest_has_the_tree_as_it_is_and_git_works_there() {
    let world = World::new();
    let repo = world.repo();
    for (name, text) in [
        ("tracked", "as committed"),
        ("deleted", "gone"),
        ("dir/tool.sh", "#!/bin/sh\necho tool runs\n"),
        (".gitignore", "*.ignored\n"),
        ("private", "mode 600"),
        ("a name with spaces", "spaces"),
        ("new\nline", "newline"),
        ("grüße-日本", "utf-8"),
        ("x.ignored", "never sent"),
    ] {
        world.write(name, text);
    }
    fs::set_permissions(repo.join("dir/tool.sh"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(repo.join("private"), Permissions::from_mode(0o600)).unwrap();
    symlink("tracked", repo.join("link")).unwrap();
    symlink("/nowhere", repo.join("dangling")).unwrap();
    world.workflow(
        "tree",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: python3 .github/look.py}]\n",
    );
    world.write(".github/look.py", LOOK);
    world.git(&["add", "-A"]);
    world.git(&["commit", "-qm", "first"]);
    world.write("tracked", "changed");
    world.write("untracked", "new");
    fs::remove_file(repo.join("deleted")).unwrap();
    let (said, report) = world.run(&[]);
    said.ends(0, &["all as it should be"]);
    assert_eq!(report["conclusion"], "success");
}

const LOOK: &str = r#"
import os, stat, subprocess
def text(name): return open(name, encoding="utf-8").read()
assert text("tracked") == "changed"
assert text("untracked") == "new"
assert not os.path.exists("deleted") and not os.path.exists("x.ignored")
assert text("a name with spaces") == "spaces"
assert text("new\nline") == "newline"
assert text("grüße-日本") == "utf-8"
mode = lambda name: stat.S_IMODE(os.lstat(name).st_mode)
assert mode("dir/tool.sh") == 0o755 and mode("private") == 0o600
assert os.readlink("link") == "tracked" and os.readlink("dangling") == "/nowhere"
assert subprocess.check_output(["dir/tool.sh"]) == b"tool runs\n"
git = lambda *args: subprocess.check_output(["git", *args])
assert git("status", "--porcelain", "-z") == b" D deleted\0 M tracked\0?? untracked\0", git("status", "--porcelain")
assert git("log", "--format=%s") == b"first\n"
assert os.getcwd() == "/workspace/repo" == os.environ["GITHUB_WORKSPACE"]
print("all as it should be")
"#;

#[test]
fn a_large_file_passes_through_little_memory() {
    passes(256 << 20);
}

#[test]
#[ignore = "soak: a gibibyte takes an emulated guest a minute"]
fn soak_a_file_of_a_gibibyte_passes_through_little_memory() {
    passes(1 << 30);
}

/// So many bytes: more than what any process may take on the way.
fn passes(size: u64) {
    let world = World::new();
    let file = File::create_new(world.repo().join("large")).unwrap();
    file.set_len(size).unwrap();
    world.workflow(
        "large",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: stat -c 'size %s' large; sleep 600\n",
    );
    let mut running = world.start(&["run", "--disk", "2G"]);
    running.until(&format!("size {size}"));
    let (tci, supervisor) = (peak_kib(running.pid()).unwrap(), world.supervisor_peak_kib());
    assert!(tci < 200 * 1024, "tci took {tci} KiB");
    assert!(supervisor < 64 * 1024, "the supervisor took {supervisor} KiB");
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.end().0, 130);
}
