//! `tci learn` and `tci insights`, from their users' side. Events are imported, as another machine exported them.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::fixture::World;

/// An export of `n` runs of one command in `me/it`; every third fails.
fn export(n: u32) -> String {
    let mut text = json!({"head": {"format": "tci-learning", "version": 1}}).to_string();
    for run in 0..n {
        let failed = run % 3 == 2;
        let event = json!({
            "uid": format!("u{run}"), "kind": "command", "repository": "me/it", "workflow": "ci.yml",
            "run": run.to_string(), "attempt": 1, "job": "build", "step": "Test", "number": 1,
            "command": "cargo test", "previous": "", "outcome": if failed { "failure" } else { "success" },
            "exit_code": i32::from(failed), "duration_ms": 1000, "limit_ms": null,
            "signature": failed.then(|| json!({"cause": "network", "text": "Connection refused"})),
            "commit": format!("c{run}"), "changed": [], "environment": "x", "output_lines": 3,
            "at_ms": 1_700_000_000_000_i64 + i64::from(run) * 1000,
        });
        text += &format!("\n{}", json!({"event": event}));
    }
    text + "\n"
}

fn world() -> World {
    let world = World::new();
    let file = world.write("learning.jsonl", &export(12));
    world.run(&["learn", "import", file.to_str().unwrap()]).prints(&["12 events, 0 of them known already"]);
    world
}

fn json_of(world: &World, args: &[&str]) -> Value {
    let said = world.run(args);
    said.prints(&[]);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn what_was_learned_is_shown() {
    let world = world();
    let of = ["--repository", "me/it"];
    let run = |args: &[&str]| world.run(&[args, &of].concat());
    run(&["learn", "stats"]).prints(&["12, of which 4 failed", "lessons            1"]);
    run(&["learn", "explain", "sudo cargo test"]).prints(&[
        "cargo test\nsucceeds with",
        "failed 4 times with: Connection refused (network), a lesson, last",
    ]);
    run(&["learn", "lessons"])
        .prints(&["`cargo test` fails with \"Connection refused\" (network): 4 times, last in run 11"]);
    run(&["learn", "flaky"]).prints(&["`cargo test` fails for the infrastructure: fails in 33 % of runs"]);
    run(&["insights"]).prints(&["Failures that repeat\n- `cargo test`", "Not stable\n- `cargo test`"]);
    let explained = json_of(&world, &["learn", "explain", "cargo test", "--repository", "me/it", "--json"]);
    let p = explained["prediction"]["probability"].as_f64().unwrap();
    assert!((0.5..0.8).contains(&p), "{explained:#}");
    assert_eq!(json_of(&world, &["insights", "--repository", "me/it", "--json"])["totals"]["failures"], 4);
    assert_eq!(json_of(&world, &["learn", "stats", "--repository", "me/it", "--json"])["events"], 12);
}

#[test]
fn counters_can_be_rebuilt_exported_imported_and_forgotten() {
    let world = world();
    world.run(&["learn", "rebuild"]).prints(&["12 events", "all were as the events say"]);
    let copy = world.repo().join("copy.jsonl");
    world.run(&["learn", "export", copy.to_str().unwrap()]).prints(&[]);
    assert_eq!(fs::read_to_string(&copy).unwrap().lines().count(), 13);
    world.run(&["learn", "import", copy.to_str().unwrap()]).prints(&["12 events, 12 of them known already"]);
    world.run(&["learn", "forget", "me/it"]).prints(&["me/it"]);
    let said = world.run(&["learn", "stats", "--repository", "me/it"]);
    said.prints(&["commands run       0"]);
    assert!(said.stderr.contains("nothing was learned about me/it yet"), "{said:#?}");
    world.run(&["learn", "forget", "me/it"]).fails(2, &["nothing was learned about me/it"]);
}

/// The threshold is the user's, or of the `tci.toml` here, and says what is told of all that was learned before.
#[test]
fn the_threshold_of_lessons_is_configured_and_no_counter_depends_on_it() {
    let world = world();
    let here = world.write(
        "here.jsonl",
        &export(12).replace("me/it", "local/repo").replace("\"uid\":\"u", "\"uid\":\"v"),
    );
    world.run(&["learn", "import", here.to_str().unwrap()]).prints(&["12 events, 0 of them known already"]);
    let lessons = |args: &[&str]| {
        let stats = json_of(&world, &[&["learn", "stats", "--json"], args].concat())["lessons"].as_u64();
        let listed = json_of(&world, &[&["learn", "lessons", "--json"], args].concat());
        assert_eq!(stats, listed.as_array().map(|all| all.len() as u64), "{listed:#}");
        // Rows are as the events say, whatever is told of them.
        assert_eq!(json_of(&world, &["learn", "rebuild", "--json"])["corrected"], 0);
        stats
    };
    assert_eq!(lessons(&[]), Some(1), "four failures, three are needed");
    let user = world.home().join(".config/tci/config.toml");
    fs::create_dir_all(user.parent().unwrap()).unwrap();
    fs::write(&user, "[learning]\nlesson-threshold = 5\n").unwrap();
    assert_eq!(lessons(&[]), Some(0));
    world.run(&["insights"]).prints(&["Not stable"]);
    world.write("tci.toml", "[learning]\nlesson-threshold = 4\n");
    assert_eq!(lessons(&[]), Some(1));
    assert_eq!(lessons(&["--repository", "me/it"]), Some(0), "the `tci.toml` here is not about that one");
    for (bad, why) in [
        ("1", "tci.toml:2: learning.lesson-threshold: give between 2 and 20 failures, not 1"),
        ("21", "not 21"),
        ("2.5", "tci.toml:2:20: lesson-threshold: invalid type: floating point `2.5`"),
    ] {
        world.write("tci.toml", &format!("[learning]\nlesson-threshold = {bad}\n"));
        world.run(&["learn", "lessons"]).fails(2, &[why]);
    }
}

/// An import that is killed has taken over some events and their counters, both or neither of each; the rest follows.
#[test]
fn a_killed_import_leaves_counters_that_are_as_the_events_say() {
    let world = World::new();
    let file = world.write("learning.jsonl", &export(3000));
    let args = ["learn", "import", file.to_str().unwrap()];
    let events =
        || json_of(&world, &["learn", "stats", "--repository", "me/it", "--json"])["events"].as_u64();
    let (mut kills, mut last) = (0, 0);
    while kills < 5 {
        let mut import = world.tci().args(args).stdout(Stdio::null()).spawn().unwrap();
        // Some way on: more events than at the last kill are there.
        while events() <= Some(last) && import.try_wait().unwrap().is_none() {}
        import.kill().unwrap();
        let was_killed = !import.wait().unwrap().success();
        last = events().unwrap();
        assert!(was_killed && (1..3000).contains(&last), "killed in the middle, not after {last} events");
        kills += 1;
        let rebuilt = json_of(&world, &["learn", "rebuild", "--json"]);
        assert_eq!((&rebuilt["corrected"], &rebuilt["events"]), (&0.into(), &last.into()), "kill {kills}");
    }
    world.run(&args).prints(&["3000 events"]);
    assert_eq!(events(), Some(3000));
    assert_eq!(json_of(&world, &["learn", "rebuild", "--json"])["corrected"], 0);
    // And they are those of an import that nobody disturbed.
    let rows = |world: &World| world.run(&["learn", "stats", "--repository", "me/it", "--json"]).stdout;
    let calm = World::new();
    let file = calm.write("learning.jsonl", &export(3000));
    calm.run(&["learn", "import", file.to_str().unwrap()]).prints(&["3000 events"]);
    assert_eq!(rows(&world), rows(&calm));
}

#[test]
fn mistakes_are_refused_and_change_nothing() {
    let world = World::new();
    world.run(&["learn", "rebuild"]).fails(2, &["nothing was ever learned here"]);
    world.run(&["learn", "explain", " "]).fails(2, &["no command is given"]);
    let import = |text: &str| {
        let file = world.write("bad.jsonl", text);
        world.run(&["learn", "import", file.to_str().unwrap()])
    };
    import("{}\n").fails(2, &["bad.jsonl:1: no line of an export"]);
    import("{\"head\":{\"format\":\"x\",\"version\":1}}\n")
        .fails(2, &["bad.jsonl:1: x 1 is no `tci-learning`"]);
    import(&format!("{}nonsense\n", export(2))).fails(2, &["bad.jsonl:4:"]);
    assert!(!world.data().join("runs.db").exists(), "nothing was begun");
    world.write("terms.json", "{\"x\": 1}");
    world
        .run(&["learn", "explain", "make", "--thesaurus", "terms.json"])
        .fails(2, &["terms.json: no thesaurus"]);
    let said = world.run(&["insights"]);
    said.prints(&[]);
    assert!(said.stderr.contains("nothing was learned about local/repo yet"), "{said:#?}");
    // Where nothing was learned programs get the same form: even odds.
    let explained = json_of(&world, &["learn", "explain", "make", "--json"]);
    assert_eq!((&explained["prediction"]["probability"], &explained["fact"]), (&json!(0.5), &Value::Null));
}
