//! What `tci run` refuses before any VM starts, and says why; what it shows without running.

use crate::fixture::{Said, World};

const GOOD: &str = "\
name: CI
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - run: make
  test:
    needs: build
    runs-on: ubuntu-latest
    strategy: {matrix: {n: [1, 2]}}
    steps:
      - name: Try
        run: make test
";

#[test]
fn jobs_are_listed_and_a_dry_run_says_what_would_happen() {
    let world = World::with_workflow(GOOD);
    let said = world.run(&["run", "--list"]);
    said.prints(&["JOB", "build", "test", "CI", ".github/workflows/ci.yml", "push,workflow_dispatch"]);
    let said = world.run(&["run", "--dryrun", "--memory", "256"]);
    said.prints(&[
        "CI (.github/workflows/ci.yml) for push",
        "2 vCPUs, 256 MiB",
        "job test (matrix) (after build)",
        "1. Try",
    ]);
    world.run(&["run", "-n", "-j", "build"]).prints(&["job build"]);
    assert!(!world.run(&["run", "-n", "-j", "build"]).stdout.contains("job test"));
    world.run(&["runs", "ls", "--json"]).prints(&["[]"]);
}

#[test]
fn what_runs_nothing_has_no_result_to_write() {
    let world = World::with_workflow(GOOD);
    for (option, name) in [("-l", "`--list`"), ("-n", "`--dryrun`")] {
        world
            .run(&["run", option, "--json", "out.json"])
            .fails(2, &[name, "`tci plan --json` has workflows"]);
    }
    assert!(!world.repo().join("out.json").exists());
}

#[test]
fn a_workflow_without_push_runs_for_the_first_of_its_events() {
    let world = World::with_workflow(GOOD);
    let of = |on: &str| GOOD.replace("[push, workflow_dispatch]", on);
    world.write(
        ".github/workflows/nightly.yml",
        &of("{schedule: [{cron: '1 1 * * *'}], workflow_dispatch: }"),
    );
    world.write(".github/workflows/review.yml", &of("pull_request"));
    world.run(&["run", "-n"]).prints(&[
        "(.github/workflows/ci.yml) for push",
        "(.github/workflows/nightly.yml) for schedule",
        "(.github/workflows/review.yml) for pull_request",
    ]);
    let said = world.run(&["run", "-n", "-e", "push"]);
    said.prints(&["ci.yml) for push"]);
    assert!(!said.stdout.contains("review.yml"), "{said:#?}");
}

#[test]
fn names_that_need_a_run_are_shown_as_they_are_written() {
    let world = World::with_workflow(
        "on: push
jobs:
  a:
    name: On ${{ matrix.os }}
    runs-on: ubuntu-latest
    strategy: {matrix: {os: [x, y]}}
    steps:
      - {name: 'Build {${{matrix.os}}} of ${{ github.ref }}', run: make}
      - run: |
          echo ${{ github.sha }}
          echo more
",
    );
    world
        .run(&["run", "-n"])
        .prints(&["1. Build {${{ matrix.os }}} of ${{ github.ref }}\n", "2. echo ${{ github.sha }}\n"]);
    world.run(&["run", "-l"]).prints(&["On ${{ matrix.os }}"]);
}

#[test]
fn a_file_a_directory_and_the_flag_mean_the_same() {
    let world = World::with_workflow(GOOD);
    for args in [
        vec!["run", "-l", ".github/workflows/ci.yml"],
        vec!["run", "-l", ".github/workflows"],
        vec!["run", "-l", "."],
        vec!["run", "-l", "-W", ".github/workflows/ci.yml"],
    ] {
        world.run(&args).prints(&[".github/workflows/ci.yml"]);
    }
}

#[test]
fn a_workflow_is_found_by_the_name_of_its_file() {
    let world = World::with_workflow(GOOD);
    world.write("sub/readme.txt", "");
    for (directory, args) in [
        (".", vec!["run", "-l", "ci.yml"]),
        (".", vec!["run", "-l", "-W", "ci.yml"]),
        ("sub", vec!["run", "-l", "ci.yml"]),
        (".", vec!["plan", "ci.yml"]),
    ] {
        let output = world.tci().current_dir(world.repo().join(directory)).args(&args).output().unwrap();
        let said = Said::of(&output);
        said.prints(&[".github/workflows/ci.yml"]);
        let note = "there is no ci.yml here: taking .github/workflows/ci.yml of the repository\n";
        assert!(said.stderr.contains(note), "{args:?}: {said:?}");
    }
    // What is there is taken, and only a name is looked for elsewhere.
    world.write("ci.yml", &GOOD.replace("build", "other"));
    let said = world.run(&["run", "-l", "ci.yml"]);
    said.prints(&["other"]);
    assert_eq!(said.stderr, "");
    world.run(&["run", "-l", "sub/ci.yml"]).fails(2, &["cannot find sub/ci.yml"]);
}

#[test]
fn places_without_workflows_are_refused() {
    let world = World::new();
    world.run(&["run"]).fails(2, &["no workflow files", ".github/workflows"]);
    world.run(&["run", "nope.yml"]).fails(2, &["cannot find nope.yml", "No such file"]);
    world.write("other/readme.txt", "");
    world.run(&["run", "other"]).fails(2, &["no workflow files"]);
}

#[test]
fn a_home_directory_is_never_copied_by_accident() {
    let world = World::new();
    std::fs::write(world.home().join("w.yml"), GOOD).unwrap();
    let path = world.home().join("w.yml");
    world.run(&["run", "-n", path.to_str().unwrap()]).fails(2, &["is no git repository", "git init"]);
}

#[test]
fn a_broken_workflow_is_shown_with_its_place() {
    let world = World::with_workflow("on: push\njobs:\n  a:\n    runs-on: [x\n");
    world.run(&["run"]).fails(2, &["error:", ".github/workflows/ci.yml:"]);
    let world = World::with_workflow(&GOOD.replace("needs: build", "needs: bild"));
    world.run(&["run"]).fails(2, &["bild", ".github/workflows/ci.yml:9"]);
    let world = World::with_workflow(&GOOD.replace("run: make\n", "run: make\n        speed: 3\n"));
    world.run(&["run"]).fails(2, &["speed", ".github/workflows/ci.yml:8:9"]);
}

#[test]
fn a_binary_file_is_no_workflow() {
    let world = World::with_workflow(GOOD);
    std::fs::write(world.repo().join(".github/workflows/ci.yml"), [0xff, 0xfe, 0x00]).unwrap();
    world.run(&["run"]).fails(2, &["no UTF-8 text"]);
}

#[test]
fn a_workflow_in_another_encoding_is_refused_at_its_place() {
    let world = World::with_workflow(GOOD);
    // As an editor saves it in Latin-1.
    let (before, after) = GOOD.split_once("Try").unwrap();
    let latin = [before.as_bytes(), b"Pr\xfcfe", after.as_bytes()].concat();
    std::fs::write(world.repo().join(".github/workflows/ci.yml"), latin).unwrap();
    let place = ".github/workflows/ci.yml:13:17: ";
    for args in [&["run"][..], &["check", ".github/workflows/ci.yml"], &["actions", "ls"]] {
        world.run(args).fails(2, &[place, "no UTF-8 text", "save it as UTF-8"]);
    }
}

#[test]
fn wrong_events_jobs_inputs_and_files_are_refused() {
    let world = World::with_workflow(GOOD);
    world.write("bad.json", "[1]");
    let dispatch = ["-e", "workflow_dispatch", "--input", "a=1"];
    for (args, words) in [
        (
            &["-e", "release"][..],
            &["the event starts none", "'on' does not name the event 'release'", "name a file"][..],
        ),
        (&["-j", "deploy"], &["has a job `deploy`", "build, test"]),
        (&["--input", "a=1"], &["takes no inputs", "workflow_dispatch"]),
        (&dispatch, &["no input `a`"]),
        (&["--eventpath", "bad.json"], &["bad.json is no JSON object"]),
        (&["--eventpath", "nope.json"], &["cannot read nope.json"]),
        (&["--env-file", "nope.env"], &["cannot read nope.env"]),
        (&["--matrix", "n"], &["--matrix n", "KEY:VALUE"]),
        (
            &["--matrix", "n:3"],
            &["`--matrix n:3`: no leg", "hint: these legs exist: test (1) [n:1], test (2)"],
        ),
        (&["--matrix", "os:1", "-n"], &["no matrix of the jobs that run has the key `os`", "test (1)"]),
        (&["--matrix", "n:1", "-j", "build"], &["has the key `n`", "none of the jobs that run has a matrix"]),
        (&["--vm-type", "huge"], &["no VM type `huge`"]),
        (&["--secret", "TOKEN"], &["secret `TOKEN` has no value", "--secret-file"]),
        (&["--memory", "100000G", "-n"], &["the host has"]),
    ] {
        let mut all = vec!["run"];
        all.extend(args);
        world.run(&all).fails(2, words);
    }
}

#[test]
fn more_memory_than_the_host_has_is_refused_before_anything_starts() {
    let world = World::with_workflow(GOOD);
    world.run(&["run", "--memory", "900000G"]).fails(2, &["memory", "the host has"]);
    world.run(&["runs", "ls", "--json"]).prints(&["[]"]);
}

#[test]
fn an_image_that_nobody_can_build_is_refused() {
    let world = World::with_workflow(GOOD);
    world.run(&["run", "--image", "nope"]).fails(2, &["there is no image `nope`", "tci image build"]);
}

#[test]
fn a_port_in_use_is_named_with_a_remedy() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = world.run(&["serve", "--listen", &address]);
    said.fails(
        3,
        &[&format!("cannot listen on {address}"), "hint: another program listens there", "--listen"],
    );
    assert_eq!(said.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said:#?}");
}

#[test]
fn a_wrong_configuration_names_file_line_and_key() {
    let world = World::with_workflow(GOOD);
    world.write("tci.toml", "[vm-types.big]\ncpus = 4\nmemori-mib = 1\n");
    world.run(&["run", "-n"]).fails(2, &["tci.toml:3:1", "memori-mib"]);
    world.write("tci.toml", "[vm-types.big]\ncpus = 4\nmemory-mib = 300\n");
    world.run(&["run", "-n", "--vm-type", "big"]).prints(&["4 vCPUs, 300 MiB"]);
    world.run(&["run", "-n", "--vm-type", "big", "--cpus", "1"]).prints(&["1 vCPUs, 300 MiB"]);
}

#[test]
fn the_users_configuration_is_below_that_of_the_repository() {
    let world = World::with_workflow(GOOD);
    let user = world.home().join(".config/tci/config.toml");
    std::fs::create_dir_all(user.parent().unwrap()).unwrap();
    std::fs::write(&user, "[vm-types.default]\ncpus = 3\nmemory-mib = 200\n").unwrap();
    world.write("tci.toml", "[vm-types.default]\nmemory-mib = 300\n");
    world.run(&["run", "-n"]).prints(&["3 vCPUs, 300 MiB"]);
}

/// Before any VM is looked for: there is none here.
#[test]
fn options_of_vm_exec_that_would_do_nothing_are_refused() {
    let world = World::new();
    for (args, words) in [
        (&["--json", "-t", "web", "--", "true"][..], &["--json", "cannot be used with", "--tty"][..]),
        (&["--json", "web"], &["<COMMAND>", "not provided"]),
        (&["--from", "0", "web", "--", "true"], &["--from", "cannot be used with", "[COMMAND]"]),
        (&["--from", "0", "--list", "web"], &["--from", "cannot be used with", "--list"]),
    ] {
        world.run(&[&["vm", "exec"], args].concat()).fails(2, words);
    }
    world.run(&["vm", "exec", "--list", "--json", "web"]).fails(2, &["there is no VM `web`"]);
}

#[test]
fn what_is_no_qmp_command_is_refused() {
    let world = World::new();
    for whole in ["[]", r#"{"execute": "query-status"}"#] {
        world.run(&["vm", "qmp", "web", whole]).fails(2, &["name of a QMP command", "query-status"]);
    }
    world.run(&["vm", "qmp", "web", "query-status", "[]"]).fails(2, &["a JSON object is expected"]);
    world.run(&["vm", "qmp", "web", "query-status", "{}"]).fails(2, &["there is no VM `web`"]);
}
