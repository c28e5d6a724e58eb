use super::super::CommandKnowledgeGraph;
use super::super::model::real;
use super::*;

fn memory() -> Memory {
    Memory::default()
}

impl Memory {
    fn success_after(&mut self, first: &str, second: &str, context: &str) {
        self.record(Told { command: second, after: Some(first), context, ..Told::default() });
    }

    fn next(&mut self, command: &str, success: bool, context: &str) {
        let failure = (!success).then(|| FailureSignature::of("error: x"));
        self.record(Told { command, context, failure, ..Told::default() });
    }
}

#[test]
fn nothing_known_is_even_odds() {
    let mut memory = memory();
    assert_eq!(memory.predict("a", "b"), 0.5);
    memory.success_after("a", "b", "run");
    assert_eq!(memory.predict("b", "a"), 0.5, "nobody said how `a` ended");
    assert_eq!(memory.predict("a", "c"), 0.5);
    memory.workflow("", &["x".into(), "y".into()], "run");
    assert_eq!(memory.predict("x", "y"), 0.5, "a pair without outcomes");
}

#[test]
fn three_good_and_a_failure_of_the_first_are_more_than_even_odds() {
    let mut memory = memory();
    for run in ["1", "2", "3"] {
        memory.success_after("git pull", "cargo build", run);
    }
    memory.next("git pull", false, "4");
    let p = memory.predict("git pull", "cargo build");
    assert!(p > 0.7, "{p}");
}

#[test]
fn predictions_come_close_to_the_truth() {
    for percent in [0_u64, 5, 50, 80, 100] {
        let mut memory = memory();
        for i in 0..1000_u64 {
            let context = format!("run {i}");
            memory.next("build", true, &context);
            // 37 has no common factor with 100, so the outcomes are spread evenly.
            memory.next("test", i * 37 % 100 < percent, &context);
        }
        let truth = real(percent) / 100.0;
        let predicted = memory.predict("build", "test");
        // Two standard errors of the 150 outcomes that are remembered: more would be slow to see what changes.
        let bound = 0.01 + 2.0 * (truth * (1.0 - truth) / 150.0).sqrt();
        assert!((predicted - truth).abs() < bound, "{predicted} for {truth}");
    }
}

#[test]
fn what_breaks_is_seen_to_be_broken_after_few_runs() {
    let mut memory = memory();
    for run in 0..100 {
        memory.success_after("build", "test", &run.to_string());
    }
    assert!(memory.predict("build", "test") > 0.95);
    for run in 0..6 {
        let context = format!("bad {run}");
        memory.next("build", true, &context);
        memory.next("test", false, &context);
    }
    let p = memory.predict("build", "test");
    assert!(p < 0.5, "a plain ratio would still say {:.2}: {p}", 100.0 / 106.0);
}

#[test]
fn failures_of_the_second_command_count_on_the_same_edge() {
    let mut memory = memory();
    for i in 0..7 {
        memory.success_after("build", "test", &i.to_string());
    }
    let before = memory.predict("build", "test");
    // In a run whose last pair is known, and in one that is not.
    memory.next("test", false, "0");
    let between = memory.predict("build", "test");
    memory.next("test", false, "another");
    let after = memory.predict("build", "test");
    assert!(before > between && between > after, "{before} {between} {after}");
    let pair: Vec<_> = memory.model("").unwrap().sequences().before("test").collect();
    assert_eq!(
        (pair[0].command, pair[0].times, pair.len()),
        ("build", 9, 1),
        "another attempt is no sequence"
    );
}

#[test]
fn a_failure_without_a_known_predecessor_is_shared_out() {
    let mut memory = memory();
    for i in 0..40 {
        for _ in 0..3 {
            memory.success_after("a", "x", "1");
        }
        memory.success_after("b", "x", "2");
        for n in 0..4 {
            memory.next("x", false, &format!("unknown {i} {n}"));
        }
    }
    let pairs: HashMap<&str, u64> =
        memory.model("").unwrap().sequences().before("x").map(|one| (one.command, one.times)).collect();
    assert_eq!(pairs["a"] + pairs["b"], 320);
    assert!((225..=255).contains(&pairs["a"]), "three quarters are 240: {pairs:?}");
    for first in ["a", "b"] {
        let p = memory.predict(first, "x");
        assert!((0.2..0.8).contains(&p), "half of its runs fail, the last four did: {p}");
    }
}

#[test]
fn related_commands_are_neighbours_first_and_kin_then() {
    let mut memory = memory();
    for _ in 0..3 {
        memory.success_after("cargo build", "./package", "1");
    }
    memory.success_after("rustup update", "cargo build", "2");
    memory.workflow("", &["cargo build".into(), "strip it".into()], "3");
    memory.success_after("cargo fmt", "ls", "4");
    let related = memory.related("cargo build", 10);
    assert_eq!(related[0], "./package");
    let mut others = related[1..3].to_vec();
    others.sort_unstable();
    assert_eq!(others, ["rustup update", "strip it"]);
    assert_eq!(related[3..], ["cargo fmt"]);
    assert_eq!(memory.related("cargo build", 1), ["./package"]);
    assert_eq!(
        memory.related("A=1 cargo doc", 2),
        ["cargo build", "cargo fmt"],
        "unknown, but of that program"
    );
    assert_eq!(memory.related("make", 5), [""; 0]);
}

#[test]
fn commands_of_one_meaning_are_related() {
    let mut memory = memory();
    memory.next("npm ci", true, "1");
    memory.next("yarn install", true, "2");
    memory.next("ls", true, "3");
    assert_eq!(memory.related("npm ci", 5), ["yarn install"]);
}

#[test]
fn a_workflow_that_was_heard_of_while_it_ran_counts_once() {
    let mut memory = memory();
    let commands = ["a".to_owned(), "b".to_owned()];
    for command in &commands {
        memory.next(command, true, "run");
    }
    memory.workflow("", &commands, "run");
    let times = |memory: &Memory| memory.model("").unwrap().sequences().after("a").next().unwrap().times;
    assert_eq!(times(&memory), 1);
    memory.workflow("", &commands, "a run that nobody heard of");
    assert_eq!(times(&memory), 2);
    let stats = memory.graph_stats();
    assert_eq!((stats.workflow_edges, stats.success_edges, stats.failure_edges), (2, 1, 0));
}

#[test]
fn memory_is_bounded() {
    let mut memory = memory();
    for i in 0..MAX_CONTEXTS + 100 {
        memory.next("a", true, &format!("run {i}"));
    }
    assert!(memory.places.of.len() <= MAX_CONTEXTS && memory.places.order.len() <= MAX_CONTEXTS);
    for i in 0..100_u8 {
        let failure = FailureSignature::of(&format!(
            "error: {}",
            char::from(b'a' + i % 26).to_string().repeat(1 + usize::from(i))
        ));
        memory.record(Told { command: "a", context: "r", failure: Some(failure), ..Told::default() });
    }
    assert_eq!(memory.reasons("a").len(), 16);
}

#[tokio::test]
async fn a_hundred_thousand_runs_of_one_pair_cost_no_more_than_one() {
    let graph = CommandKnowledgeGraph::new().await.unwrap();
    for i in 0..100_000 {
        let context = format!("run {i}");
        graph.record_success_sequence("build", "test", &context).await.unwrap();
    }
    assert!(graph.predict_success("build", "test").await > 0.99);
    let stats = graph.get_stats().await;
    assert_eq!((stats.success_edges, stats.unique_commands), (100_000, 2));
    assert_eq!(graph.command_count(), 2);
    assert!(graph.has_command(" build "));
    assert!(!graph.has_command("deploy"));
}

#[test]
fn a_pair_takes_the_same_room_however_often_it_ran() {
    let mut memory = memory();
    let rows = |memory: &Memory| memory.model("").unwrap().rows().len() + memory.shared.rows().len();
    memory.success_after("build", "test", "0");
    let once = rows(&memory);
    for i in 0..10_000 {
        memory.success_after("build", "test", &(i % 7).to_string());
    }
    assert_eq!((rows(&memory), memory.places.of.len(), memory.commands.len()), (once, 7, 2));
}
