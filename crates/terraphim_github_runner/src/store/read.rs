//! Everything that reads rows.

use serde_json::{Map, Value};
use sqlx::{Row as _, sqlite::SqliteRow};
use terraphim_vm::ProcessId;

use super::{
    AnnotationRecord, JobRecord, RunDetail, RunId, RunRecord, RunStore, StepRecord, StoredConclusion,
    error::{QueryContext as _, StoreError},
};
use crate::engine::EnvironmentReport;

macro_rules! select_runs {
    ($rest:literal) => {
        concat!(
            "SELECT id, workflow_name, workflow_path, repository, event, git_ref, sha, run_number, attempt, rerun_of, \
             conclusion, error, owner_pid, owner_start_time, owner_boot_id, created_at_ms, finished_at_ms FROM runs ",
            $rest
        )
    };
}

impl RunStore {
    /// The newest `limit` runs, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs: Vec<RunRecord> = sqlx::query(select_runs!("ORDER BY id DESC LIMIT $1"))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(run_of).collect())
            .query("list runs")?;
        runs.iter_mut().for_each(tell_interrupted);
        Ok(runs)
    }

    /// One run.
    ///
    /// # Errors
    /// There is no such run, or the database cannot be read.
    pub async fn run(&self, id: RunId) -> Result<RunRecord, StoreError> {
        let row = sqlx::query(select_runs!("WHERE id = $1"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .query("read a run")?
            .ok_or(StoreError::NotFound(id))?;
        let mut run = run_of(&row).query("read a run")?;
        tell_interrupted(&mut run);
        Ok(run)
    }

    /// What the run was asked to do, as given in [`NewRun::request`](super::NewRun::request).
    ///
    /// # Errors
    /// There is no such run, or the database cannot be read.
    pub async fn request(&self, id: RunId) -> Result<Value, StoreError> {
        let text: Option<String> = sqlx::query_scalar("SELECT request FROM runs WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .query("read a run")?;
        let text = text.ok_or(StoreError::NotFound(id))?;
        serde_json::from_str(&text)
            .map_err(|source| StoreError::Decode { what: "the request of a run", source })
    }

    /// One run with its jobs, steps and annotations.
    ///
    /// # Errors
    /// There is no such run, or the database cannot be read.
    pub async fn detail(&self, id: RunId) -> Result<RunDetail, StoreError> {
        let run = self.run(id).await?;
        let mut jobs = self.jobs(id).await?;
        for (job, step) in self.steps(id).await? {
            if let Some(job) = jobs.iter_mut().find(|known| known.number == job) {
                job.steps.push(step);
            }
        }
        for (job, annotation) in self.annotations(id).await? {
            if let Some(job) = jobs.iter_mut().find(|known| known.number == job) {
                job.annotations.push(annotation);
            }
        }
        if run.conclusion == Some(StoredConclusion::Interrupted) {
            for job in &mut jobs {
                job.conclusion.get_or_insert(StoredConclusion::Interrupted);
                for step in &mut job.steps {
                    step.conclusion.get_or_insert(StoredConclusion::Interrupted);
                }
            }
        }
        Ok(RunDetail { run, jobs })
    }

    /// Rows without a conclusion, whether or not their process lives.
    pub(super) async fn unfinished(&self) -> Result<Vec<RunRecord>, StoreError> {
        sqlx::query(select_runs!("WHERE conclusion IS NULL ORDER BY id"))
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(run_of).collect())
            .query("list unfinished runs")
    }

    async fn jobs(&self, run: RunId) -> Result<Vec<JobRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, key, name, outcome, conclusion, vm_id, outputs, environment, environment_url, permissions, \
             started_at_ms, finished_at_ms FROM jobs WHERE run_id = $1 ORDER BY number",
        )
        .bind(run.0)
        .fetch_all(&self.pool)
        .await
        .query("read the jobs of a run")?;
        rows.iter().map(job_of).collect()
    }

    async fn steps(&self, run: RunId) -> Result<Vec<(i64, StepRecord)>, StoreError> {
        sqlx::query(
            "SELECT job, number, name, outcome, conclusion, exit_code, summary, log_start, log_end, started_at_ms, \
             finished_at_ms FROM steps WHERE run_id = $1 ORDER BY job, number",
        )
        .bind(run.0)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| rows.iter().map(step_of).collect())
        .query("read the steps of a run")
    }

    async fn annotations(&self, run: RunId) -> Result<Vec<(i64, AnnotationRecord)>, StoreError> {
        sqlx::query(
            "SELECT job, step, level, title, message, file, line, end_line, col, end_column FROM annotations \
             WHERE run_id = $1 ORDER BY job, number",
        )
        .bind(run.0)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| rows.iter().map(annotation_of).collect())
        .query("read the annotations of a run")
    }
}

/// A run without an end whose process is gone was interrupted, whatever its row still says.
fn tell_interrupted(run: &mut RunRecord) {
    if run.conclusion.is_none() && !run.owner.is_alive() {
        run.conclusion = Some(StoredConclusion::Interrupted);
    }
}

fn run_of(row: &SqliteRow) -> Result<RunRecord, sqlx::Error> {
    Ok(RunRecord {
        id: RunId(row.try_get("id")?),
        workflow_name: row.try_get("workflow_name")?,
        workflow_path: row.try_get("workflow_path")?,
        repository: row.try_get("repository")?,
        event: row.try_get("event")?,
        git_ref: row.try_get("git_ref")?,
        sha: row.try_get("sha")?,
        run_number: row.try_get("run_number")?,
        attempt: row.try_get("attempt")?,
        rerun_of: row.try_get::<Option<i64>, _>("rerun_of")?.map(RunId),
        conclusion: conclusion_of(row, "conclusion")?,
        error: row.try_get("error")?,
        owner: ProcessId {
            pid: row.try_get("owner_pid")?,
            start_time: row.try_get::<i64, _>("owner_start_time")?.cast_unsigned(),
            boot_id: row.try_get("owner_boot_id")?,
        },
        created_at_ms: row.try_get("created_at_ms")?,
        finished_at_ms: row.try_get("finished_at_ms")?,
    })
}

fn job_of(row: &SqliteRow) -> Result<JobRecord, StoreError> {
    let operation = "read the jobs of a run";
    let name: Option<String> = row.try_get("environment").query(operation)?;
    let url = row.try_get("environment_url").query(operation)?;
    Ok(JobRecord {
        number: row.try_get("number").query(operation)?,
        key: row.try_get("key").query(operation)?,
        name: row.try_get("name").query(operation)?,
        outcome: conclusion_of(row, "outcome").query(operation)?,
        conclusion: conclusion_of(row, "conclusion").query(operation)?,
        vm_id: row.try_get("vm_id").query(operation)?,
        outputs: json_of(row, "outputs", "the outputs of a job")?
            .unwrap_or_else(|| Value::Object(Map::new())),
        environment: name.map(|name| EnvironmentReport { name, url }),
        permissions: json_of(row, "permissions", "the permissions of a job")?,
        started_at_ms: row.try_get("started_at_ms").query(operation)?,
        finished_at_ms: row.try_get("finished_at_ms").query(operation)?,
        steps: Vec::new(),
        annotations: Vec::new(),
    })
}

fn step_of(row: &SqliteRow) -> Result<(i64, StepRecord), sqlx::Error> {
    let step = StepRecord {
        number: row.try_get("number")?,
        name: row.try_get("name")?,
        outcome: conclusion_of(row, "outcome")?,
        conclusion: conclusion_of(row, "conclusion")?,
        exit_code: row.try_get("exit_code")?,
        summary: row.try_get("summary")?,
        log_start: row.try_get::<i64, _>("log_start")?.cast_unsigned(),
        log_end: row.try_get::<Option<i64>, _>("log_end")?.map(i64::cast_unsigned),
        started_at_ms: row.try_get("started_at_ms")?,
        finished_at_ms: row.try_get("finished_at_ms")?,
    };
    Ok((row.try_get("job")?, step))
}

fn annotation_of(row: &SqliteRow) -> Result<(i64, AnnotationRecord), sqlx::Error> {
    let annotation = AnnotationRecord {
        step: row.try_get("step")?,
        level: row.try_get("level")?,
        title: row.try_get("title")?,
        message: row.try_get("message")?,
        file: row.try_get("file")?,
        line: row.try_get("line")?,
        end_line: row.try_get("end_line")?,
        col: row.try_get("col")?,
        end_column: row.try_get("end_column")?,
    };
    Ok((row.try_get("job")?, annotation))
}

fn conclusion_of(row: &SqliteRow, column: &str) -> Result<Option<StoredConclusion>, sqlx::Error> {
    Ok(row.try_get::<Option<String>, _>(column)?.map(|word| StoredConclusion::from_word(&word)))
}

fn json_of(row: &SqliteRow, column: &str, what: &'static str) -> Result<Option<Value>, StoreError> {
    let text: Option<String> = row.try_get(column).query("read the jobs of a run")?;
    let read =
        |text: String| serde_json::from_str(&text).map_err(|source| StoreError::Decode { what, source });
    text.map(read).transpose()
}
