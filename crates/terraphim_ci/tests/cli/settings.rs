//! `tci secret`, `tci var`, and which workflows a directory runs.

use std::{io::Write as _, process::Stdio};

use crate::fixture::{Said, World};

const GOOD: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [run: 'true']\n";

fn with_input(world: &World, args: &[&str], input: &[u8]) -> Said {
    let mut command = world.tci();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its arguments reads nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    Said::of(&child.wait_with_output().unwrap())
}

#[test]
fn secrets_are_set_listed_and_removed_and_never_shown() {
    let world = World::with_workflow(GOOD);
    world.run(&["secret", "ls"]).prints(&["NAME"]);
    with_input(&world, &["secret", "set", "token"], b"hunter2 and more\n").prints(&[]);
    let path = world.write("key.pem", "-----BEGIN\nabc\n-----END\n");
    let path = path.to_str().unwrap();
    world.run(&["secret", "set", "KEY", "--env", "production", "--from-file", path]).prints(&[]);
    world.write(".secrets", "A=first-value\nB='second value'\n");
    world.run(&["secret", "set", "-f", ".secrets", "--org", "local"]).prints(&[]);
    let said = world.run(&["secret", "ls"]);
    said.prints(&["TOKEN"]);
    assert!(!said.stdout.contains("KEY"), "{said:#?}");
    world.run(&["secret", "ls", "-e", "PRODUCTION"]).prints(&["KEY"]);
    world.run(&["secret", "ls", "-o", "local", "--json"]).prints(&["\"A\"", "\"B\"", "updated_at_ms"]);
    world.run(&["secret", "ls", "-R", "local/other"]).prints(&["NAME"]);
    let stored = std::fs::read_to_string(world.data().join("settings/settings.json")).unwrap();
    for value in ["hunter2", "first-value", "abc"] {
        assert!(!stored.contains(value), "{stored}");
    }
    world.run(&["secret", "rm", "Token"]).prints(&[]);
    world
        .run(&["secret", "rm", "TOKEN"])
        .fails(2, &["there is no secret TOKEN of repository local/repo", "tci secret ls"]);
}

#[test]
fn bad_secrets_are_refused_and_nothing_is_kept() {
    let world = World::with_workflow(GOOD);
    for (args, input, words) in [
        (&["set", "1A"][..], &b"x"[..], &["\"1A\" cannot be the name"][..]),
        (&["set", "GITHUB_TOKEN"], b"x", &["GITHUB_"]),
        (&["set", "A"], b"\n", &["the value of A is empty"]),
        (&["set", "A"], b"\xff", &["no UTF-8"]),
        (&["set"], b"x", &["required"]),
        (&["set", "A", "--repo", "nothing"], b"x", &["\"nothing\" is no repository (owner/name)"]),
        (&["set", "A", "--env", "a;b"], b"x", &["name of an environment"]),
        (&["set", "A", "--org", "o", "--repo", "a/b"], b"x", &["cannot be used with"]),
        (&["set", "A", "--from-file", "nope"], b"", &["cannot open nope"]),
        (&["set", "-f", "nope"], b"", &["cannot read nope"]),
    ] {
        let mut all = vec!["secret"];
        all.extend(args);
        with_input(&world, &all, input).fails(2, words);
    }
    let long = vec![b'x'; 48 * 1024 + 1];
    with_input(&world, &["secret", "set", "A"], &long).fails(2, &["49153 bytes"]);
    world.write(".secrets", "GOOD=1\n2BAD=2\n");
    world.run(&["secret", "set", "-f", ".secrets"]).fails(2, &["2BAD"]);
    assert!(!world.data().join("settings").exists());
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let world = World::with_workflow(GOOD);
    let words =
        ["cannot be an argument", "other users", "`tci secret set TOKEN` asks for it", "TOKEN < FILE"];
    for args in [
        &["TOKEN", "hunter2"][..],
        &["TOKEN=hunter2"],
        &["TOKEN", "-b", "hunter2"],
        &["TOKEN", "two", "hunter2"],
    ] {
        let said = with_input(&world, &[&["secret", "set"], args].concat(), b"other");
        said.fails(2, &words);
        assert!(!said.stderr.contains("hunter2"), "{said:#?}");
    }
    world.run(&["secret", "set", "--help"]).prints(&["[NAME]\n"]);
    assert!(!world.data().join("settings").exists());
}

#[test]
fn files_of_values_may_be_standard_input_which_one_option_reads() {
    let world = World::with_workflow(GOOD);
    for option in ["--secret-file", "--env-file", "--var-file"] {
        with_input(&world, &["run", "-n", option, "-"], b"A=1\n").prints(&["job a"]);
        with_input(&world, &["run", "-n", option, "-"], b"A=1\nB\n")
            .fails(2, &["standard input:2: write NAME=VALUE"]);
        for (other, file) in [("--secret-file", "-"), ("--var-file", "/dev/stdin"), ("--eventpath", "-")] {
            with_input(&world, &["run", "-n", option, "-", other, file], b"A=1\n")
                .fails(2, &["both want standard input", option, other, "give one of them a file"]);
        }
    }
    with_input(&world, &["secret", "set", "-f", "-"], b"A=1\nB=2\n").prints(&[]);
    world.run(&["secret", "ls"]).prints(&["A ", "B "]);
    // One payload for all workflows, though a pipe can be read once.
    world.write(".github/workflows/other.yml", GOOD);
    with_input(&world, &["run", "-n", "--eventpath", "-"], b"{\"ref\": \"refs/heads/x\"}")
        .prints(&["ci.yml) for push", "other.yml) for push"]);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_its_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with_workflow(GOOD);
    with_input(&world, &["secret", "set", "A"], b"value").prints(&[]);
    let key = world.data().join("settings/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    with_input(&world, &["secret", "set", "B"], b"value").fails(2, &["chmod 600", "640"]);
    world.run(&["run"]).fails(2, &["chmod 600"]);
    world.run(&["secret", "ls"]).fails(2, &["chmod 600", "640"]);
    world.run(&["var", "ls"]).prints(&["NAME"]);
    world.run(&["runs", "ls", "--json"]).prints(&["[]"]);
    std::fs::remove_file(&key).unwrap();
    world.run(&["secret", "ls"]).prints(&["A "]);
}

#[test]
fn variables_are_set_read_listed_and_removed() {
    let world = World::with_workflow(GOOD);
    world.run(&["var", "set", "level", "debug"]).prints(&[]);
    with_input(&world, &["var", "set", "NOTES"], b"two\nlines\n").prints(&[]);
    assert_eq!(world.run(&["var", "get", "NOTES"]).stdout, "two\nlines\n");
    world.run(&["var", "ls"]).prints(&["LEVEL", "debug"]);
    world.run(&["var", "ls", "--json"]).prints(&["\"value\": \"debug\""]);
    world
        .run(&["var", "get", "LEVEL", "--env", "x"])
        .fails(2, &["there is no variable LEVEL of environment x"]);
    world.run(&["var", "rm", "LEVEL"]).prints(&[]);
    world.run(&["var", "get", "LEVEL"]).fails(2, &["there is no variable"]);
    assert!(!world.data().join("settings/key").exists(), "variables need no key");
}

#[test]
fn a_directory_runs_what_the_event_starts_and_a_named_file_runs_in_any_case() {
    let world = World::with_workflow(GOOD);
    let filtered = GOOD.replace("on: push", "on: {push: {branches: [release]}, workflow_dispatch: }");
    world.write(".github/workflows/release.yml", &filtered);
    world.write(".github/workflows/called.yml", &GOOD.replace("on: push", "on: workflow_call"));
    let said = world.run(&["run", "-n"]);
    said.prints(&["(.github/workflows/ci.yml) for push"]);
    for words in ["not run: .github/workflows/release.yml (push):", "called.yml: it runs only when another"] {
        assert!(said.stderr.contains(words), "{said:#?}");
    }
    assert!(!said.stdout.contains("release.yml"), "{said:#?}");
    let said = world.run(&["run", "-n", "-e", "workflow_dispatch"]);
    said.prints(&["(.github/workflows/release.yml) for workflow_dispatch"]);
    assert!(said.stderr.contains("ci.yml (workflow_dispatch): 'on' does not name"), "{said:#?}");
    let said = world.run(&["run", "-n", ".github/workflows/release.yml"]);
    said.prints(&["release.yml) for push"]);
    assert!(said.stderr.contains("which runs because it was named"), "{said:#?}");
    world.write("push.json", "{\"ref\": \"refs/heads/release\"}");
    world
        .run(&["run", "-n", "--eventpath", "push.json"])
        .prints(&["release.yml) for push", "ci.yml) for push"]);
}

#[test]
fn a_call_is_shown_with_its_jobs_and_a_missing_one_with_its_place() {
    let called = "on: {workflow_call: {inputs: {n: {type: number, required: true}}}}\njobs:\n  inner:\n    runs-on: x\n    steps: [run: 'true']\n";
    let calls = "on: push\njobs:\n  outer:\n    uses: ./.github/workflows/called.yml\n    with: {n: 1}\n";
    let world = World::with_workflow(calls);
    let path = ".github/workflows/ci.yml";
    world.run(&["run", "-n", path]).fails(2, &["there is no such file in the repository", "ci.yml:4:11"]);
    world.write(".github/workflows/called.yml", called);
    let said = world.run(&["run", "-n", path]);
    said.prints(&["job outer calls ./.github/workflows/called.yml", "job inner"]);
    world.write(path, &calls.replace("{n: 1}", "{n: many}"));
    world.run(&["run", "-n", path]).fails(2, &["Unexpected value 'many'", "ci.yml:5:15"]);
    // Of several calls only the one is named whose file is not there.
    world.write(path, &format!("{calls}  other:\n    uses: ./.github/workflows/gone.yml\n"));
    let said = world.run(&["run", "-n", path]);
    said.fails(
        2,
        &["`uses: ./.github/workflows/gone.yml`: there is no such file in the repository", "ci.yml:7:11"],
    );
    for absent in ["called.yml", "is not executed"] {
        assert!(!said.stderr.contains(absent), "{said:#?}");
    }
}
