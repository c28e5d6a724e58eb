//! Opening the database: create, check, back up, migrate.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::error::{IoContext as _, QueryContext as _, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// Every database file of SQLite starts so (sqlite.org/fileformat.html, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Writers of other processes hold the lock for milliseconds; a migration of a large store for seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// SQLite has one writer at a time. Several of one process would wait for each other asleep, and read again from the file
/// what each has written; here they wait in turn for the one connection, which knows all of it. So nobody may ask for a
/// second one while holding it.
const WRITERS: u32 = 1;
const READERS: u32 = 4;

/// The database file below the data directory.
pub(super) fn database(data: &Path) -> PathBuf {
    data.join("runs.db")
}

/// Opens for writing; makes or migrates the database where needed, one process at a time.
pub(super) async fn for_writing(data: &Path) -> Result<SqlitePool, StoreError> {
    terraphim_vm::make_private_directory(data).io("create directory", data)?;
    let path = database(data);
    let lock_path = data.join("runs.lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .io("open lock", &lock_path)?;
    // Held by a migrating process only for as long as it migrates; never across a run.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(std::io::Error::other)
        .and_then(|locked| locked)
        .io("lock", &lock_path)?;
    let is_new = !check_magic(&path)?;
    terraphim_vm::make_private_file(&path).io("create", &path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = connect(options, &path, WRITERS).await?;
    migrate(&pool, &path, is_new, &MIGRATIONS).await?;
    drop(lock);
    Ok(pool)
}

/// Opens for reading; `None` when there is no database yet.
pub(super) async fn for_reading(data: &Path) -> Result<Option<SqlitePool>, StoreError> {
    let path = database(data);
    if !check_magic(&path)? {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = connect(options, &path, READERS).await?;
    let applied = applied_versions(&pool).await.map_err(|source| corrupt(&path, source))?;
    refuse_newer(&path, &applied, &MIGRATIONS)?;
    if pending(&applied, &MIGRATIONS).next().is_some() {
        // An older database is brought up to date first; every later reader finds it so.
        pool.close().await;
        return for_writing(data).await.map(Some);
    }
    Ok(Some(pool))
}

/// Whether there is a database; an error when the file is something else. An empty file is a new database.
fn check_magic(path: &Path) -> Result<bool, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { operation: "open", path: path.to_owned(), source }),
    };
    let mut start = Vec::with_capacity(MAGIC.len());
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start).io("read", path)?;
    match start.as_slice() {
        [] => Ok(false),
        start if start == MAGIC => Ok(true),
        _ => Err(StoreError::Corrupt { path: path.to_owned(), source: None }),
    }
}

async fn connect(
    options: SqliteConnectOptions,
    path: &Path,
    connections: u32,
) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        // There is no network that could have lost it, and asking is one more change of threads for each statement.
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|source| corrupt(path, source))
}

/// SQLite's "not a database" and "malformed" (result codes 26 and 11) mean damage; anything else is reported as it is.
fn corrupt(path: &Path, source: sqlx::Error) -> StoreError {
    let code = source.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned);
    match code.as_deref() {
        Some("26" | "11") => StoreError::Corrupt { path: path.to_owned(), source: Some(source) },
        _ => StoreError::Database { operation: "open the database", source },
    }
}

async fn migrate(
    pool: &SqlitePool,
    path: &Path,
    is_new: bool,
    migrations: &Migrator,
) -> Result<(), StoreError> {
    let applied = applied_versions(pool).await.map_err(|source| corrupt(path, source))?;
    refuse_newer(path, &applied, migrations)?;
    for version in pending(&applied, migrations) {
        if !is_new {
            back_up(pool, path, version).await?;
        }
        migrations.run_to(version, pool).await.map_err(|source| failed(path, source))?;
    }
    Ok(())
}

fn failed(path: &Path, source: MigrateError) -> StoreError {
    match source {
        MigrateError::VersionMissing(version) => StoreError::Newer { path: path.to_owned(), version },
        source => StoreError::Migrate { path: path.to_owned(), source },
    }
}

/// Copies the database to `runs.db.before-N` as it was before migration `N`.
async fn back_up(pool: &SqlitePool, path: &Path, version: i64) -> Result<(), StoreError> {
    let copy = path.with_extension(format!("db.before-{version}"));
    match fs::remove_file(&copy) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::Io { operation: "remove the old backup", path: copy, source });
        }
        _ => {}
    }
    sqlx::query("VACUUM INTO $1")
        .bind(copy.to_string_lossy().into_owned())
        .execute(pool)
        .await
        .query("back up the database before a migration")?;
    Ok(())
}

async fn applied_versions(pool: &SqlitePool) -> Result<Vec<i64>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    if !has_migrations_table(&mut connection).await? {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
        .fetch_all(&mut *connection)
        .await
}

async fn has_migrations_table(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?;
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(connection)
    .await?;
    Ok(count > 0)
}

fn refuse_newer(path: &Path, applied: &[i64], known: &Migrator) -> Result<(), StoreError> {
    match applied.iter().find(|version| !known.version_exists(**version)) {
        Some(version) => Err(StoreError::Newer { path: path.to_owned(), version: *version }),
        None => Ok(()),
    }
}

fn pending(applied: &[i64], known: &Migrator) -> impl Iterator<Item = i64> {
    known.iter().map(|migration| migration.version).filter(|version| !applied.contains(version))
}

#[cfg(test)]
mod tests {
    use sqlx::{
        SqlSafeStr as _,
        migrate::{Migration, MigrationType},
    };

    use super::*;
    use crate::store::{RunId, RunStore};

    fn with_one_more() -> Migrator {
        let mut all: Vec<Migration> = MIGRATIONS.iter().cloned().collect();
        let sql = "ALTER TABLE runs ADD COLUMN colour TEXT".into_sql_str();
        all.push(Migration::new(9999, "colour".into(), MigrationType::Simple, sql, false));
        Migrator::with_migrations(all)
    }

    #[tokio::test]
    async fn a_backup_is_made_before_a_migration_and_an_older_program_refuses_the_result() {
        let dir = tempfile::tempdir().unwrap();
        let pool = for_writing(dir.path()).await.unwrap();
        let path = database(dir.path());
        assert!(!dir.path().join("runs.db.before-1").exists(), "a new database needs no backup");
        migrate(&pool, &path, false, &with_one_more()).await.unwrap();
        pool.close().await;

        let backup = SqliteConnectOptions::new().filename(dir.path().join("runs.db.before-9999"));
        let backup = connect(backup, &path, READERS).await.unwrap();
        let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(applied_versions(&backup).await.unwrap(), known);
        backup.close().await;

        let before = fs::read(&path).unwrap();
        for result in [for_writing(dir.path()).await.map(Some), for_reading(dir.path()).await] {
            assert!(matches!(result, Err(StoreError::Newer { version: 9999, .. })), "{result:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn what_older_programs_recorded_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = connect(options, &path, WRITERS).await.unwrap();
        MIGRATIONS.run_to(2, &pool).await.unwrap();
        for statement in [
            "INSERT INTO runs (workflow_name, workflow_path, repository, event, git_ref, sha, run_number, attempt, owner_pid, \
             owner_start_time, owner_boot_id, request, created_at_ms, conclusion) \
             VALUES ('CI', 'ci.yml', 'me/it', 'push', '', '', 1, 1, 1, 1, '', '{}', 1, 'success')",
            "INSERT INTO jobs (run_id, number, key, name, outputs, started_at_ms) \
             VALUES (1, 1, 'build', 'Build', '{\"a\":\"b\"}', 1)",
        ] {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        pool.close().await;

        let store = RunStore::open_to_read(dir.path()).await.unwrap().unwrap();
        let jobs = store.detail(RunId(1)).await.unwrap().jobs;
        assert_eq!(
            (jobs[0].key.as_str(), &jobs[0].environment, &jobs[0].permissions),
            ("build", &None, &None)
        );
        assert_eq!(jobs[0].outputs, serde_json::json!({"a": "b"}));
        assert!(dir.path().join("runs.db.before-3").exists(), "a copy of what was");
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        let mut half = MAGIC.to_vec();
        half.extend_from_slice(&[0xff; 5000]);
        for content in [b"not a database at all".to_vec(), half] {
            fs::write(&path, &content).unwrap();
            for result in [for_writing(dir.path()).await.map(Some), for_reading(dir.path()).await] {
                assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
            }
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn reading_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(for_reading(dir.path()).await.unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ten_first_writers_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let opening: Vec<_> = (0..10)
            .map(|_| {
                let data = dir.path().to_owned();
                tokio::spawn(async move { for_writing(&data).await.unwrap().close().await })
            })
            .collect();
        for task in opening {
            task.await.unwrap();
        }
    }
}
