//! A run as the engine tells it, learned into a real store.

use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;

use super::*;
use crate::engine::Annotation;
use crate::learning::model::LessonState;
use crate::store::RunStore;

struct World {
    store: RunStore,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        World { store: RunStore::open(dir.path()).await.unwrap(), _dir: dir }
    }

    async fn observer(&self, run: u32) -> LearningObserver {
        let learner = Learner::open(self.store.clone(), "octo/a").await.unwrap();
        let facts = RunFacts {
            repository: "octo/a".to_owned(),
            workflow: "ci.yml".to_owned(),
            run: run.to_string(),
            attempt: 1,
            commit: format!("c{run}"),
            changed: vec!["src/parser/a.rs".to_owned()],
            environment: "debian".to_owned(),
        };
        LearningObserver::new(learner, facts)
    }
}

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000).unwrap()
}

fn build() -> JobKey {
    JobKey::new("build", None)
}

async fn step(
    observer: &LearningObserver,
    number: usize,
    script: &str,
    output: &str,
    outcome: Conclusion,
    code: i32,
) {
    let (job, name) = (build(), format!("Step {number}"));
    let said = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    for event in [
        RunEvent::StepStarted {
            job: job.clone(),
            name: name.clone(),
            number,
            of: 3,
            background: false,
            at: at(),
        },
        RunEvent::ScriptStarted {
            job: job.clone(),
            step: number,
            script: script.to_owned(),
            limit_ms: Some(60_000),
            at: at(),
        },
        RunEvent::Output { job: Some(job.clone()), step: number, text: said(output), at: at() },
        RunEvent::StepFinished {
            job,
            name,
            number,
            outcome,
            // Tolerated or not, what counts is what happened.
            conclusion: Conclusion::Success,
            exit_code: Some(code),
            duration: Duration::from_millis(1500),
            at: at(),
        },
    ] {
        observer.observe(&event).await;
    }
}

async fn end(observer: &LearningObserver, outcome: Conclusion, conclusion: RunConclusion) {
    let duration = Duration::from_secs(4);
    let (job, name, outputs) = (build(), "build".to_owned(), IndexMap::new());
    observer
        .observe(&RunEvent::JobFinished {
            job,
            name,
            outcome,
            conclusion: outcome,
            outputs,
            environment_url: None,
            duration,
            at: at(),
        })
        .await;
    observer.observe(&RunEvent::RunFinished { conclusion, message: None, duration, at: at() }).await;
}

#[tokio::test]
async fn every_command_of_a_run_is_learned_with_what_became_of_it() {
    let world = World::new().await;
    for run in 0..3 {
        let observer = world.observer(run).await;
        for (phase, command) in [(Phase::Setup, "apt-get update"), (Phase::Cleanup, "rm -rf out")] {
            let command = command.to_owned();
            observer.observe(&RunEvent::CommandStarted { phase, command, number: 1, of: 1, at: at() }).await;
            if phase == Phase::Setup {
                step(&observer, 1, "cargo build", "", Conclusion::Success, 0).await;
                let output = format!("test net::reconnects ... FAILED\ntest b ... ok\nin {run} s\n");
                step(&observer, 2, "cargo test", &output, Conclusion::Failure, 101).await;
                step(&observer, 3, "make", "", Conclusion::Cancelled, 143).await;
            }
            let duration = Duration::from_millis(20);
            observer
                .observe(&RunEvent::CommandFinished {
                    phase,
                    number: 1,
                    outcome: Conclusion::Success,
                    exit_code: 0,
                    duration,
                    at: at(),
                })
                .await;
        }
        end(&observer, Conclusion::Failure, RunConclusion::Failure).await;
        assert_eq!(observer.failed_commands(), ["cargo test"]);
        let lessons = observer.learned().iter().filter(|learned| learned.new_lesson.is_some()).count();
        assert_eq!(lessons, usize::from(run == 2), "run {run}");
    }
    let models = world.store.learned("octo/a").await.unwrap();
    let totals = models.own.totals();
    assert_eq!((totals.successes, totals.failures, totals.runs, totals.commands), (9, 3, 3, 4));
    let test = models.own.command("cargo test").unwrap();
    assert_eq!((test.failures, test.limit_ms, test.place.number), (3, Some(60_000), 2));
    assert_eq!(
        (test.reasons[0].text.as_str(), test.reasons[0].state(models.own.lesson_threshold())),
        ("failed: net::reconnects", LessonState::Active)
    );
    assert!(models.own.watches_test("cargo test", "net::reconnects"));
    assert!(models.own.command("make").is_none(), "what was cancelled says nothing");
    let events = world.store.learning_events(0, 100).await.unwrap();
    let test = events.iter().map(|(_, event)| event).find(|event| event.command == "cargo test").unwrap();
    assert_eq!((test.previous.as_str(), test.exit_code, test.tests.passed), ("cargo build", Some(101), 1));
    assert_eq!((test.duration_ms, test.output_lines, test.job.as_str()), (1500, 3, "build"));
    assert_eq!(world.store.rebuild_learning().await.unwrap().corrected, 0);
}

#[tokio::test]
async fn a_setup_command_that_was_cancelled_says_nothing() {
    let world = World::new().await;
    let observer = world.observer(1).await;
    let (phase, command) = (Phase::Setup, "apt-get update".to_owned());
    observer.observe(&RunEvent::CommandStarted { phase, command, number: 1, of: 1, at: at() }).await;
    let (outcome, duration) = (Conclusion::Cancelled, Duration::from_secs(1));
    observer
        .observe(&RunEvent::CommandFinished { phase, number: 1, outcome, exit_code: 137, duration, at: at() })
        .await;
    end(&observer, Conclusion::Cancelled, RunConclusion::Cancelled).await;
    assert_eq!(world.store.learned("octo/a").await.unwrap().own.totals().events, 0);
}

#[tokio::test]
async fn a_fault_of_the_host_and_a_time_limit_are_told_apart_from_a_failure() {
    let world = World::new().await;
    let observer = world.observer(1).await;
    let (job, script) = (build(), "make slow".to_owned());
    let started = RunEvent::ScriptStarted { job: job.clone(), step: 1, script, limit_ms: None, at: at() };
    observer.observe(&started).await;
    let message = "The step ran longer than its limit of 60s and was stopped.";
    let annotation = Annotation::new(AnnotationLevel::Error, message);
    observer.observe(&RunEvent::Annotation { job: job.clone(), step: Some(1), annotation, at: at() }).await;
    let finished = RunEvent::StepFinished {
        job: job.clone(),
        name: "Slow".to_owned(),
        number: 1,
        outcome: Conclusion::Failure,
        conclusion: Conclusion::Failure,
        exit_code: Some(143),
        duration: Duration::from_secs(60),
        at: at(),
    };
    observer.observe(&finished).await;
    let script = "make".to_owned();
    observer.observe(&RunEvent::ScriptStarted { job, step: 2, script, limit_ms: None, at: at() }).await;
    end(&observer, Conclusion::Cancelled, RunConclusion::InfrastructureFault).await;
    let models = world.store.learned("octo/a").await.unwrap();
    let slow = models.own.command("make slow").unwrap();
    assert_eq!(slow.reasons[0].cause, crate::learning::Cause::Timeout);
    let make = models.own.command("make").unwrap();
    assert_eq!((make.faults, make.failures), (1, 0));
    assert_eq!(models.own.run("ci.yml").unwrap().faults, 1);
}
