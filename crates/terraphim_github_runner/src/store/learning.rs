//! Events that are learned from, and the counters they make.
//!
//! An event and the counters it changes are written in one transaction, so that a crash leaves both or neither. The
//! counters are a function of the baseline and the events after it: `rebuild_learning` computes them again.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::{
    RunStore,
    error::{QueryContext as _, StoreError},
    learning_rows::{
        Mark, all_facts, begin_generation, damaged, events_after, execute, facts_of, insert, mark, set_state,
        state, write_facts,
    },
};
use crate::learning::{
    event::LearningEvent,
    model::{FactRow, Learned, Model},
};

/// Of the meaning of counters; when it grows, the counters are computed again from the events. 2: how often failures came
/// again, in place of what was a lesson at three failures. 3: outcomes with the place and the text that ran.
const VERSION: i64 = 3;
/// Events that are read at a time.
const BATCH: i64 = 1000;

/// The models of one repository and of what all share, as of one event.
#[derive(Debug)]
pub struct LearnedModels {
    /// `owner/name`.
    pub repository: String,
    /// What was learned about it.
    pub own: Model,
    /// What all repositories share.
    pub shared: Model,
    mark: Mark,
}

impl LearnedModels {
    /// Models that know nothing, as before the first event.
    #[must_use]
    pub fn empty(repository: &str) -> LearnedModels {
        LearnedModels {
            repository: repository.to_owned(),
            own: Model::new(),
            shared: Model::shared(),
            mark: Mark::default(),
        }
    }
}

/// What a rebuild found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// Events that were applied again, after the baseline.
    pub events: u64,
    /// Counters there are now.
    pub facts: u64,
    /// Counters that were not as the events say; 0 unless something was damaged.
    pub corrected: u64,
}

fn borrowed(rows: &[(String, FactRow)]) -> impl Iterator<Item = (&str, &FactRow)> {
    rows.iter().map(|(repository, row)| (repository.as_str(), row))
}

/// Counters by what they count.
fn by_key(rows: &[(String, FactRow)]) -> BTreeMap<(&str, &str, &str), &str> {
    rows.iter().map(|(repository, row)| ((&**repository, &*row.kind, &*row.key), &*row.value)).collect()
}

impl RunStore {
    /// What was learned about a repository so far.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn learned(&self, repository: &str) -> Result<LearnedModels, StoreError> {
        // One transaction: the counters and the number of the last event belong together.
        let mut connection = self.pool.begin().await.query("read what was learned")?;
        read_models(&mut connection, repository).await
    }

    /// Records events in their order and takes them over into the counters, all or none; `models` is brought up to date
    /// first, should another process have learned meanwhile. An event whose `uid` is known changes nothing: `None`.
    ///
    /// # Errors
    /// The database refuses; `models` must be read again then.
    pub async fn learn(
        &self,
        models: &mut LearnedModels,
        events: &[LearningEvent],
    ) -> Result<Vec<Option<Learned>>, StoreError> {
        let operation = "record what was learned";
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query(operation)?;
        if mark(&mut connection).await? != models.mark {
            let threshold = models.own.lesson_threshold();
            *models = read_models(&mut connection, &models.repository).await?;
            models.own.set_lesson_threshold(threshold);
        }
        let (mut last, mut learned) = (None, Vec::with_capacity(events.len()));
        for event in events {
            let id = insert(&mut connection, event).await?;
            learned.push(id.map(|_| models.own.apply(Some(&mut models.shared), event)));
            last = id.or(last);
        }
        let Some(last) = last else { return Ok(learned) };
        let (own, shared) = (models.own.take_changes(), models.shared.take_changes());
        let own = own.iter().map(|row| (models.repository.as_str(), row));
        let rows = own.chain(shared.iter().map(|row| ("", row)));
        write_facts(&mut connection, "learning_facts", rows).await?;
        set_state(&mut connection, &[("applied", last), ("version", VERSION)]).await?;
        connection.commit().await.query(operation)?;
        models.mark.applied = last;
        Ok(learned)
    }

    /// The repositories that something was learned about.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn learned_repositories(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT DISTINCT repository FROM learning_facts WHERE repository <> '' ORDER BY repository",
        )
        .fetch_all(&self.pool)
        .await
        .query("list what was learned")
    }

    /// Events after the one with this number, oldest first, with their numbers.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn learning_events(
        &self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, LearningEvent)>, StoreError> {
        let mut connection = self.pool.acquire().await.query("read learning events")?;
        events_after(&mut connection, after, i64::MAX, limit).await
    }

    /// The baseline, by repository: what older events, which are gone, have come to.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn learning_baseline(&self) -> Result<Vec<(String, FactRow)>, StoreError> {
        let mut connection = self.pool.acquire().await.query("read what was learned")?;
        all_facts(&mut connection, "learning_baseline").await
    }

    /// Computes all counters again from the baseline and the events.
    ///
    /// # Errors
    /// The database refuses; nothing is changed then.
    pub async fn rebuild_learning(&self) -> Result<Rebuilt, StoreError> {
        let operation = "rebuild what was learned";
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query(operation)?;
        let mut replay = Replay::from_baseline(&mut connection).await?;
        replay.up_to(&mut connection, i64::MAX).await?;
        let (events, last) = (replay.events, replay.last);
        let rows = replay.rows();
        let before = all_facts(&mut connection, "learning_facts").await?;
        let (new, old) = (by_key(&rows), by_key(&before));
        let corrected = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).count()
            + old.keys().filter(|key| !new.contains_key(*key)).count();
        if corrected > 0 {
            begin_generation(&mut connection).await?;
            execute(&mut connection, "DELETE FROM learning_facts").await?;
            write_facts(&mut connection, "learning_facts", borrowed(&rows)).await?;
        }
        set_state(&mut connection, &[("applied", last), ("version", VERSION)]).await?;
        connection.commit().await.query(operation)?;
        Ok(Rebuilt { events, facts: new.len() as u64, corrected: corrected as u64 })
    }

    /// Computes the counters again when an earlier version of this program made them.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn update_learning(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.query("read what was learned")?;
        let (version, applied) =
            (state(&mut connection, "version").await?, state(&mut connection, "applied").await?);
        drop(connection);
        if applied > 0 && version != VERSION {
            self.rebuild_learning().await?;
        }
        Ok(())
    }

    /// Folds all but the newest `keep` events into the baseline, if there are more than twice as many; says how many
    /// events are gone. The counters stay as they are.
    ///
    /// # Errors
    /// The database refuses; nothing is changed then.
    pub async fn compact_learning(&self, keep: u32) -> Result<u64, StoreError> {
        let operation = "compact what was learned";
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query(operation)?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM learning_events")
            .fetch_one(&mut *connection)
            .await
            .query(operation)?;
        if count <= i64::from(keep) * 2 {
            return Ok(0);
        }
        let bound: i64 =
            sqlx::query_scalar("SELECT id FROM learning_events ORDER BY id DESC LIMIT 1 OFFSET $1")
                .bind(i64::from(keep))
                .fetch_one(&mut *connection)
                .await
                .query(operation)?;
        let mut replay = Replay::from_baseline(&mut connection).await?;
        replay.up_to(&mut connection, bound).await?;
        let gone = replay.events;
        execute(&mut connection, "DELETE FROM learning_baseline").await?;
        write_facts(&mut connection, "learning_baseline", borrowed(&replay.rows())).await?;
        sqlx::query("DELETE FROM learning_events WHERE id <= $1")
            .bind(bound)
            .execute(&mut *connection)
            .await
            .query(operation)?;
        set_state(&mut connection, &[("baseline", bound)]).await?;
        connection.commit().await.query(operation)?;
        Ok(gone)
    }

    /// Takes over the baseline of another store. Only an empty one can.
    ///
    /// # Errors
    /// Something was learned here already, or the database refuses.
    pub async fn import_baseline(&self, rows: &[(String, FactRow)]) -> Result<(), StoreError> {
        let operation = "import what was learned";
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query(operation)?;
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM learning_facts")
            .fetch_one(&mut *connection)
            .await
            .query(operation)?;
        if known > 0 {
            return Err(StoreError::LearnedAlready);
        }
        for table in ["learning_baseline", "learning_facts"] {
            write_facts(&mut connection, table, borrowed(rows)).await?;
        }
        begin_generation(&mut connection).await?;
        connection.commit().await.query(operation)
    }

    /// Forgets everything that was learned about a repository. What all share stays: it names nobody.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn forget_learning(&self, repository: &str) -> Result<u64, StoreError> {
        let operation = "forget what was learned";
        // What all share was made from these events too, so it has to be kept as it is before they go.
        self.compact_all().await?;
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query(operation)?;
        let mut gone = 0;
        for table in ["learning_events", "learning_baseline", "learning_facts"] {
            let query = format!("DELETE FROM {table} WHERE repository = $1");
            let done = sqlx::query(sqlx::AssertSqlSafe(query))
                .bind(repository)
                .execute(&mut *connection)
                .await
                .query(operation)?;
            gone += done.rows_affected();
        }
        begin_generation(&mut connection).await?;
        connection.commit().await.query(operation)?;
        Ok(gone)
    }

    async fn compact_all(&self) -> Result<u64, StoreError> {
        let mut connection = self.pool.acquire().await.query("count learning events")?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM learning_events")
            .fetch_one(&mut *connection)
            .await
            .query("count learning events")?;
        drop(connection);
        if count == 0 { Ok(0) } else { self.compact_learning(0).await }
    }
}

/// Models of all repositories, fed with events again.
struct Replay {
    models: BTreeMap<String, Model>,
    shared: Model,
    last: i64,
    events: u64,
}

impl Replay {
    async fn from_baseline(connection: &mut SqliteConnection) -> Result<Replay, StoreError> {
        let last = state(connection, "baseline").await?;
        let mut replay = Replay { models: BTreeMap::new(), shared: Model::shared(), last, events: 0 };
        for (repository, row) in all_facts(connection, "learning_baseline").await? {
            let model = match repository.as_str() {
                "" => &mut replay.shared,
                _ => replay.models.entry(repository).or_default(),
            };
            model.load([row]).map_err(damaged)?;
        }
        Ok(replay)
    }

    async fn up_to(&mut self, connection: &mut SqliteConnection, bound: i64) -> Result<(), StoreError> {
        loop {
            let batch = events_after(connection, self.last, bound, BATCH).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for (id, event) in batch {
                let own = self.models.entry(event.repository.clone()).or_default();
                own.apply(Some(&mut self.shared), &event);
                self.last = id;
                self.events += 1;
            }
        }
    }

    fn rows(self) -> Vec<(String, FactRow)> {
        let shared = self.shared.rows().into_iter().map(|row| (String::new(), row));
        let own = self.models.into_iter().flat_map(|(repository, model)| {
            model.rows().into_iter().map(move |row| (repository.clone(), row)).collect::<Vec<_>>()
        });
        shared.chain(own).collect()
    }
}

async fn read_models(
    connection: &mut SqliteConnection,
    repository: &str,
) -> Result<LearnedModels, StoreError> {
    let mut models = LearnedModels { mark: mark(connection).await?, ..LearnedModels::empty(repository) };
    models.own.load(facts_of(connection, repository).await?).map_err(damaged)?;
    models.shared.load(facts_of(connection, "").await?).map_err(damaged)?;
    Ok(models)
}

#[cfg(test)]
#[path = "learning_tests.rs"]
mod tests;
