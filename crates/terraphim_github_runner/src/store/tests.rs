//! What the store promises, with real files.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use terraphim_vm::ProcessId;

use super::*;
use crate::engine::{
    Annotation, AnnotationLevel, Conclusion, EnvironmentReport, JobKey, Phase, RunConclusion, RunEvent,
    RunObserver as _,
};

fn new_run() -> NewRun {
    NewRun {
        workflow_name: "CI".into(),
        workflow_path: ".github/workflows/ci.yml".into(),
        repository: "me/it".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        sha: "0".repeat(40),
        rerun_of: None,
        request: serde_json::json!({"event": "push"}),
    }
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

/// A process that has ended: its pid may live again, its start time does not.
fn dead() -> ProcessId {
    let me = ProcessId::current().unwrap();
    ProcessId { start_time: me.start_time + 1, ..me }
}

async fn store_with_run(data: &Path, owner: &ProcessId) -> (RunStore, RunId) {
    let store = RunStore::open(data).await.unwrap();
    let id = store.create_run(&new_run(), owner, 1_000).await.unwrap();
    (store, id)
}

fn job_started(key: &JobKey) -> RunEvent {
    RunEvent::JobStarted {
        job: key.clone(),
        name: "Build".into(),
        vm_id: "vm1".into(),
        environment: Some("prod".into()),
        permissions: Some(IndexMap::from([("contents", "read")])),
        at: time(1_000),
    }
}

fn step_started(key: &JobKey, number: usize) -> RunEvent {
    RunEvent::StepStarted {
        job: key.clone(),
        name: format!("Step {number}"),
        number,
        of: 2,
        background: false,
        at: time(1_100),
    }
}

fn output(job: Option<&JobKey>, text: &'static [u8]) -> RunEvent {
    RunEvent::Output { job: job.cloned(), step: 1, text: Bytes::from_static(text), at: time(1_200) }
}

fn step_finished(key: &JobKey, number: usize, outcome: Conclusion, conclusion: Conclusion) -> RunEvent {
    RunEvent::StepFinished {
        job: key.clone(),
        name: format!("Step {number}"),
        number,
        outcome,
        conclusion,
        exit_code: (outcome != Conclusion::Skipped).then_some(i32::from(outcome == Conclusion::Failure)),
        duration: Duration::from_millis(1),
        at: time(1_300),
    }
}

#[tokio::test]
async fn a_job_that_is_kept_is_recorded_with_what_it_gave() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &ProcessId::current().unwrap()).await;
    let observer = StoreObserver::new(store.clone(), id);
    let environment = EnvironmentReport { name: "prod".into(), url: Some("https://prod.example".into()) };
    let kept = RunEvent::JobKept {
        job: JobKey::new("build", Some(1)),
        name: "Build".into(),
        environment: Some(environment.clone()),
        permissions: None,
        outcome: Conclusion::Failure,
        conclusion: Conclusion::Success,
        outputs: IndexMap::from([("version".to_owned(), "1.2".to_owned())]),
        at: time(1_000),
    };
    observer.observe(&kept).await;
    assert!(observer.error().is_none());
    let detail = store.detail(id).await.unwrap();
    let [job] = detail.jobs.as_slice() else { panic!("{detail:?}") };
    assert_eq!((job.key.as_str(), job.vm_id.as_ref(), job.steps.len()), ("build.1", None, 0));
    let (failure, success) = (StoredConclusion::Failure, StoredConclusion::Success);
    assert_eq!((job.outcome, job.conclusion), (Some(failure), Some(success)));
    assert_eq!(job.outputs, serde_json::json!({"version": "1.2"}));
    assert_eq!(job.environment, Some(environment));
}

#[tokio::test]
async fn a_run_is_recorded_with_jobs_steps_annotations_and_log_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &ProcessId::current().unwrap()).await;
    let observer = StoreObserver::new(store.clone(), id);
    let key = JobKey::new("build", Some(1));
    let annotation = Annotation { line: Some(3), ..Annotation::new(AnnotationLevel::Warning, "odd") };
    let outputs = IndexMap::from([("version".to_owned(), "1.2".to_owned())]);
    for event in [
        job_started(&key),
        step_started(&key, 1),
        output(Some(&key), b"one\ntwo\n"),
        RunEvent::Annotation { job: key.clone(), step: Some(1), annotation, at: time(1_250) },
        RunEvent::Summary { job: key.clone(), step: 1, text: "# All well".into(), at: time(1_260) },
        step_finished(&key, 1, Conclusion::Failure, Conclusion::Success),
        step_finished(&key, 2, Conclusion::Skipped, Conclusion::Skipped),
        RunEvent::JobFinished {
            job: key.clone(),
            name: "Build".into(),
            outcome: Conclusion::Success,
            conclusion: Conclusion::Success,
            outputs,
            environment_url: Some("https://prod.example".into()),
            duration: Duration::from_millis(400),
            at: time(1_400),
        },
        RunEvent::RunFinished {
            conclusion: RunConclusion::Success,
            message: None,
            duration: Duration::from_millis(500),
            at: time(1_500),
        },
    ] {
        observer.observe(&event).await;
    }
    assert!(observer.error().is_none());

    let detail = RunStore::open_to_read(dir.path()).await.unwrap().unwrap().detail(id).await.unwrap();
    assert_eq!(detail.run.conclusion, Some(StoredConclusion::Success));
    assert_eq!((detail.run.created_at_ms, detail.run.finished_at_ms), (1_000, Some(1_500)));
    let [job] = detail.jobs.as_slice() else { panic!("{detail:?}") };
    assert_eq!((job.key.as_str(), job.vm_id.as_deref()), ("build.1", Some("vm1")));
    assert_eq!(job.outputs, serde_json::json!({"version": "1.2"}));
    let environment = serde_json::json!(job.environment);
    assert_eq!(environment, serde_json::json!({"name": "prod", "url": "https://prod.example"}));
    assert_eq!(job.permissions, Some(serde_json::json!({"contents": "read"})));
    assert_eq!((job.annotations[0].message.as_str(), job.annotations[0].line), ("odd", Some(3)));
    let [first, second] = job.steps.as_slice() else { panic!("{job:?}") };
    assert_eq!(
        (first.outcome, first.conclusion),
        (Some(StoredConclusion::Failure), Some(StoredConclusion::Success))
    );
    assert_eq!((first.exit_code, first.summary.as_deref()), (Some(1), Some("# All well")));
    assert_eq!((second.conclusion, second.exit_code), (Some(StoredConclusion::Skipped), None));
    let log = std::fs::read_to_string(store.files(id).log(job.number)).unwrap();
    assert_eq!(log, "1970-01-01T00:00:01.200Z one\n1970-01-01T00:00:01.200Z two\n");
    assert_eq!((first.log_start, first.log_end), (0, Some(log.len() as u64)));
    assert_eq!((second.log_start, second.log_end), (log.len() as u64, Some(log.len() as u64)));
    assert!(store.files(id).end_mark().exists());
}

#[tokio::test]
async fn setup_and_cleanup_commands_are_jobs_and_a_failed_command_fails_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &ProcessId::current().unwrap()).await;
    let observer = StoreObserver::new(store.clone(), id);
    for (phase, exit_code) in [(Phase::Setup, 0), (Phase::Cleanup, 3)] {
        let command = "true".to_owned();
        observer.observe(&RunEvent::CommandStarted { phase, command, number: 1, of: 1, at: time(5) }).await;
        observer.observe(&output(None, b"said\n")).await;
        let duration = Duration::from_millis(1);
        observer
            .observe(&RunEvent::CommandFinished {
                phase,
                number: 1,
                outcome: if exit_code == 0 { Conclusion::Success } else { Conclusion::Failure },
                exit_code,
                duration,
                at: time(6),
            })
            .await;
    }
    let end = RunEvent::RunFinished {
        conclusion: RunConclusion::Failure,
        message: None,
        duration: Duration::ZERO,
        at: time(7),
    };
    observer.observe(&end).await;
    let jobs = store.detail(id).await.unwrap().jobs;
    let ends: Vec<_> = jobs.iter().map(|job| (job.key.as_str(), job.conclusion.unwrap())).collect();
    assert_eq!(ends, [("(setup)", StoredConclusion::Success), ("(cleanup)", StoredConclusion::Failure)]);
    assert!(jobs.iter().all(|job| job.steps[0].log_end == Some(30)));
}

#[tokio::test]
async fn a_run_whose_process_is_gone_is_interrupted_for_readers_at_once_and_recorded_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &dead()).await;
    let observer = StoreObserver::new(store.clone(), id);
    let key = JobKey::new("build", None);
    observer.observe(&job_started(&key)).await;
    observer.observe(&step_started(&key, 1)).await;

    let reader = RunStore::open_to_read(dir.path()).await.unwrap().unwrap();
    let seen = reader.detail(id).await.unwrap();
    assert_eq!(seen.run.conclusion, Some(StoredConclusion::Interrupted));
    assert_eq!(seen.jobs[0].steps[0].conclusion, Some(StoredConclusion::Interrupted));
    assert_eq!(reader.unfinished().await.unwrap().len(), 1, "reading changes nothing");

    RunStore::open(dir.path()).await.unwrap();
    assert_eq!(reader.unfinished().await.unwrap().len(), 0);
    let repaired = reader.detail(id).await.unwrap();
    assert_eq!(repaired.run.conclusion, Some(StoredConclusion::Interrupted));
    assert_eq!(repaired.run.finished_at_ms, None, "nobody knows when");
    assert_eq!(repaired.jobs[0].conclusion, Some(StoredConclusion::Interrupted));
}

#[tokio::test]
async fn a_run_of_a_living_process_is_neither_repaired_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &ProcessId::current().unwrap()).await;
    assert_eq!(RunStore::open(dir.path()).await.unwrap().run(id).await.unwrap().conclusion, None);
    assert!(matches!(store.remove_run(id).await, Err(StoreError::Running { .. })));
}

#[tokio::test]
async fn a_part_that_never_ended_is_no_success_and_the_first_end_of_a_run_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &ProcessId::current().unwrap()).await;
    let observer = StoreObserver::new(store.clone(), id);
    observer.observe(&job_started(&JobKey::new("build", None))).await;
    observer.finish(StoredConclusion::Success, None, time(9)).await.unwrap();
    observer.finish(StoredConclusion::Failure, Some("late".into()), time(10)).await.unwrap();
    let detail = store.detail(id).await.unwrap();
    assert_eq!((detail.run.conclusion, detail.run.error), (Some(StoredConclusion::Success), None));
    assert_eq!(detail.jobs[0].conclusion, Some(StoredConclusion::InfrastructureFault));
}

#[tokio::test]
async fn removing_takes_rows_and_files_and_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &dead()).await;
    StoreObserver::new(store.clone(), id).observe(&job_started(&JobKey::new("build", None))).await;
    assert!(store.files(id).dir().exists());
    store.remove_run(id).await.unwrap();
    assert!(!store.files(id).dir().exists());
    assert!(matches!(store.detail(id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.remove_run(id).await, Err(StoreError::NotFound(_))));
    let next = store.create_run(&new_run(), &dead(), 1).await.unwrap();
    assert_eq!(next, RunId(id.0 + 1));
}

#[tokio::test]
async fn runs_are_numbered_by_workflow_and_repetitions_count_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = store_with_run(dir.path(), &dead()).await;
    let other = NewRun { workflow_path: "other.yml".into(), ..new_run() };
    let other = store.create_run(&other, &dead(), 1).await.unwrap();
    let second = store.create_run(&new_run(), &dead(), 1).await.unwrap();
    let again = NewRun { rerun_of: Some(first), ..new_run() };
    let again = store.create_run(&again, &dead(), 1).await.unwrap();
    let of_again = NewRun { rerun_of: Some(again), ..new_run() };
    let of_again = store.create_run(&of_again, &dead(), 1).await.unwrap();
    let mut seen = Vec::new();
    for id in [first, other, second, again, of_again] {
        let run = store.run(id).await.unwrap();
        seen.push((run.run_number, run.attempt));
    }
    assert_eq!(seen, [(1, 1), (1, 1), (2, 1), (1, 2), (1, 3)]);
    assert_eq!(store.request(again).await.unwrap(), serde_json::json!({"event": "push"}));
    let newest: Vec<_> = store.runs(2).await.unwrap().iter().map(|run| run.id).collect();
    assert_eq!(newest, [of_again, again]);
}

#[tokio::test]
async fn an_observer_that_cannot_write_says_so_once_and_keeps_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store_with_run(dir.path(), &dead()).await;
    let observer = Arc::new(StoreObserver::new(store.clone(), id));
    let waiting = tokio::spawn({
        let observer = Arc::clone(&observer);
        async move { observer.failed().await }
    });
    std::fs::remove_dir_all(store.files(id).dir()).unwrap();
    observer.observe(&job_started(&JobKey::new("build", None))).await;
    waiting.await.unwrap();
    observer.failed().await;
    assert!(matches!(observer.error(), Some(StoreError::Io { .. })), "{:?}", observer.error());
}
