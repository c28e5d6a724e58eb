//! How fast learning is in memory: recording and predicting at a million events and with 100,000 runs of one pair,
//! statistics at 100,000 patterns, 64 threads at once; the same of the knowledge graph and the coordinator.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use terraphim_github_runner::learning::model::Model;
use terraphim_github_runner::learning::{
    CommandIdentity, CommandKnowledgeGraph, CommandOutcome, FailureSignature, InMemoryLearningCoordinator,
    LearningCoordinator as _, LearningEvent,
};
use terraphim_github_runner::{GitHubEvent, GitHubEventType, RepositoryInfo, Result, WorkflowContext};

fn say(name: &str, text: &str) {
    // Nobody to tell when standard output is closed.
    let _ = writeln!(std::io::stdout(), "{name:<58} {text}");
}

fn percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    say(name, &format!("p50 {:.1} us, p99 {:.1} us", at(50), at(99)));
}

fn event(n: u32, command: &str, previous: &str) -> LearningEvent {
    let success = !n.is_multiple_of(10);
    let outcome = if success { CommandOutcome::Success } else { CommandOutcome::Failure };
    LearningEvent {
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        number: 1,
        previous: previous.to_owned(),
        duration_ms: u64::from(1000 + n % 100),
        signature: (!success).then(|| FailureSignature::of("error: lost connection")),
        commit: format!("c{}", n / 16),
        environment: "debian".to_owned(),
        output_lines: 10,
        at_ms: i64::from(n) * 1000,
        ..LearningEvent::of_command("octo/a", &(n / 8).to_string(), command, outcome)
    }
}

/// A word of letters: numbers in commands are masked.
fn word(mut n: u32) -> String {
    let mut text = String::from("x");
    while n > 0 {
        text.push(char::from(b'a' + u8::try_from(n % 26).unwrap_or(0)));
        n /= 26;
    }
    text
}

fn record_and_predict(name: &str, events: u32, patterns: u32) -> Model {
    let (mut model, mut shared) = (Model::new(), Model::shared());
    let commands: Vec<String> = (0..patterns).map(|n| format!("cargo test -p {}", word(n))).collect();
    let of = |n: u32| commands[(n.wrapping_mul(2_654_435_761) % patterns) as usize].as_str();
    let (mut recorded, mut predicted) = (Vec::new(), Vec::new());
    for n in 0..events {
        let one = event(n, of(n), "cargo build");
        let start = Instant::now();
        model.apply(Some(&mut shared), &one);
        recorded.push(start.elapsed());
        if n.is_multiple_of(16) {
            let start = Instant::now();
            let identity = CommandIdentity::of(&one.command);
            std::hint::black_box(model.predict(Some(&shared), &identity, "cargo build", one.at_ms));
            predicted.push(start.elapsed());
        }
    }
    // The last tenth, when there is most to look through.
    percentiles(&format!("record, {name}"), recorded.split_off(events as usize / 10 * 9));
    percentiles(&format!("predict, {name}"), predicted.split_off(events as usize / 160 * 9));
    model
}

fn context() -> WorkflowContext {
    let full_name = "octo/a".to_owned();
    WorkflowContext::new(GitHubEvent {
        event_type: GitHubEventType::Push,
        action: None,
        repository: RepositoryInfo { full_name, clone_url: None, default_branch: None },
        pull_request: None,
        git_ref: None,
        sha: None,
        extra: HashMap::new(),
    })
}

/// The knowledge graph after `events` sequences of `patterns` commands that all follow one.
async fn graph(name: &str, events: u32, patterns: u32) -> Result<()> {
    let graph = CommandKnowledgeGraph::new().await?;
    let commands: Vec<String> = (0..patterns).map(|n| format!("cargo test -p {}", word(n))).collect();
    let (mut recorded, mut predicted, mut related) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..events {
        let command = &commands[(n.wrapping_mul(2_654_435_761) % patterns) as usize];
        let run = n.to_string();
        let start = Instant::now();
        graph.record_success_sequence("cargo build", command, &run).await?;
        recorded.push(start.elapsed());
        if n.is_multiple_of(16) {
            let start = Instant::now();
            std::hint::black_box(graph.predict_success("cargo build", command).await);
            predicted.push(start.elapsed());
        }
        if n.is_multiple_of(256) {
            let start = Instant::now();
            std::hint::black_box(graph.find_related_commands(command, 10).await?);
            related.push(start.elapsed());
        }
    }
    percentiles(&format!("graph: record, {name}"), recorded.split_off(events as usize / 10 * 9));
    percentiles(&format!("graph: predict_success, {name}"), predicted.split_off(events as usize / 160 * 9));
    percentiles(&format!("graph: find_related_commands, {name}"), related);
    Ok(())
}

/// The coordinator with its graph: each operation, and statistics at 100,000 patterns.
async fn coordinator() -> Result<()> {
    let learning = InMemoryLearningCoordinator::with_knowledge_graph("bench").await?;
    let context = context();
    let (mut successes, mut failures, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..100_000 {
        let command = format!("make {}", word(n));
        let start = Instant::now();
        learning.record_success(&command, 1000, &context).await?;
        successes.push(start.elapsed());
        if n.is_multiple_of(10) {
            let start = Instant::now();
            learning.record_failure(&command, "error: lost connection 12", &context).await?;
            failures.push(start.elapsed());
        }
    }
    for _ in 0..1000 {
        let start = Instant::now();
        std::hint::black_box(learning.get_stats());
        statistics.push(start.elapsed());
    }
    percentiles("coordinator: record_success", successes);
    percentiles("coordinator: record_failure", failures);
    let patterns = learning.get_stats().unique_success_patterns;
    percentiles(&format!("coordinator: get_stats of {patterns} patterns"), statistics);
    Ok(())
}

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("it asks nothing of the system");
    runtime.block_on(graph("a million events of 10,000 commands", 1_000_000, 10_000))?;
    runtime.block_on(graph("100,000 runs of one pair", 100_000, 1))?;
    runtime.block_on(coordinator())?;
    record_and_predict("a million events of 10,000 commands", 1_000_000, 10_000);
    record_and_predict("100,000 runs of one pair", 100_000, 1);
    let model = record_and_predict("100,000 commands", 300_000, 100_000);
    let times = (0..1000).map(|_| {
        let start = Instant::now();
        std::hint::black_box(model.totals());
        start.elapsed()
    });
    percentiles(&format!("statistics of {} commands", model.totals().commands), times.collect());

    let shared = Mutex::new(Model::new());
    let start = Instant::now();
    thread::scope(|scope| {
        for task in 0..64_u32 {
            let shared = &shared;
            scope.spawn(move || {
                for n in 0..10_000 {
                    let one = event(n, &format!("make {}", word(task % 8)), "");
                    if let Ok(mut model) = shared.lock() {
                        model.apply(None, &one);
                    }
                }
            });
        }
    });
    let took = start.elapsed();
    let totals = shared.lock().map(|model| model.totals()).unwrap_or_default();
    let lost = 640_000 - i128::from(totals.successes + totals.failures);
    say("64 threads x 10,000 records", &format!("{:.2} s, {lost} lost", took.as_secs_f64()));
    Ok(())
}
