use super::*;
use crate::learning::event::CommandOutcome;
use crate::learning::signature::FailureSignature;

fn event(repository: &str, n: u32) -> LearningEvent {
    let success = !n.is_multiple_of(3);
    let outcome = if success { CommandOutcome::Success } else { CommandOutcome::Failure };
    let command = format!("cargo test -p {}", ["a", "b"][(n % 2) as usize]);
    LearningEvent {
        uid: format!("{repository} {n}"),
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        number: 1,
        previous: "cargo build".to_owned(),
        duration_ms: 1000 + u64::from(n),
        signature: (!success).then(|| FailureSignature::of("error: lost connection 12")),
        commit: format!("c{}", n / 2),
        changed: vec!["src/parser/a.rs".to_owned()],
        environment: "debian".to_owned(),
        output_lines: 10,
        at_ms: 1_700_000_000_000 + i64::from(n) * 7_654_321,
        ..LearningEvent::of_command(repository, &n.to_string(), &command, outcome)
    }
}

async fn store() -> (tempfile::TempDir, RunStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::open(dir.path()).await.unwrap();
    (dir, store)
}

async fn learn(store: &RunStore, repository: &str, range: std::ops::Range<u32>) -> LearnedModels {
    let mut models = store.learned(repository).await.unwrap();
    for n in range {
        store.learn(&mut models, &[event(repository, n)]).await.unwrap();
    }
    models
}

async fn facts(store: &RunStore) -> Vec<(String, FactRow)> {
    let mut connection = store.pool.acquire().await.unwrap();
    let mut rows = all_facts(&mut connection, "learning_facts").await.unwrap();
    rows.sort();
    rows
}

#[tokio::test]
async fn what_was_learned_is_there_after_a_restart_and_a_rebuild_gives_the_same_to_the_last_bit() {
    let (dir, store) = store().await;
    let models = learn(&store, "octo/a", 0..40).await;
    learn(&store, "octo/b", 0..10).await;
    store.close().await;
    let store = RunStore::open(dir.path()).await.unwrap();
    assert_eq!(store.learned("octo/a").await.unwrap().own.rows(), models.own.rows());
    let before = facts(&store).await;
    let rebuilt = store.rebuild_learning().await.unwrap();
    assert_eq!((rebuilt.events, rebuilt.corrected), (50, 0));
    assert_eq!(facts(&store).await, before);
    // Damage is found and repaired.
    sqlx::query("UPDATE learning_facts SET value = '{}' WHERE kind = 'totals'")
        .execute(&store.pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM learning_facts WHERE kind = 'command'").execute(&store.pool).await.unwrap();
    sqlx::query("INSERT INTO learning_facts VALUES ('octo/c', 'totals', '', '{}')")
        .execute(&store.pool)
        .await
        .unwrap();
    assert!(store.rebuild_learning().await.unwrap().corrected >= 4);
    assert_eq!(facts(&store).await, before);
    store.close().await;
}

#[tokio::test]
async fn compaction_changes_no_counter_and_neither_does_a_rebuild_after_it() {
    let (_dir, store) = store().await;
    learn(&store, "octo/a", 0..60).await;
    let before = facts(&store).await;
    assert_eq!(store.compact_learning(30).await.unwrap(), 0, "not worth it yet");
    assert_eq!(store.compact_learning(10).await.unwrap(), 50);
    assert_eq!(store.learning_events(0, 1000).await.unwrap().len(), 10);
    assert_eq!(facts(&store).await, before);
    let rebuilt = store.rebuild_learning().await.unwrap();
    assert_eq!((rebuilt.events, rebuilt.corrected), (10, 0));
    learn(&store, "octo/a", 60..70).await;
    assert_eq!(store.rebuild_learning().await.unwrap().corrected, 0);
    store.close().await;
}

#[tokio::test]
async fn an_event_counts_once_and_another_process_is_noticed() {
    let (dir, store) = store().await;
    let other = RunStore::open(dir.path()).await.unwrap();
    let (mut here, mut there) =
        (store.learned("octo/a").await.unwrap(), other.learned("octo/a").await.unwrap());
    for n in 0..20_u32 {
        let (store, models) = if n.is_multiple_of(2) { (&store, &mut here) } else { (&other, &mut there) };
        assert!(store.learn(models, &[event("octo/a", n)]).await.unwrap()[0].is_some());
    }
    assert_eq!(store.learn(&mut here, &[event("octo/a", 3)]).await.unwrap(), [None]);
    assert_eq!(store.learned("octo/a").await.unwrap().own.totals().events, 20);
    assert_eq!(store.rebuild_learning().await.unwrap().corrected, 0);
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn repositories_are_kept_apart_and_can_be_forgotten() {
    let (_dir, store) = store().await;
    learn(&store, "octo/a", 0..10).await;
    learn(&store, "octo/b", 0..10).await;
    assert_eq!(store.learned_repositories().await.unwrap(), ["octo/a", "octo/b"]);
    assert!(store.forget_learning("octo/a").await.unwrap() > 0);
    assert_eq!(store.learned_repositories().await.unwrap(), ["octo/b"]);
    assert_eq!(store.learned("octo/a").await.unwrap().own.rows(), []);
    assert_eq!(store.learned("octo/b").await.unwrap().own.totals().events, 10);
    assert_eq!(store.rebuild_learning().await.unwrap().corrected, 0);
    let rows = format!("{:?}", facts(&store).await);
    assert!(!rows.contains("octo/a"), "{rows}");
    store.close().await;
}

#[tokio::test]
async fn what_was_forgotten_stays_so_for_a_process_that_knew_it() {
    let (dir, store) = store().await;
    let mut known = learn(&store, "octo/a", 0..30).await;
    let other = RunStore::open(dir.path()).await.unwrap();
    other.forget_learning("octo/a").await.unwrap();
    store.learn(&mut known, &[event("octo/a", 30)]).await.unwrap();
    assert_eq!(known.own.totals().events, 1, "only what came after");
    assert_eq!(store.learned("octo/a").await.unwrap().own.rows(), known.own.rows());
    assert_eq!(store.rebuild_learning().await.unwrap().corrected, 0);
    other.close().await;
    store.close().await;
}

#[tokio::test]
async fn what_was_imported_is_seen_by_a_process_that_knew_nothing() {
    let (_dir, store) = store().await;
    learn(&store, "octo/a", 0..30).await;
    store.compact_learning(10).await.unwrap();
    let (_dir2, copy) = self::store().await;
    let mut known = copy.learned("octo/a").await.unwrap();
    copy.import_baseline(&store.learning_baseline().await.unwrap()).await.unwrap();
    copy.learn(&mut known, &[event("octo/a", 30)]).await.unwrap();
    assert_eq!(known.own.totals().events, 21);
    assert_eq!(copy.rebuild_learning().await.unwrap().corrected, 0);
    copy.close().await;
    store.close().await;
}

#[tokio::test]
async fn an_import_gives_the_same_counters_and_may_be_repeated() {
    let (_dir, store) = store().await;
    learn(&store, "octo/a", 0..30).await;
    store.compact_learning(10).await.unwrap();
    let (_dir2, copy) = self::store().await;
    copy.import_baseline(&store.learning_baseline().await.unwrap()).await.unwrap();
    for _ in 0..2 {
        let mut models = copy.learned("octo/a").await.unwrap();
        for (_, event) in store.learning_events(0, 1000).await.unwrap() {
            copy.learn(&mut models, &[event]).await.unwrap();
        }
    }
    assert_eq!(facts(&copy).await, facts(&store).await);
    assert_eq!(copy.rebuild_learning().await.unwrap().corrected, 0);
    assert!(matches!(copy.import_baseline(&[]).await, Err(StoreError::LearnedAlready)));
    copy.close().await;
    store.close().await;
}
