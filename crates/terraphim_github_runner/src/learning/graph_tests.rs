use super::super::CommandKnowledgeGraph;
use super::*;

fn graph() -> Graph {
    Graph::default()
}

#[test]
fn nothing_known_is_even_odds() {
    let mut graph = graph();
    assert_eq!(graph.predict("a", "b"), 0.5);
    graph.success_after("a", "b", "run");
    assert_eq!(graph.predict("b", "a"), 0.5, "an order that was never seen");
    assert_eq!(graph.predict("a", "c"), 0.5);
    graph.workflow(&["x".into(), "y".into()], "run");
    assert_eq!(graph.predict("x", "y"), 0.5, "a pair without outcomes");
}

#[test]
fn predictions_come_close_to_the_truth() {
    for percent in [0_u64, 5, 50, 80, 100] {
        let mut graph = graph();
        for i in 0..1000_u64 {
            let context = format!("run {i}");
            graph.next("build", true, &context);
            // 37 has no common factor with 100, so the outcomes are spread evenly.
            graph.next("test", i * 37 % 100 < percent, &context);
        }
        let truth = real(percent) / 100.0;
        let predicted = graph.predict("build", "test");
        assert!((predicted - truth).abs() < 0.01, "{predicted} for {truth}");
    }
}

#[test]
fn failures_of_the_second_command_count_on_the_same_edge() {
    let mut graph = graph();
    for i in 0..7 {
        graph.success_after("build", "test", &i.to_string());
    }
    let before = graph.predict("build", "test");
    // In a run whose last pair is known, and in one that is not.
    graph.failure("test", "error: x".to_owned(), "0");
    let between = graph.predict("build", "test");
    graph.failure("test", "error: x".to_owned(), "another");
    let after = graph.predict("build", "test");
    assert!(before > between && between > after, "{before} {between} {after}");
    assert!((after - 8.0 / 11.0).abs() < 1e-9, "7 of 9, after Laplace: {after}");
    assert_eq!(graph.predict("test", "test"), 0.5, "a repeated command is another attempt, not a sequence");
}

#[test]
fn a_failure_without_a_known_predecessor_is_shared_out() {
    let mut graph = graph();
    for _ in 0..30 {
        graph.success_after("a", "x", "1");
    }
    for _ in 0..10 {
        graph.success_after("b", "x", "2");
    }
    for i in 0..40 {
        graph.failure("x", String::new(), &format!("unknown {i}"));
    }
    assert!((graph.predict("a", "x") - 31.0 / 62.0).abs() < 1e-9);
    assert!((graph.predict("b", "x") - 11.0 / 22.0).abs() < 1e-9);
}

#[test]
fn related_commands_are_neighbours_first_and_kin_then() {
    let mut graph = graph();
    for _ in 0..3 {
        graph.success_after("cargo build", "cargo test", "1");
    }
    graph.success_after("rustup update", "cargo build", "2");
    graph.workflow(&["cargo build".into(), "strip it".into()], "3");
    graph.success_after("cargo fmt", "ls", "4");
    let related = graph.related("cargo build", 10);
    assert_eq!(related, ["cargo test", "rustup update", "strip it", "cargo fmt"]);
    assert_eq!(graph.related("cargo build", 1), ["cargo test"]);
    assert_eq!(
        graph.related("A=1 cargo doc", 2),
        ["cargo build", "cargo fmt"],
        "unknown, but of that program"
    );
    assert_eq!(graph.related("make", 5), [""; 0]);
}

#[test]
fn memory_is_bounded() {
    let mut graph = graph();
    for i in 0..MAX_CONTEXTS + 100 {
        graph.next("a", true, &format!("run {i}"));
    }
    assert!(graph.places.of.len() <= MAX_CONTEXTS && graph.places.order.len() <= MAX_CONTEXTS);
    for i in 0..100_u8 {
        graph.failure(
            "a",
            format!("error: {}", char::from(b'a' + i % 26).to_string().repeat(1 + usize::from(i))),
            "r",
        );
    }
    assert_eq!(graph.signatures("a").len(), MAX_SIGNATURES);
}

#[tokio::test]
async fn a_hundred_thousand_runs_of_one_pair_cost_no_more_than_one() {
    let graph = CommandKnowledgeGraph::new().await.unwrap();
    for i in 0..100_000 {
        let context = format!("run {i}");
        graph.record_success_sequence("build", "test", &context).await.unwrap();
    }
    assert!(graph.predict_success("build", "test").await > 0.9999);
    let stats = graph.get_stats().await;
    assert_eq!((stats.success_edges, stats.unique_commands), (100_000, 2));
    assert_eq!(graph.command_count(), 2);
    assert!(graph.has_command(" build "));
    assert!(!graph.has_command("deploy"));
}

#[test]
fn a_pair_takes_the_same_room_however_often_it_ran() {
    let mut graph = graph();
    for i in 0..100_000 {
        graph.success_after("build", "test", &(i % 7).to_string());
    }
    let edges: usize = graph.nodes.iter().map(|node| node.next.len() + node.previous.len()).sum();
    assert_eq!((graph.nodes.len(), edges, graph.places.of.len()), (2, 2, 7));
}
