//! VMs that run.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::Instant,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::host::{LIMIT, World};

/// What a process says about itself below `/proc`.
fn proc_field(pid: &Value, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_hypervisor_has_no_rights_and_its_limits_are_in_force() {
    let world = World::new();
    world.write("site/index.html", "hello");
    let limits = ["cpu-percent=150", "memory=512", "processes=77", "disk-write=20M", "disk-iops=900"];
    let limits = limits.iter().flat_map(|limit| ["--limit", limit]);
    world.define("web", &[&["--mount", "site:/srv/site"], &limits.collect::<Vec<_>>()[..]].concat());
    let started = world.vm_json(&["start", "web", "--json"]);
    assert_eq!(started[0]["state"], "running");
    let all = world.vm_json(&["inspect", "web"]);
    let pid = &all["hypervisor"]["pid"];

    assert_eq!(proc_field(pid, "Seccomp"), "2", "filtered");
    assert_eq!(proc_field(pid, "NoNewPrivs"), "1");
    let ours = rustix::process::getuid().as_raw();
    let uid: u32 = proc_field(pid, "Uid").split(' ').next().unwrap().parse().unwrap();
    if ours == 0 {
        assert!(uid >= 0x7800_0000, "root's hypervisor has a user of its own: {uid}");
        assert_eq!(proc_field(pid, "Groups"), "");
        assert_eq!(proc_field(pid, "CapEff"), "0000000000000000");
    } else {
        assert_eq!(uid, ours);
    }
    only_the_disk_is_open_for_writing(&world, pid);
    let log = world.data().join("vms").join(all["id"].as_str().unwrap()).join("supervisor.log");
    assert_eq!(fs::metadata(log).unwrap().permissions().mode() & 0o777, 0o600);
    let micros = world.vm_json(&["ping", "web", "--json"])["ms"].to_string();
    assert!(micros.split('.').next_back().unwrap().len() <= 3, "{micros}");

    let report = &all["status"]["limits"];
    let groups: Vec<String> = serde_json::from_value(report["groups"].clone()).unwrap();
    if report["unenforced"].as_array().unwrap().is_empty() {
        in_force(&groups, pid);
    } else {
        println!("limits are not checked, this host cannot keep them: {}", report["unenforced"]);
    }
    let disks = world.vm_json(&["qmp", "web", "query-block"]);
    let inserted = disks.as_array().unwrap().iter().map(|disk| &disk["inserted"]);
    let writes: Vec<_> = inserted.map(|it| (it["bps_wr"].clone(), it["iops"].clone())).collect();
    assert_eq!(writes, vec![((20 << 20).into(), 900.into()); 2]);

    assert_eq!(world.vm_ok(&["exec", "web", "--", "cat", "/srv/site/index.html"]), "hello");
    world.vm_ok(&["wait", "web", "--timeout", "100"]);
    // A supervisor that is killed cannot clear up; the next command does.
    let supervisor = all["supervisor"]["pid"].as_i64().unwrap();
    let supervisor = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
    let waiting = world.start(&["vm", "wait", "--for", "stopped", "web"]);
    rustix::process::kill_process(supervisor, Signal::KILL).unwrap();
    assert_eq!(waiting.end().0, 0);
    world.remove("web");
    for group in groups {
        assert!(!fs::exists(&group).unwrap(), "{group} is left");
    }
}

/// The kernel has what was asked for, and the hypervisor is in it.
fn in_force(groups: &[String], pid: &Value) {
    assert!(!groups.is_empty());
    let pid = pid.to_string();
    for group in groups {
        let procs = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap();
        assert!(procs.lines().any(|line| line == pid), "{group}: {procs}");
    }
    let value = |names: [&str; 2]| {
        let files = groups.iter().flat_map(|group| names.map(|name| format!("{group}/{name}")));
        let text = files.filter_map(|file| fs::read_to_string(file).ok()).next().unwrap();
        text.trim().trim_end_matches(" 100000").to_owned()
    };
    assert_eq!(value(["cpu.max", "cpu.cfs_quota_us"]), "150000");
    assert_eq!(value(["memory.max", "memory.limit_in_bytes"]), (512 << 20).to_string());
    assert_eq!(value(["pids.max", "pids.max"]), "77");
}

/// Flags of open(2) in octal: the last digit says whether a file can be written.
fn only_the_disk_is_open_for_writing(world: &World, pid: &Value) {
    let (mut written, mut pipes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(file) = fs::read_link(entry.path()) else { continue };
        let info = entry.path().display().to_string().replace("/fd/", "/fdinfo/");
        let info = fs::read_to_string(info).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default().trim();
        if file.display().to_string().starts_with("pipe:") {
            pipes.push(flags.to_owned());
        }
        if file.is_file() && !flags.ends_with('0') {
            written.push(file);
        }
    }
    // No pipe is inherited but the one that ends it with its supervisor: for reading, with O_ASYNC.
    assert_eq!(pipes, ["020000"]);
    written.sort();
    written.dedup();
    let names: Vec<_> = written.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(names, ["console.log", "qemu.log", "scratch.qcow2"]);
    assert!(written.iter().all(|file| file.starts_with(world.data().join("vms"))), "{written:?}");
}

/// By the user's mistake, not by a fault.
fn what_cannot_be_copied_is_refused(world: &World) {
    world.write("file", "text");
    world.vm_ok(&["exec", "web", "--", "touch", "/tmp/plain"]);
    let wrong = [
        (&["nowhere", "web:/tmp"][..], "cannot find nowhere"),
        (&["file", "web:/tmp", "--owner", "nobody-here"], "nobody-here"),
        (&["file", "web:/tmp/plain"], "/tmp/plain is no directory in the VM"),
        (&["web:/nowhere", "."], "/nowhere is not there in the VM"),
        (&["web:/dev/zero", "."], "/dev/zero is neither a directory nor a regular file"),
        (&["web:/tmp/plain", "file"], "cannot create directory file"),
        (&["web:/tmp/plain", "file/below"], "cannot create directory file/below"),
    ];
    for (args, words) in wrong {
        world.vm(&[&["cp"], args].concat()).ends(2, &[words]);
    }
    assert!(!world.repo().join("zero").exists());
    what_is_no_file_is_not_copied_in(world);
    // What the guest cannot read it names, with the cause: nothing is mapped at the beginning of that file.
    world.vm(&["cp", "web:/proc/1/mem", "."]).ends(3, &["cannot pack /proc/1/mem", "os error 5"]);
    let copied = world.vm_ok(&["cp", "web:/tmp/plain", ".", "--json"]);
    let copied: Value = serde_json::from_str(&copied).unwrap();
    assert_eq!(copied, serde_json::json!({"from": "web:/tmp/plain", "to": ".", "left_out": []}));
    assert_eq!(fs::read(world.repo().join("plain")).unwrap(), b"");
}

/// Named, it is refused; in a directory it is left out and told of, as out of a VM.
fn what_is_no_file_is_not_copied_in(world: &World) {
    world.write("tree/file", "text");
    let pipe = world.repo().join("tree/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.repo().join("tree/socket")).unwrap();
    for named in ["tree/pipe", "tree/socket", "/dev/null"] {
        let want = format!("{named} is neither a directory nor a regular file");
        world.vm(&["cp", named, "web:/tmp"]).ends(2, &[&want]);
    }
    let said = world.vm(&["cp", "tree", "web:/tmp", "--json"]);
    said.ends(3, &["everything was copied but", "pipe, socket"]);
    let copied: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(copied["left_out"], serde_json::json!(["pipe", "socket"]));
    assert_eq!(world.vm_ok(&["exec", "web", "--", "ls", "/tmp/tree"]), "file\n");
    assert_eq!(world.vm_ok(&["exec", "web", "--", "cat", "/tmp/tree/file"]), "text");
}

/// As `| head -1` does it.
fn output_that_nobody_reads_ends_the_command(world: &World) {
    let mut child =
        world.tci().args(["vm", "exec", "web", "--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!((&first, child.wait().unwrap().code()), (b"y\n", Some(141)));
}

/// Everything on standard output; the exit code is ours all the same.
fn an_execution_for_programs_is_json_lines(world: &World) {
    let script = "printf 'a\\303'; sleep 0.2; echo b >&2; exit 7";
    let said = world.vm(&["exec", "--json", "web", "--", "sh", "-c", script]);
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let all = lines(&said.stdout);
    assert_eq!((said.code, said.stderr.as_str(), all.len()), (7, "", 4), "{said:#?}");
    let id = all[0]["execution"].as_str().unwrap();
    assert_eq!((&all[1]["stdout_base64"], &all[2]["stderr"]), (&"YcM=".into(), &"b\n".into()));
    assert!(all[3]["duration_ms"].as_u64().unwrap() >= 200, "{:?}", all[3]);

    let from = all[2]["offset"].to_string();
    let rest = world.vm(&["exec", "--json", "--attach", id, "--from", &from, "web"]);
    assert_eq!((rest.code, &lines(&rest.stdout)[1]), (7, &all[3]));
    let detached = world.vm_ok(&["exec", "--json", "--detach", "web", "--", "sleep", "1000"]);
    let detached = lines(&detached).remove(0)["execution"].as_str().unwrap().to_owned();
    world.vm(&["exec", "--attach", &detached, "--signal", "NONE", "web"]).ends(2, &["no such signal"]);
    world.vm_ok(&["exec", "--attach", &detached, "--signal", "TERM", "web"]);
    assert_eq!(world.vm(&["exec", "--attach", &detached, "web"]).code, 143);
    world.vm(&["exec", "--attach", &detached, "--signal", "TERM", "web"]).ends(2, &["has ended"]);

    let mut shell = world.tci();
    shell.args(["vm", "shell", "--json", "web"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"exit 9\n").unwrap();
    let shell = shell.wait_with_output().unwrap();
    let last = lines(std::str::from_utf8(&shell.stdout).unwrap()).pop().unwrap();
    assert_eq!((shell.status.code(), &last["exit_code"]), (Some(9), &9.into()));
}

#[test]
fn what_a_killed_client_has_not_shown_is_shown_by_the_next_one() {
    let world = World::new();
    world.define("web", &[]);
    world.vm_ok(&["start", "web"]);
    what_cannot_be_copied_is_refused(&world);
    let script = "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 7";
    let mut client = world.start(&["vm", "exec", "web", "--", "sh", "-c", script]);
    client.until("one");
    let ours = || {
        let all = world.vm_json(&["exec", "--list", "web", "--json"]);
        let ours = |one: &&Value| one["argv"][2] == script;
        let found = all.as_array().unwrap().iter().find(ours).unwrap();
        (found["id"].as_str().unwrap().to_owned(), found["output_bytes"].as_u64())
    };
    let (execution, written) = ours();
    let vm = world.vm_ok(&["ls", "-q"]);
    let seen = world.data().join("vms").join(vm.trim()).join("exec").join(format!("{execution}.seen"));
    let remembered = || fs::read_to_string(&seen).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let deadline = Instant::now() + LIMIT;
    // It remembers after it has shown, a moment after we have read it.
    while remembered() != written {
        assert!(Instant::now() < deadline, "{:?} of {written:?} is remembered", remembered());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    client.signal(Signal::KILL);
    assert_eq!(client.end().0, 137);
    world.vm_ok(&["exec", "web", "--", "touch", "/tmp/go"]);
    let attach = |more: &[&str]| world.vm(&[&["exec", "--attach", &execution], more, &["web"]].concat());
    let said = attach(&[]);
    assert_eq!((said.code, said.stdout.as_str()), (7, "two\n"), "{said:#?}");
    assert_eq!(attach(&["--from", "0"]).stdout, "one\ntwo\n");
    // All was shown: what is left to say is how it ended. Behind its end there is nothing, and nobody waits there.
    let said = attach(&[]);
    assert_eq!((said.code, said.stdout.as_str()), (7, ""), "{said:#?}");
    attach(&["--from", "99999999"]).ends(2, &["the output ends before offset 99999999", "--from 0"]);

    attach(&["--from", "5"]).ends(2, &["no event", "begins at offset 5", "--from 0"]);
    output_that_nobody_reads_ends_the_command(&world);
    an_execution_for_programs_is_json_lines(&world);

    // One without a client, and one that does not start.
    let detached =
        world.vm_ok(&["exec", "--detach", "web", "--", "sh", "-c", "echo behind; exec sleep 1000"]);
    world.vm(&["exec", "--detach", "web", "--", "/nowhere"]).ends(127, &["/nowhere"]);
    world.vm(&["exec", "--attach", "../x", "web"]).ends(2, &["no execution"]);

    // A new life of the VM does not know them, but what they said is kept.
    assert_eq!(world.vm_json(&["restart", "web", "--grace", "0", "--json"])[0]["state"], "running");
    assert_eq!((attach(&["--from", "0"]).code, attach(&["--from", "0"]).stdout.as_str()), (7, "one\ntwo\n"));
    world.vm_ok(&["stop", "web", "--grace", "0"]);
    assert_eq!(attach(&["--from", "0"]).stdout, "one\ntwo\n");
    assert_eq!(attach(&[]).code, 7);
    attach(&["--from", "5"]).ends(2, &["begins at offset 5", "--from 0"]);
    let lost = world.vm(&["exec", "--attach", detached.trim(), "web"]);
    assert_eq!((lost.code, lost.stdout.as_str()), (3, "behind\n"), "{lost:#?}");
    let list = world.vm_ok(&["exec", "--list", "web"]);
    assert!(list.contains("exit 7") && list.contains("lost") && list.contains("not started"), "{list}");
    assert_eq!(ours().0, execution);

    let states = world.vm_ok(&["events", "web"]);
    let states: Vec<Value> = states.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<&str> = states.iter().map(|event| event["state"].as_str().unwrap()).collect();
    let life = ["starting", "running", "stopping", "stopped"];
    assert_eq!(states, [&["created"], &life[..], &life[..]].concat());
    let plain = world.vm_ok(&["console", "web"]);
    let json = world.vm_ok(&["logs", "web", "--json"]);
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<&str> = json.iter().map(|line| line["line"].as_str().unwrap()).collect();
    assert_eq!(lines, plain.lines().collect::<Vec<_>>());
    let inspected = [&["inspect", "web", "--json"][..], &["inspect", "web"]].map(|args| world.vm_ok(args));
    assert_eq!(inspected[0], inspected[1]);
    world.remove("web");
}

#[test]
fn a_console_that_grows_is_cut_while_it_is_followed() {
    let world = World::new();
    let id = world.define("web", &[]);
    world.vm_ok(&["start", "web"]);
    let mut follower = world.start(&["vm", "console", "web", "--follow"]);
    let guest_says = |text: &str| {
        world.vm_ok(&["exec", "web", "--", "sh", "-c", &format!("echo {text} > /dev/console")]);
    };
    guest_says("before the flood");
    follower.until("before the flood");
    // A serial port is slow: what a guest writes in hours is put there at once.
    let log = world.data().join("vms").join(id).join("console.log");
    let flood = "a line of a guest that writes without end\n".repeat(110_000);
    fs::File::options().append(true).open(&log).unwrap().write_all(flood.as_bytes()).unwrap();
    let length = || fs::metadata(&log).unwrap().len();
    let deadline = Instant::now() + LIMIT;
    while length() > terraphim_vm::logs::LIMIT {
        assert!(Instant::now() < deadline, "{} bytes are left", length());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    guest_says("after the flood");
    follower.until("after the flood");
    let shown = world.vm_ok(&["console", "web"]);
    assert!(
        shown.starts_with("[tci: the first ") && shown.contains(" bytes of this log were cut]\na line"),
        "{shown:.200}"
    );
    assert!(shown.trim_end().ends_with("after the flood") && !shown.contains("before the flood"));
    world.vm_ok(&["stop", "web", "--grace", "0"]);
    let (code, followed) = follower.end();
    // It saw all that was written, or the line that says what it missed.
    assert_eq!(code, 0, "{followed:.200}");
    world.remove("web");
}

/// An emulator finds what it has translated again by its address. A count, so that no load of this machine changes it.
#[test]
fn an_emulated_guest_does_not_translate_a_program_at_each_start() {
    let world = World::new();
    let args = ["create", "--name", "big", "--image", "debian", "--cpus", "1", "--network", "none"];
    world.vm_ok(&args);
    // Also where a processor could do it.
    let started = world.tci().env("TCI_ACCEL", "tcg").args(["vm", "start", "big"]).status().unwrap();
    assert!(started.success());
    let translated = || {
        let jit = r#"{"command-line": "info jit"}"#;
        let said = world.vm_ok(&["qmp", "big", "human-monitor-command", jit]);
        let count = said.split("TB count").nth(1).and_then(|rest| rest.split_whitespace().next());
        count.and_then(|first| first.split('\\').next()?.parse::<u64>().ok()).unwrap()
    };
    let ten_times =
        || world.vm_ok(&["exec", "big", "--", "bash", "-c", "for i in {1..10}; do bash -c :; done"]);
    // What they all need, and what the kernel does for the first time.
    ten_times();
    ten_times();
    let before = translated();
    ten_times();
    let each = (translated() - before) / 10;
    assert!(each < 1000, "{each} blocks of code for each start; 6,000 when addresses differ");
    world.remove("big");
}
