//! What was called, beside the VM's files: written before the command starts, completed when it has ended, gone with the
//! VM. The output itself is with the supervisor (`exec/ID/output`).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use terraphim_vm::{Paths, VmId};
use uuid::Uuid;

use super::{error::ApiError, running::Stopped, tokens::write_private};

/// One call of `POST /api/llm/execute`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) execution_id: String,
    /// The supervisor's execution: another one than `execution_id` where the first shell was missing.
    pub(super) exec: String,
    pub(super) user_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent_id: Option<String>,
    pub(super) language: String,
    pub(super) code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) working_dir: Option<String>,
    pub(super) timeout_ms: u64,
    pub(super) started_at_ms: u64,
    /// Why it was told to end, saved before it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<Stopped>,
    /// Absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<CallEnd>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CallEnd {
    /// Absent when it is not known: the host failed, or the command could not be started.
    pub(super) exit_code: Option<i32>,
    pub(super) duration_ms: u64,
    pub(super) completed_at_ms: u64,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Call {
    /// Whether it has ended, and not well.
    pub(super) fn has_failed(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.exit_code != Some(0))
    }

    /// The same, for whoever goes on in any case.
    pub(super) fn save_or_log(&self, paths: &Paths, vm: &VmId) {
        if let Err(error) = self.save(paths, vm) {
            tracing::error!(
                "cannot note what is done with execution {}: {}",
                self.execution_id,
                error.message
            );
        }
    }

    pub(super) fn save(&self, paths: &Paths, vm: &VmId) -> Result<(), ApiError> {
        let directory = directory(paths, vm);
        // Only the last level: a VM that was removed meanwhile must not come back as an empty directory.
        if let Err(error) = fs::create_dir(&directory)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => ApiError::unavailable(format!("VM {vm} was removed meanwhile")),
                _ => ApiError::io("create", &directory, &error),
            });
        }
        let path = directory.join(format!("{}.json", self.execution_id));
        let text = serde_json::to_vec(self).expect("plain data is JSON");
        write_private(&path, &text).map_err(|error| ApiError::io("write", &path, &error))
    }

    /// One call of a VM.
    pub(super) fn load(paths: &Paths, vm: &VmId, execution: &str) -> Result<Call, ApiError> {
        let missing = || ApiError::not_found(format!("there is no execution `{execution}` in VM {vm}"));
        let id = Uuid::try_parse(execution).map_err(|_| missing())?;
        let path = directory(paths, vm).join(format!("{}.json", id.simple()));
        match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(ApiError::io("read", &path, &error)),
        }
    }

    /// All calls of a VM, newest first.
    pub(super) fn list(paths: &Paths, vm: &VmId) -> Result<Vec<Call>, ApiError> {
        let directory = directory(paths, vm);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ApiError::io("read", &directory, &error)),
        };
        let mut all = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "json") {
                let bytes = fs::read(&path).map_err(|error| ApiError::io("read", &path, &error))?;
                all.push(parse(&path, &bytes)?);
            }
        }
        all.sort_by(|a: &Call, b: &Call| {
            (b.started_at_ms, &b.execution_id).cmp(&(a.started_at_ms, &a.execution_id))
        });
        Ok(all)
    }
}

fn directory(paths: &Paths, vm: &VmId) -> PathBuf {
    paths.vm(vm).join("calls")
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Call, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::unavailable(format!("{} is damaged: {error}", path.display())))
}

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As RFC 3339, in UTC.
pub(super) fn time_text(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().to_string()
}
