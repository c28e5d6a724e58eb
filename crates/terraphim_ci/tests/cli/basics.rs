//! Help, listings of nothing, closed pipes, JSON.

use std::{io::Read as _, process::Stdio};

use crate::fixture::World;

#[test]
fn help_names_the_exit_codes_and_every_command_has_an_example() {
    let world = World::new();
    world.run(&["--help"]).prints(&["Exit codes:", "infrastructure fault", "130"]);
    let commands = [
        "run",
        "rerun",
        "runs ls",
        "runs show",
        "runs logs",
        "runs rm",
        "vm create",
        "vm start",
        "vm stop",
        "vm rm",
        "vm ls",
        "vm status",
        "vm exec",
        "vm shell",
        "vm cp",
        "vm logs",
        "vm ping",
        "vm qmp",
        "vm inspect",
        "vm prune",
        "image build",
        "image ls",
        "image inspect",
        "image rm",
        "doctor",
        "check",
        "expr",
    ];
    for command in commands {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        world.run(&args).prints(&["Example"]);
    }
    assert!(!world.data().exists(), "help makes nothing");
}

#[test]
fn the_supervisor_is_not_in_the_help() {
    let world = World::new();
    assert!(!world.run(&["--help"]).stdout.contains("supervisor"));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let world = World::new();
    world.run(&["runn"]).fails(2, &["runn"]);
    world.run(&["run", "--paralel", "2"]).fails(2, &["--parallel"]);
    world.run(&["vm", "create", "--memory", "lots"]).fails(2, &["--memory"]);
    world.run(&["run", "--parallel", "0"]).fails(2, &["--parallel"]);
    assert_eq!(world.run(&[]).code, 2);
}

#[test]
fn listings_of_nothing_are_empty_and_make_nothing() {
    let world = World::new();
    world.run(&["runs", "ls"]).prints(&["ID", "CONCLUSION"]);
    world.run(&["runs", "ls", "--json"]).prints(&["[]"]);
    world.run(&["vm", "ls"]).prints(&["ID", "STATE"]);
    world.run(&["vm", "ls", "--json"]).prints(&["[]"]);
    assert!(!world.data().exists(), "looking makes nothing");
    world.run(&["image", "ls", "--json"]).prints(&["[]"]);
}

#[test]
fn what_does_not_exist_is_named_and_how_to_find_what_does() {
    let world = World::new();
    world.run(&["runs", "show", "7"]).fails(2, &["there is no run 7", "tci runs ls"]);
    world.run(&["runs", "logs", "7"]).fails(2, &["there is no run 7"]);
    world.run(&["runs", "rm", "7"]).fails(2, &["there is no run 7"]);
    world.run(&["rerun", "7"]).fails(2, &["there is no run 7"]);
    world.run(&["vm", "exec", "web", "--", "true"]).fails(2, &["there is no VM `web`", "tci vm ls"]);
    world.run(&["image", "inspect", "nope"]).fails(2, &["there is no image `nope`"]);
    world.run(&["image", "build", "nope"]).fails(2, &["nope"]);
    world
        .run(&["vm", "create", "--vm-type", "huge"])
        .fails(2, &["no VM type `huge`", "bionic-test, default, focal"]);
}

#[test]
fn an_error_is_said_once() {
    let world = World::new();
    let said = world.run(&["runs", "show", "7"]);
    assert_eq!(said.stderr.matches("there is no run 7").count(), 1, "{said:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    let cases = vec!["{\"expr\": \"1\"}"; 100_000].join("\n");
    let file = world.write("cases.jsonl", &cases);
    let mut child = world
        .tci()
        .args(["expr", "--batch"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_doctor_has_a_line_for_each_check() {
    let world = World::new();
    let said = world.run(&["doctor"]);
    for check in [
        "qemu",
        "acceleration",
        "memory",
        "data directory",
        "registry",
        "run store",
        "disk space",
        "git",
        "image",
        "user namespaces",
        "limits per VM",
        "hypervisor's user",
    ] {
        assert!(said.stdout.contains(check), "{said:#?}");
    }
    assert_eq!(said.stdout.lines().count(), 13, "{said:#?}");
    let json: serde_json::Value = serde_json::from_str(&world.run(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 13);
    assert!(!world.data().join("runs.db").exists(), "it only looks");
}

#[test]
fn the_doctor_tells_of_databases_that_cannot_be_used() {
    let world = World::new();
    std::fs::create_dir_all(world.data()).unwrap();
    for (name, what) in [("vms.db", "registry"), ("runs.db", "run store")] {
        let path = world.data().join(name);
        std::fs::write(&path, "this is no database, whatever its name says\n".repeat(100)).unwrap();
        let said = world.run(&["doctor"]);
        assert_eq!(said.code, 3, "{said:#?}");
        let line = said.stdout.lines().find(|line| line.starts_with(&format!("FAIL  {what} ")));
        let line = line.unwrap_or_else(|| panic!("no such line in {said:#?}"));
        assert!(line.contains(&format!("; move {} away", path.display())), "{line}");
        std::fs::remove_file(&path).unwrap();
    }
    // One that a newer program made.
    let newer = rusqlite::Connection::open(world.data().join("vms.db")).unwrap();
    newer.pragma_update(None, "user_version", 9999).unwrap();
    let said = world.run(&["doctor"]);
    assert!(said.code == 3 && said.stdout.contains("use the newer tci"), "{said:#?}");
    world.run(&["vm", "ls"]).fails(3, &["vms.db has schema 9999"]);
}

#[test]
fn a_damaged_registry_is_told_with_a_remedy() {
    let world = World::new();
    std::fs::create_dir_all(world.data()).unwrap();
    let path = world.data().join("vms.db");
    std::fs::write(&path, "this is no database, whatever its name says\n".repeat(100)).unwrap();
    let remedy = format!("hint: move {} away", path.display());
    world.run(&["vm", "ls"]).fails(3, &["cannot use the VM registry", &remedy]);
}
