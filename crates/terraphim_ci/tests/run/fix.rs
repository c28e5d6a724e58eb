//! `tci fix`: from a failed run in a VM to a workflow that succeeds.

use std::fs;

use serde_json::Value;

use crate::{host::World, model_server::Model};

#[test]
fn a_failed_run_is_fixed_by_what_its_log_says() {
    let world = World::new();
    world.write("tool.sh", "#!/bin/sh\necho tool\n");
    world.workflow(
        "ci",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: ./tool.sh\n",
    );
    let file = world.repo().join(".github/workflows/ci.yml");
    let old = fs::read_to_string(&file).unwrap();
    let (said, _) = world.run(&[]);
    assert!(said.all().contains("exit code 126"), "{said:#?}");

    let said = world.tell(&["fix", "1"]);
    assert!(said.stdout.contains("+          chmod +x ./tool.sh\n"), "{said:#?}");
    assert!(said.stdout.starts_with("--- a/.github/workflows/ci.yml\n"), "{said:#?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), old, "nothing is applied unasked");
    let json: Value = serde_json::from_str(&world.tell(&["fix", "1", "--json"]).stdout).unwrap();
    assert_eq!(json["proposal"]["cause"], "`./tool.sh` may not be executed");

    // A file that was changed meanwhile stays.
    fs::write(&file, format!("{old}# mine\n")).unwrap();
    world.tell(&["fix", "1", "--apply"]).ends(2, &["is not as it was when it ran"]);
    fs::write(&file, &old).unwrap();
    world.tell(&["fix", "1", "--apply"]).ends(0, &["is changed"]);
    let (said, _) = world.run(&[]);
    said.ends(0, &["tool"]);
    world.tell(&["fix", "2"]).ends(2, &["no step of run 2 failed"]);
}

#[test]
fn a_model_proposes_a_change_for_a_failed_run() {
    let world = World::new();
    world.workflow(
        "ci",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          echo \"$KEY and plain\"\n          exit 3\n        env: {KEY: '${{ secrets.KEY }}'}\n",
    );
    let file = world.repo().join(".github/workflows/ci.yml");
    let old = fs::read_to_string(&file).unwrap();
    world.run(&["--secret", "KEY=not-for-models"]).0.ends(1, &[]);
    world.tell(&["fix", "1", "--llm"]).ends(2, &["no language model is configured"]);

    let new = old.replace("          exit 3\n", "          exit 0\n")
        + "      - uses: actions/cache@v4\n        with: {path: x, key: y}\n";
    let model = Model::says(&[&old, &new]);
    let config = world.data().with_file_name("home").join(".config/tci/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, format!("[llm]\nurl = '{}'\nmodel = 'm-1'\n", model.url)).unwrap();
    let said = world.tell(&["fix", "1", "--llm"]);
    said.ends(
        0,
        &[
            "-          exit 3\n+          exit 0\n",
            "the workflow then uses actions/cache@v4",
            "language model (m-1)",
        ],
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), old, "nothing is applied unasked");
    let seen = model.seen();
    let sent = seen[0].1["messages"].to_string();
    assert!(sent.contains("*** and plain") && !sent.contains("not-for-models"), "{sent}");
    assert!(seen[1].1["messages"].to_string().contains("the file is not changed"));
    world.tell(&["fix", "1", "--llm", "--apply"]).ends(0, &["is changed"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
}
