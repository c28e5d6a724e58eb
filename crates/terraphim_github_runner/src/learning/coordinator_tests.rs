use std::collections::HashMap as Map;
use std::time::Duration;

use super::*;
use crate::learning::OptimizationType;
use crate::models::{GitHubEvent, GitHubEventType, RepositoryInfo};

fn context(repository: &str) -> WorkflowContext {
    WorkflowContext::new(GitHubEvent {
        event_type: GitHubEventType::Push,
        action: None,
        repository: RepositoryInfo {
            full_name: repository.to_owned(),
            clone_url: None,
            default_branch: None,
        },
        pull_request: None,
        git_ref: None,
        sha: None,
        extra: Map::new(),
    })
}

#[tokio::test]
async fn a_failure_that_repeats_is_a_lesson_the_third_time() {
    let learning = InMemoryLearningCoordinator::new("agent");
    for (run, expected) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        let error = format!("note\nerror: lost connection {} to 0x{run:08x}", 8000 + run);
        learning.record_failure("make test", &error, &context("octo/a")).await.unwrap();
        assert_eq!(learning.get_stats().lessons_created, expected, "run {run}");
    }
    let lessons = learning.get_applicable_lessons(&context("octo/a")).await.unwrap();
    assert_eq!(lessons.len(), 1);
    assert!(
        lessons[0].title.starts_with("`make test` fails with \"error: lost connection # to"),
        "{lessons:?}"
    );
    assert!((lessons[0].confidence - 0.8).abs() < 1e-9);
    assert_eq!(learning.get_applicable_lessons(&context("octo/b")).await.unwrap(), []);
    let stats = learning.get_stats();
    assert_eq!((stats.total_failures, stats.unique_failure_patterns), (4, 1));
}

#[tokio::test]
async fn from_how_many_failures_on_there_is_a_lesson_can_be_chosen() {
    let two = LessonThreshold::new(2).unwrap();
    let learning = InMemoryLearningCoordinator::new("agent").with_lesson_threshold(two);
    for run in 1..=3 {
        learning.record_failure("make test", "error: lost connection", &context("octo/a")).await.unwrap();
        assert_eq!(learning.get_stats().lessons_created, usize::from(run >= 2), "run {run}");
        let lessons = learning.get_applicable_lessons(&context("octo/a")).await.unwrap();
        assert_eq!(lessons.len(), usize::from(run >= 2), "run {run}");
    }
    // Also of what was learned before.
    let learning = learning.with_lesson_threshold(LessonThreshold::new(4).unwrap());
    assert_eq!(learning.get_stats().lessons_created, 0);
    assert_eq!(learning.get_applicable_lessons(&context("octo/a")).await.unwrap(), []);
}

/// The fronts and the store's model are one: a lesson has its day, and is over after five successes.
#[tokio::test]
async fn a_lesson_is_over_when_its_command_succeeds_again() {
    let learning = InMemoryLearningCoordinator::new("agent");
    let context = context("octo/a");
    for _ in 0..3 {
        learning.record_failure("make test", "error: lost connection", &context).await.unwrap();
    }
    for run in 0..6 {
        let lessons = learning.get_applicable_lessons(&context).await.unwrap();
        assert_eq!(lessons.len(), usize::from(run < 5), "after {run} successes");
        learning.record_success("make test", 5, &context).await.unwrap();
    }
}

#[tokio::test]
async fn repositories_are_apart() {
    let learning = InMemoryLearningCoordinator::new("agent");
    for _ in 0..10 {
        learning.record_failure("make secret-project", "error: x", &context("octo/a")).await.unwrap();
        learning.record_success("make secret-project", 5, &context("octo/a")).await.unwrap();
    }
    assert_eq!(learning.get_applicable_lessons(&context("octo/a")).await.unwrap().len(), 1);
    assert!(!learning.suggest_optimizations(&context("octo/a")).await.unwrap().is_empty());
    learning.record_success("make secret-project", 5, &context("octo/b")).await.unwrap();
    assert_eq!(learning.get_applicable_lessons(&context("octo/b")).await.unwrap(), []);
    assert_eq!(learning.suggest_optimizations(&context("octo/b")).await.unwrap(), []);
}

#[tokio::test]
async fn different_failures_are_no_lesson() {
    let learning = InMemoryLearningCoordinator::new("agent");
    for error in ["error: a", "error: b", "error: c"] {
        learning.record_failure("make", error, &context("octo/a")).await.unwrap();
    }
    let stats = learning.get_stats();
    assert_eq!((stats.lessons_created, stats.unique_failure_patterns, stats.total_failures), (0, 3, 3));
}

/// A lock-up would hold the runtime's threads and its clock with them, so the runtime has a thread of its own and the
/// test waits outside of it.
const LOCK_UP: Duration = Duration::from_secs(300);

#[test]
fn sixty_four_tasks_lose_no_count_and_do_not_lock_up() {
    lose_no_count(2_000);
}

#[test]
#[ignore = "soak: 640,000 operations take an unoptimised program most of a minute"]
fn soak_sixty_four_tasks_of_ten_thousand_operations_lose_no_count_and_do_not_lock_up() {
    lose_no_count(10_000);
}

fn lose_no_count(operations: u64) {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).build().unwrap();
        // Nobody listens after a lock-up.
        let _ = done.send(runtime.block_on(sixty_four_tasks(operations)));
    });
    let (learning, graph_failures) = finished.recv_timeout(LOCK_UP).expect("64 tasks end");
    let failures = 64 * operations / 10;
    assert_eq!(
        learning.get_stats(),
        LearningStats {
            unique_failure_patterns: 64,
            unique_success_patterns: 8 + 64,
            lessons_created: 64,
            total_failures: failures,
            total_successes: 9 * failures,
        }
    );
    let graph = learning.knowledge_graph().unwrap();
    assert_eq!(graph.command_count(), 8 + 64);
    assert_eq!(graph_failures, failures);
}

/// Nine successes and a failure in turn, with questions in between.
async fn sixty_four_tasks(operations: u64) -> (Arc<InMemoryLearningCoordinator>, u64) {
    let learning = Arc::new(InMemoryLearningCoordinator::with_knowledge_graph("agent").await.unwrap());
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let learning = Arc::clone(&learning);
            tokio::spawn(async move {
                let (context, own) = (context("octo/a"), format!("step of {task}"));
                for i in 0..operations {
                    match i % 10 {
                        0 => learning.record_failure(&own, "error: lost", &context).await.unwrap(),
                        1 => learning.record_success(&own, 5, &context).await.unwrap(),
                        n => learning.record_success(&format!("step {n}"), 5, &context).await.unwrap(),
                    }
                    if i % (operations / 4) == 0 {
                        learning.suggest_optimizations(&context).await.unwrap();
                        learning.get_applicable_lessons(&context).await.unwrap();
                        let graph = learning.knowledge_graph().unwrap();
                        graph.find_related_commands(&own, 3).await.unwrap();
                        assert!((0.0..=1.0).contains(&graph.predict_success("step 9", &own).await));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let graph_failures = learning.knowledge_graph().unwrap().get_stats().await.failure_edges;
    (learning, graph_failures)
}

#[tokio::test]
async fn failures_before_the_first_success_count_too() {
    let learning = InMemoryLearningCoordinator::new("agent");
    let context = context("octo/a");
    for _ in 0..4 {
        learning.record_failure("make", "error", &context).await.unwrap();
    }
    assert_eq!(learning.suggest_optimizations(&context).await.unwrap(), []);
    learning.record_success("make", 1, &context).await.unwrap();
    let advice = learning.suggest_optimizations(&context).await.unwrap();
    assert!(advice[0].description.contains("failed in 4 of 5 runs"), "{advice:?}");
    let stats = learning.get_stats();
    assert_eq!((stats.unique_success_patterns, stats.unique_failure_patterns), (1, 1));
}

#[tokio::test]
async fn statistics_of_a_hundred_thousand_patterns_are_exact() {
    let learning = InMemoryLearningCoordinator::new("agent");
    let context = context("octo/a");
    for i in 0..100_000 {
        learning.record_success(&format!("step {i}"), 1, &context).await.unwrap();
    }
    let stats = learning.get_stats();
    assert_eq!((stats.unique_success_patterns, stats.total_successes), (100_000, 100_000));
}

#[tokio::test]
async fn slow_and_flaky_commands_are_pointed_out() {
    let learning = InMemoryLearningCoordinator::new("agent");
    let context = context("octo/a");
    for i in 0..10 {
        learning.record_success("cargo build", 60_000, &context).await.unwrap();
        learning.record_success("true", 1, &context).await.unwrap();
        if i % 2 == 0 {
            learning.record_success("flaky", 1, &context).await.unwrap();
        } else {
            learning.record_failure("flaky", "error", &context).await.unwrap();
        }
    }
    let advice = learning.suggest_optimizations(&context).await.unwrap();
    let told: Vec<_> = advice.iter().map(|a| (a.optimization_type, a.related_command.as_deref())).collect();
    assert_eq!(
        told,
        [
            (OptimizationType::AvoidFailurePattern, Some("flaky")),
            (OptimizationType::CacheOperation, Some("cargo build")),
        ]
    );
    assert_eq!(
        advice[0].to_string(),
        "`flaky` failed in 5 of 10 runs: run it early, or find out why (50 % of its runs fail)"
    );
}
