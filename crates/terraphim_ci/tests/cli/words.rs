//! `tci new` and `tci explain`.

use crate::fixture::World;

#[test]
fn a_sentence_becomes_a_workflow_file_that_passes_the_checker() {
    let world = World::new();
    world.write("Cargo.toml", "[package]\n");
    let sentence = "run cargo test and clippy on every push, cache the target directory, nightly at 3";
    let said = world.run(&["new", sentence]);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["on:\n  push:\n", "- cron: '0 3 * * *'", "- run: cargo test", "clippy", "actions/cache@v4"] {
        assert!(said.stdout.contains(part), "{part}: {said:?}");
    }
    assert!(said.stderr.contains("event `push`"), "{said:?}");

    let file = world.repo().join(".github/workflows/ci.yml");
    let path = file.to_str().unwrap();
    let said = world.run(&["new", sentence, "-o", path]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
    let checked = world.run(&["check", path]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(!checked.stdout.contains("warning"), "{checked:?}");

    let before = std::fs::read_to_string(&file).unwrap();
    world.run(&["new", "run `true`", "-o", path]).fails(2, &["is there already", "--force"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(world.run(&["new", "run `true`", "-o", path, "--force"]).code, 0);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_is_not_understood_is_said_and_nothing_understood_is_an_error() {
    let world = World::new();
    let said = world.run(&["new", "run `make` and paint the fence", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &made["not_understood"][0]["text"]), (0, &"paint".into()), "{said:?}");
    assert!(made["workflow"].as_str().unwrap().contains("- run: make"));
    assert!(!made["notes"].as_array().unwrap().is_empty());

    let file = world.repo().join("w.yml");
    let path = file.to_str().unwrap();
    let strict = world.run(&["new", "run `make` and paint the fence", "--strict", "-o", path]);
    strict.fails(2, &["not understood: \"paint\"", "--strict"]);
    world
        .run(&["new", "paint the fence", "-o", path])
        .fails(2, &["nothing in it says what to run", "`backticks`"]);
    world.run(&["new", "test it"]).fails(2, &["the repository shows none"]);
    world.run(&["new", " "]).fails(2, &["a sentence has between 1 and"]);
    world.run(&["new", "run `true`", "-d", "nowhere"]).fails(2, &["nowhere"]);
    assert!(!file.exists());
}

#[test]
fn without_a_file_the_workflows_of_the_repository_are_explained() {
    let world = World::new();
    world.run(&["explain"]).fails(2, &["there are no workflow files"]);
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [run: make]\n";
    world.write(".github/workflows/a.yml", text);
    world.write(".github/workflows/b.yml", &text.replace("make", "make all"));
    let said = world.run(&["explain"]);
    said.prints(&[
        ".github/workflows/a.yml\n",
        "Runs `make`",
        ".github/workflows/b.yml\n",
        "Runs `make all`",
    ]);
    assert_eq!(world.run(&["explain", "."]).stdout, said.stdout);
}

#[test]
fn a_workflow_is_explained_in_words() {
    let world = World::new();
    let text = "\
name: Release
on:
  push: {branches: [main], paths-ignore: ['docs/**']}
  schedule: [{cron: '30 4 * * 1-5'}]
  workflow_dispatch: {inputs: {version: {type: string, required: true}}}
permissions: {contents: read}
concurrency: {group: 'r-${{ github.ref }}', cancel-in-progress: true}
jobs:
  test:
    runs-on: ubuntu-latest
    timeout-minutes: 20
    strategy: {matrix: {os: [a, b], python: ['3.11', '3.12', '3.13']}}
    steps:
      - uses: actions/checkout@v4
      - {run: make, continue-on-error: true}
      - {name: Always, if: always(), run: \"echo ${{ vars.PLACE }}\"}
  ship:
    needs: test
    if: github.ref == 'refs/heads/main'
    environment: production
    runs-on: ubuntu-latest
    steps:
      - {uses: docker://alpine, env: {KEY: '${{ secrets.SHIP_KEY }}'}}
";
    let file = world.write("w.yml", text);
    let said = world.run(&["explain", file.to_str().unwrap()]);
    let expected = "\
Release:
Runs on every push of branches `main`, unless it changes only `docs/**`.
Runs from Monday to Friday at 04:30 (UTC).
Can be started by hand with the inputs `version` (string, required).
One workflow of the group `r-${{ github.ref }}` at a time; a newer one cancels it.
The token may: read contents.
Job `test` on ubuntu-latest:
  6 times, once for each of: os a, b; python 3.11, 3.12, 3.13.
  At most 20 minutes.
    1. Checks the repository out (`actions/checkout@v4`)
    2. Runs `make`; it may fail
    3. Always: runs `echo ${{ vars.PLACE }}`, whatever happened before
Job `ship` on ubuntu-latest, after `test`, only on the branch `main`:
  In the environment production.
    1. Runs the container image `alpine`
It reads the secrets SHIP_KEY.
It reads the variables PLACE.
";
    assert_eq!((said.code, said.stdout.as_str()), (0, expected), "{}", said.stderr);
    let json = world.run(&["explain", file.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["lines"][0], "Release:");
    let bad = world.write("bad.yml", "on: push\njobs: {a: {runs-on: x, stepz: []}}\n");
    world
        .run(&["explain", bad.to_str().unwrap()])
        .fails(2, &["error: Unexpected value 'stepz'", "bad.yml:2"]);
}
