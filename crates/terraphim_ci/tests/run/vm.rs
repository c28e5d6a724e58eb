//! A VM that was kept, entered from the command line.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
};

use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::host::{Said, World};

#[test]
fn a_kept_vm_can_be_entered_and_removed() {
    let world = World::new();
    world.workflow(
        "keep",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: echo kept > ~/note; exit 1}]\n",
    );
    let (said, report) = world.run(&["--keep"]);
    let vm = report["vm_ids"][0].as_str().unwrap().to_owned();
    said.ends(1, &[&format!("tci vm shell {vm}"), &format!("tci vm rm --force {vm}")]);
    world.tell(&["vm", "ls"]).ends(0, &[&vm, "running"]);
    let note = world.tell(&[
        "vm",
        "exec",
        "--job",
        "a",
        "--user",
        "runner",
        &vm,
        "--",
        "sh",
        "-c",
        "pwd; cat ~/note",
    ]);
    assert_eq!(note.stdout, "/workspace\nkept\n", "{note:#?}");
    exec(&world, &vm, &["--job", "b", "--", "true"]).ends(2, &["job-b"]);
    exit_codes_streams_and_input(&world, &vm);
    signals(&world, &vm);
    copies(&world, &vm);
    shell(&world, &vm);
    terminal(&world, &vm);
    world.tell(&["vm", "rm", &vm]).ends(2, &["--force"]);
    world.tell(&["vm", "rm", "--force", &vm]).ends(0, &[&vm]);
    world.tell(&["vm", "exec", &vm, "true"]).ends(2, &[&vm]);
}

fn exec(world: &World, vm: &str, args: &[&str]) -> Said {
    world.tell(&[&["vm", "exec", vm], args].concat())
}

fn exit_codes_streams_and_input(world: &World, vm: &str) {
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137)] {
        exec(world, vm, &["--", "sh", "-c", script]).ends(code, &[]);
    }
    exec(world, vm, &["none-such-program"]).ends(127, &["none-such-program"]);
    exec(world, vm, &["/etc/passwd"]).ends(126, &["/etc/passwd"]);
    let both = exec(world, vm, &["--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let said = world.tell(&[
        "vm",
        "exec",
        "-u",
        "runner",
        "-w",
        "/tmp",
        "-e",
        "A=b c",
        vm,
        "--",
        "sh",
        "-c",
        "id -un; pwd; echo $A",
    ]);
    assert_eq!(said.stdout, "runner\n/tmp\nb c\n", "{said:#?}");
    let mut child = world
        .tci()
        .args(["vm", "exec", "-i", vm, "--", "sha256sum"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'a'; 5_000_000]).unwrap();
    drop(stdin);
    let said = Said::of(&child.wait_with_output().unwrap());
    // Of five million letters `a`.
    said.ends(0, &["7f4a285193573e707fcb6398222c00f044745cd2930e41d28d30da87d6ca183f"]);
}

fn signals(world: &World, vm: &str) {
    let script = "trap 'echo got it; exit 5' TERM; echo ready; sleep 600 & wait";
    let mut running = world.start(&["vm", "exec", vm, "--", "sh", "-c", script]);
    running.until("ready");
    running.signal(Signal::TERM);
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (5, "ready\ngot it\n"));
}

fn copies(world: &World, vm: &str) {
    world.write("site/a file", "there and back");
    world.write("site/deep/er", "below");
    world.tell(&["vm", "cp", "site", &format!("{vm}:/srv")]).ends(0, &[]);
    exec(world, vm, &["cat", "/srv/site/a file", "/srv/site/deep/er"]).ends(0, &["there and backbelow"]);
    let back = world.path().join("back");
    world.tell(&["vm", "cp", &format!("{vm}:/srv/site"), back.to_str().unwrap()]).ends(0, &[]);
    assert_eq!(fs::read_to_string(back.join("site/a file")).unwrap(), "there and back");
    assert_eq!(fs::read_to_string(back.join("site/deep/er")).unwrap(), "below");
    world.tell(&["vm", "cp", &format!("{vm}:/etc/hostname"), back.to_str().unwrap()]).ends(0, &[]);
    assert!(back.join("hostname").is_file());
    let none = world.tell(&["vm", "cp", &format!("{vm}:/none-such"), back.to_str().unwrap()]);
    assert_ne!(none.code, 0, "{none:#?}");
    none.ends(none.code, &["none-such"]);
}

fn shell(world: &World, vm: &str) {
    let mut child = world
        .tci()
        .args(["vm", "shell", "--user", "runner", vm])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"id -un\nexit 6\n").unwrap();
    Said::of(&child.wait_with_output().unwrap()).ends(6, &["runner"]);
}

/// The two ends of a new terminal.
fn open_terminal() -> (OwnedFd, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(controller.as_fd(), size).unwrap();
    (controller, terminal)
}

fn terminal(world: &World, vm: &str) {
    let (controller, terminal) = open_terminal();
    let script = "tty; stty size; trap 'echo interrupted; exit 7' INT; echo ready; read line; echo never";
    let mut child = world
        .tci()
        .args(["vm", "exec", "-it", vm, "--", "sh", "-c", script])
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal)
        .spawn()
        .unwrap();
    let (mut controller, mut seen) = (File::from(controller), String::new());
    let mut buffer = [0; 4096];
    while !seen.contains("ready") {
        let count = controller.read(&mut buffer).unwrap();
        seen += &String::from_utf8_lossy(&buffer[..count]);
    }
    // Ctrl-C is a key: the guest's terminal makes a signal of it.
    controller.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "{seen}");
    while !seen.contains("interrupted") {
        let count = controller.read(&mut buffer).unwrap();
        seen += &String::from_utf8_lossy(&buffer[..count]);
    }
    assert!(seen.contains("/dev/pts/") && seen.contains("33 101"), "{seen}");
}
