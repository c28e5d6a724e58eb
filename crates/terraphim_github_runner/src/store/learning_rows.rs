//! The rows of what is learned: events, counters, and the numbers that say what the counters are of.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::error::{QueryContext as _, StoreError};
use crate::learning::{
    event::{EventKind, LearningEvent},
    model::FactRow,
};

/// What the counters in the database are of. Models in memory that were read at another mark are out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last event in the counters.
    pub(super) applied: i64,
    /// One more each time when counters change by something other than an event.
    pub(super) generation: i64,
}

pub(super) async fn mark(connection: &mut SqliteConnection) -> Result<Mark, StoreError> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT name, value FROM learning_state")
        .fetch_all(connection)
        .await
        .query("read what was learned")?;
    let value = |name: &str| rows.iter().find(|row| row.0 == name).map_or(0, |row| row.1);
    Ok(Mark { applied: value("applied"), generation: value("generation") })
}

/// Counters changed, and by no event: whoever has them in memory must read them again.
pub(super) async fn begin_generation(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let generation = state(connection, "generation").await?;
    set_state(connection, &[("generation", generation + 1)]).await
}

pub(super) fn damaged(source: serde_json::Error) -> StoreError {
    StoreError::Decode { what: "what was learned", source }
}

pub(super) async fn facts_of(
    connection: &mut SqliteConnection,
    repository: &str,
) -> Result<Vec<FactRow>, StoreError> {
    sqlx::query("SELECT kind, key, value FROM learning_facts WHERE repository = $1")
        .bind(repository)
        .fetch_all(connection)
        .await
        .and_then(|rows| rows.iter().map(fact_of).collect())
        .query("read what was learned")
}

pub(super) async fn all_facts(
    connection: &mut SqliteConnection,
    table: &'static str,
) -> Result<Vec<(String, FactRow)>, StoreError> {
    let query = format!("SELECT repository, kind, key, value FROM {table}");
    sqlx::query(sqlx::AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .and_then(|rows| rows.iter().map(|row| Ok((row.try_get("repository")?, fact_of(row)?))).collect())
        .query("read what was learned")
}

fn fact_of(row: &SqliteRow) -> Result<FactRow, sqlx::Error> {
    Ok(FactRow { kind: row.try_get("kind")?, key: row.try_get("key")?, value: row.try_get("value")? })
}

pub(super) async fn events_after(
    connection: &mut SqliteConnection,
    after: i64,
    bound: i64,
    limit: i64,
) -> Result<Vec<(i64, LearningEvent)>, StoreError> {
    let rows =
        sqlx::query("SELECT id, body FROM learning_events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3")
            .bind(after)
            .bind(bound)
            .bind(limit)
            .fetch_all(connection)
            .await
            .query("read learning events")?;
    let event = |row: &SqliteRow| {
        let body: String = row.try_get("body").query("read learning events")?;
        let event = serde_json::from_str(&body)
            .map_err(|source| StoreError::Decode { what: "a learning event", source })?;
        Ok((row.try_get("id").query("read learning events")?, event))
    };
    rows.iter().map(event).collect()
}

/// The number of the new event; `None` when its `uid` is known.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    event: &LearningEvent,
) -> Result<Option<i64>, StoreError> {
    let kind = match event.kind {
        EventKind::Command => "command",
        EventKind::Job => "job",
        EventKind::Run => "run",
    };
    let outcome = serde_json::to_value(event.outcome).expect("a plain enum is JSON");
    sqlx::query_scalar(
        "INSERT INTO learning_events (uid, repository, kind, outcome, at_ms, body) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (uid) DO NOTHING RETURNING id",
    )
    .bind(&event.uid)
    .bind(&event.repository)
    .bind(kind)
    .bind(outcome.as_str().unwrap_or_default().to_owned())
    .bind(event.at_ms)
    .bind(serde_json::to_string(event).expect("plain data is JSON"))
    .fetch_optional(connection)
    .await
    .query("record what was learned")
}

/// All rows in few statements: each statement goes to SQLite's thread and back, and takes longer for that than for a row.
pub(super) async fn write_facts<'a>(
    connection: &mut SqliteConnection,
    table: &'static str,
    rows: impl Iterator<Item = (&'a str, &'a FactRow)>,
) -> Result<(), StoreError> {
    /// Few lengths, so that few statements are prepared; far below SQLite's limit of parameters (32,766).
    const MAX_ROWS: usize = 64;
    let rows: Vec<_> = rows.collect();
    for rows in rows.chunks(MAX_ROWS) {
        let head = format!("INSERT INTO {table} (repository, kind, key, value) ");
        let mut query = QueryBuilder::<Sqlite>::new(head);
        query.push_values(rows, |mut values, (repository, row)| {
            values.push_bind(*repository).push_bind(&row.kind).push_bind(&row.key).push_bind(&row.value);
        });
        query.push(" ON CONFLICT (repository, kind, key) DO UPDATE SET value = excluded.value");
        query.build().execute(&mut *connection).await.query("record what was learned")?;
    }
    Ok(())
}

pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.query("change what was learned")?;
    Ok(())
}

/// 0 when it was never set.
pub(super) async fn state(connection: &mut SqliteConnection, name: &str) -> Result<i64, StoreError> {
    let value: Option<i64> = sqlx::query_scalar("SELECT value FROM learning_state WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
        .query("read what was learned")?;
    Ok(value.unwrap_or(0))
}

pub(super) async fn set_state(
    connection: &mut SqliteConnection,
    values: &[(&str, i64)],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO learning_state (name, value) ");
    query.push_values(values, |mut row, (name, value)| {
        row.push_bind(*name).push_bind(*value);
    });
    query.push(" ON CONFLICT (name) DO UPDATE SET value = excluded.value");
    query.build().execute(connection).await.query("record what was learned")?;
    Ok(())
}
