//! Everything that changes rows. A row is changed by the process that executes its run, and by nobody else while
//! that process lives.

use sqlx::{QueryBuilder, Row as _, SqliteConnection};
use terraphim_vm::ProcessId;

use super::{
    AnnotationRecord, NewRun, RunId, RunStore, StoredConclusion,
    error::{QueryContext as _, StoreError},
};

/// A job that starts.
#[derive(Clone, Debug)]
pub struct JobStart {
    /// Its place in the run, from 1.
    pub number: i64,
    /// Unique in the run.
    pub key: String,
    /// Its display name.
    pub name: String,
    /// The VM it runs in.
    pub vm_id: Option<String>,
    /// The environment that it is for.
    pub environment: Option<String>,
    /// What it may do, by scope; absent if its workflow does not say.
    pub permissions: Option<serde_json::Value>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A job that ended.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// Its place in the run.
    pub number: i64,
    /// How it ended by itself.
    pub outcome: StoredConclusion,
    /// How it counts.
    pub conclusion: StoredConclusion,
    /// Its outputs.
    pub outputs: serde_json::Value,
    /// The address of its environment.
    pub environment_url: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A step, as far as it has come.
#[derive(Clone, Debug)]
pub struct StepState {
    /// The number of its job.
    pub job: i64,
    /// Its place in the job, from 1.
    pub number: i64,
    /// Its display name.
    pub name: String,
    /// Where its log starts in the log of the job.
    pub log_start: u64,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// How it ended; none while it runs.
    pub end: Option<StepEnd>,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepEnd {
    /// How it ended by itself.
    pub outcome: StoredConclusion,
    /// How it counts.
    pub conclusion: StoredConclusion,
    /// Its exit code.
    pub exit_code: Option<i64>,
    /// Where its log ends; on disk before this is written.
    pub log_end: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// How.
    pub conclusion: StoredConclusion,
    /// Why, when the host failed.
    pub error: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl RunStore {
    /// Records a run that `owner` is about to execute, and makes the directory of its logs.
    ///
    /// # Errors
    /// The database or the file system refuses.
    pub async fn create_run(&self, run: &NewRun, owner: &ProcessId, at_ms: i64) -> Result<RunId, StoreError> {
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query("create a run")?;
        let attempt = match run.rerun_of {
            Some(earlier) => next_attempt(&mut connection, earlier).await?,
            None => Attempt { number: next_number(&mut connection, run).await?, attempt: 1 },
        };
        let row = sqlx::query(
            "INSERT INTO runs (workflow_name, workflow_path, repository, event, git_ref, sha, run_number, attempt, \
             rerun_of, owner_pid, owner_start_time, owner_boot_id, request, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING id",
        )
        .bind(&run.workflow_name)
        .bind(&run.workflow_path)
        .bind(&run.repository)
        .bind(&run.event)
        .bind(&run.git_ref)
        .bind(&run.sha)
        .bind(attempt.number)
        .bind(attempt.attempt)
        .bind(run.rerun_of.map(|id| id.0))
        .bind(i64::from(owner.pid))
        .bind(owner.start_time.cast_signed())
        .bind(&owner.boot_id)
        .bind(run.request.to_string())
        .bind(at_ms)
        .fetch_one(&mut *connection)
        .await
        .query("create a run")?;
        let id = RunId(row.try_get(0).query("create a run")?);
        self.files(id).create()?;
        connection.commit().await.query("create a run")?;
        Ok(id)
    }

    /// Records that a job starts.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn start_job(&self, run: RunId, job: &JobStart) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO jobs (run_id, number, key, name, vm_id, environment, permissions, started_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(run.0)
        .bind(job.number)
        .bind(&job.key)
        .bind(&job.name)
        .bind(&job.vm_id)
        .bind(&job.environment)
        .bind(job.permissions.as_ref().map(serde_json::Value::to_string))
        .bind(job.at_ms)
        .execute(&self.pool)
        .await
        .query("record the start of a job")?;
        Ok(())
    }

    /// Records how a job ended.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn end_job(&self, run: RunId, job: &JobEnd) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET outcome = $1, conclusion = $2, outputs = $3, environment_url = $4, finished_at_ms = $5 \
             WHERE run_id = $6 AND number = $7",
        )
        .bind(job.outcome.name())
        .bind(job.conclusion.name())
        .bind(job.outputs.to_string())
        .bind(&job.environment_url)
        .bind(job.at_ms)
        .bind(run.0)
        .bind(job.number)
        .execute(&self.pool)
        .await
        .query("record the end of a job")?;
        Ok(())
    }

    /// Records how far some steps have come, each named once, in one statement: the end of a step comes with the start of
    /// the next one, and each statement is a transaction and changes of threads. What was recorded of a start is kept.
    ///
    /// # Errors
    /// The database refuses, as it does more than 2,900 steps at once (SQLite takes 32,766 values); then nothing is recorded.
    pub async fn record_steps(&self, run: RunId, steps: &[StepState]) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut query = QueryBuilder::new(
            "INSERT INTO steps (run_id, job, number, name, log_start, started_at_ms, outcome, conclusion, exit_code, \
             log_end, finished_at_ms) ",
        );
        query.push_values(steps, |mut row, step| {
            let end = step.end.as_ref();
            row.push_bind(run.0)
                .push_bind(step.job)
                .push_bind(step.number)
                .push_bind(&step.name)
                .push_bind(step.log_start.cast_signed())
                .push_bind(step.started_at_ms)
                .push_bind(end.map(|end| end.outcome.name()))
                .push_bind(end.map(|end| end.conclusion.name()))
                .push_bind(end.and_then(|end| end.exit_code))
                .push_bind(end.map(|end| end.log_end.cast_signed()))
                .push_bind(end.map(|end| end.at_ms));
        });
        query.push(
            " ON CONFLICT (run_id, job, number) DO UPDATE SET outcome = excluded.outcome, \
             conclusion = excluded.conclusion, exit_code = excluded.exit_code, log_end = excluded.log_end, \
             finished_at_ms = excluded.finished_at_ms",
        );
        query.build().execute(&self.pool).await.query("record steps")?;
        Ok(())
    }

    /// Records what a step wrote to `GITHUB_STEP_SUMMARY`.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn set_summary(&self, run: RunId, job: i64, step: i64, text: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE steps SET summary = $1 WHERE run_id = $2 AND job = $3 AND number = $4")
            .bind(text)
            .bind(run.0)
            .bind(job)
            .bind(step)
            .execute(&self.pool)
            .await
            .query("record a step summary")?;
        Ok(())
    }

    /// Records the `number`-th annotation of a job.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn annotate(
        &self,
        run: RunId,
        job: i64,
        number: i64,
        annotation: &AnnotationRecord,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO annotations (run_id, job, number, step, level, title, message, file, line, end_line, col, \
             end_column) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(run.0)
        .bind(job)
        .bind(number)
        .bind(annotation.step)
        .bind(&annotation.level)
        .bind(&annotation.title)
        .bind(&annotation.message)
        .bind(&annotation.file)
        .bind(annotation.line)
        .bind(annotation.end_line)
        .bind(annotation.col)
        .bind(annotation.end_column)
        .execute(&self.pool)
        .await
        .query("record an annotation")?;
        Ok(())
    }

    /// Records how a run ended, and tells those who follow its logs. Jobs and steps that never said how they ended
    /// end as the run does.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn end_run(&self, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query("end a run")?;
        conclude(&mut connection, run, end.conclusion, end.error.as_deref(), Some(end.at_ms)).await?;
        connection.commit().await.query("end a run")?;
        self.files(run).mark_end()
    }

    /// Records every run whose process is gone as interrupted. When it ended is not known, and not made up.
    pub(super) async fn record_interrupted(&self) -> Result<(), StoreError> {
        for run in self.unfinished().await? {
            if run.owner.is_alive() {
                continue;
            }
            let mut connection = self.pool.begin_with("BEGIN IMMEDIATE").await.query("repair a run")?;
            conclude(&mut connection, run.id, StoredConclusion::Interrupted, None, None).await?;
            connection.commit().await.query("repair a run")?;
            tracing::info!(run.id = run.id.0, "run was interrupted: its process is gone");
        }
        Ok(())
    }

    /// Removes a run: its rows and its files.
    ///
    /// # Errors
    /// There is no such run, a living process executes it, or something refuses.
    pub async fn remove_run(&self, id: RunId) -> Result<(), StoreError> {
        let run = self.run(id).await?;
        if run.conclusion.is_none() {
            return Err(StoreError::Running { id, pid: run.owner.pid });
        }
        // Files first: a row without files can be removed again, files without a row would stay for ever.
        self.files(id).remove()?;
        sqlx::query("DELETE FROM runs WHERE id = $1")
            .bind(id.0)
            .execute(&self.pool)
            .await
            .query("remove a run")?;
        Ok(())
    }
}

struct Attempt {
    number: i64,
    attempt: i64,
}

async fn next_number(connection: &mut SqliteConnection, run: &NewRun) -> Result<i64, StoreError> {
    sqlx::query_scalar(
        "SELECT COALESCE(MAX(run_number), 0) + 1 FROM runs WHERE repository = $1 AND workflow_path = $2",
    )
    .bind(&run.repository)
    .bind(&run.workflow_path)
    .fetch_one(connection)
    .await
    .query("number a run")
}

/// A repetition keeps the number of the run and counts the attempts.
async fn next_attempt(connection: &mut SqliteConnection, earlier: RunId) -> Result<Attempt, StoreError> {
    let row = sqlx::query(
        "SELECT run_number, (SELECT MAX(later.attempt) FROM runs later WHERE later.run_number = runs.run_number \
         AND later.repository = runs.repository AND later.workflow_path = runs.workflow_path) + 1 \
         FROM runs WHERE id = $1",
    )
    .bind(earlier.0)
    .fetch_optional(connection)
    .await
    .query("number a run")?
    .ok_or(StoreError::NotFound(earlier))?;
    let read = || Ok(Attempt { number: row.try_get(0)?, attempt: row.try_get(1)? });
    read().query("number a run")
}

async fn conclude(
    connection: &mut SqliteConnection,
    run: RunId,
    conclusion: StoredConclusion,
    error: Option<&str>,
    at_ms: Option<i64>,
) -> Result<(), StoreError> {
    let inner = match conclusion {
        StoredConclusion::Cancelled
        | StoredConclusion::InfrastructureFault
        | StoredConclusion::Interrupted => conclusion,
        // The run ended by itself and a part of it never said how: that is no success.
        StoredConclusion::Success | StoredConclusion::Failure | StoredConclusion::Skipped => {
            StoredConclusion::InfrastructureFault
        }
    };
    // Only what has no conclusion gets one: a late writer never replaces a result.
    for statement in [
        "UPDATE steps SET conclusion = $1, outcome = COALESCE(outcome, $1), finished_at_ms = $2 \
         WHERE run_id = $3 AND conclusion IS NULL",
        "UPDATE jobs SET conclusion = $1, outcome = COALESCE(outcome, $1), finished_at_ms = $2 \
         WHERE run_id = $3 AND conclusion IS NULL",
    ] {
        let query = sqlx::query(statement).bind(inner.name()).bind(at_ms).bind(run.0);
        query.execute(&mut *connection).await.query("record the end of a run")?;
    }
    sqlx::query(
        "UPDATE runs SET conclusion = $1, finished_at_ms = $2, error = $3 WHERE id = $4 AND conclusion IS NULL",
    )
    .bind(conclusion.name())
    .bind(at_ms)
    .bind(error)
    .bind(run.0)
    .execute(&mut *connection)
    .await
    .query("record the end of a run")?;
    Ok(())
}
