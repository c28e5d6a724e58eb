//! What the command line of `tci run` changes.

use std::fs;

use crate::host::World;

const FLAGS: &str = r#"
on:
  workflow_dispatch:
    inputs:
      level: {type: string, default: info}
env: {WHO: workflow}
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: |
          echo "$WHO $FROM_FLAG $FROM_FILE ${{ vars.COLOUR }} ${{ inputs.level }} $GITHUB_EVENT_NAME"
          echo "secret is ${{ secrets.TOKEN }}, and reversed $(echo "${{ secrets.TOKEN }}" | rev)"
          echo "stderr has ${{ secrets.SECOND }}" >&2
          echo "::warning::told ${{ secrets.TOKEN }}"
          echo "out=${{ secrets.TOKEN }}" >> "$GITHUB_OUTPUT"
          echo "summary ${{ secrets.TOKEN }}" >> "$GITHUB_STEP_SUMMARY"
  two:
    needs: one
    runs-on: ubuntu-latest
    strategy: {matrix: {n: [1, 2]}}
    steps: [{run: 'echo "two ${{ matrix.n }}"'}]
  three:
    runs-on: ubuntu-latest
    steps: [{run: 'echo "three"'}]
"#;

#[test]
fn jobs_values_and_secrets_come_from_flags_and_secrets_are_never_shown() {
    let world = World::new();
    world.workflow("flags", FLAGS);
    let (env, secrets) = (world.path().join("env"), world.path().join("secrets"));
    fs::write(&env, "FROM_FILE=file\n").unwrap();
    fs::write(&secrets, "SECOND=other-secret-value\n").unwrap();
    let (said, report) = world.run(&[
        "-e",
        "workflow_dispatch",
        "--job",
        "two",
        "--matrix",
        "n:2",
        "--env",
        "FROM_FLAG=flag",
        "--env-file",
        env.to_str().unwrap(),
        "--var",
        "COLOUR=red",
        "--input",
        "level=debug",
        "--secret",
        "TOKEN=secret-token-value",
        "--secret-file",
        secrets.to_str().unwrap(),
    ]);
    said.ends(
        0,
        &["workflow flag file red debug workflow_dispatch\n", "secret is ***, ", "stderr has ***", "two 2"],
    );
    assert!(said.stdout.contains("eulav-nekot-terces"), "a value that was changed is not known");
    for absent in ["two 1", "three"] {
        assert!(!said.stdout.contains(absent), "{absent} ran: {said:#?}");
    }
    let names: Vec<_> =
        report["jobs"].as_array().unwrap().iter().map(|job| job["name"].to_string()).collect();
    assert_eq!(names, ["\"one\"", "\"two (2)\""]);
    assert!(report["jobs"][0]["steps"][0]["summary"].as_str().unwrap().contains("summary ***"), "{report}");
    let (logs, shown) = (world.tell(&["runs", "logs", "1"]), world.tell(&["runs", "show", "1", "--json"]));
    let stored = [said.all(), report.to_string(), logs.all(), shown.all()];
    for secret in ["secret-token-value", "other-secret-value"] {
        assert!(stored.iter().all(|text| !text.contains(secret)), "{secret} is shown: {stored:#?}");
        assert_eq!(files_with(&world.data(), secret), Vec::<String>::new(), "{secret} is stored");
    }
}

/// The files of the host that hold a text; without what is shared.
fn files_with(directory: &std::path::Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

#[test]
fn each_job_and_each_workflow_can_have_a_vm_of_its_own() {
    let world = World::new();
    let job = "    runs-on: ubuntu-latest\n    steps: [{run: 'test ! -e /var/tmp/mark && sudo touch /var/tmp/mark'}]\n";
    world.workflow("two-jobs", &format!("on: push\njobs:\n  a:\n{job}  b:\n{job}"));
    let (said, report) = world.run(&["--isolation", "job"]);
    said.ends(0, &[]);
    let vms: std::collections::BTreeSet<_> =
        report["jobs"].as_array().unwrap().iter().map(|job| job["vm_id"].to_string()).collect();
    assert_eq!((vms.len(), report["vm_ids"].as_array().unwrap().len()), (2, 2));
}

#[test]
fn several_workflows_run_each_in_its_vm_and_the_gravest_end_wins() {
    let world = World::new();
    for (name, command) in [("good", "true"), ("bad", "exit 5")] {
        let text =
            format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{{run: {command}}}]\n");
        world.workflow(name, &text);
    }
    let (said, reports) = world.run(&["--image", "busybox", "--memory", "128"]);
    said.ends(1, &["Process completed with exit code 5."]);
    let reports = reports.as_array().unwrap();
    let conclusions: Vec<_> = reports.iter().map(|report| report["conclusion"].as_str().unwrap()).collect();
    assert_eq!(conclusions, ["failure", "success"], "in the order of the files");
    assert_ne!(reports[0]["vm_ids"], reports[1]["vm_ids"]);
}

#[test]
fn a_list_and_a_dry_run_start_nothing() {
    let world = World::new();
    world.workflow("flags", FLAGS);
    world.tell(&["run", "--list", "-e", "workflow_dispatch"]).ends(0, &["one", "two", "three"]);
    world.tell(&["run", "--dryrun", "-e", "workflow_dispatch"]).ends(0, &["one", "two", "three"]);
    assert_eq!(world.tell(&["runs", "ls", "--json"]).stdout.trim(), "[]");
}
