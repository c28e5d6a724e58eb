//! Runs commands through the HTTP API of a VM host.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::executor::{CommandExecutor, CommandResult};
use super::process::Capabilities;
use crate::error::{GitHubRunnerError, Result};
use crate::http::{Backoff, Call, HttpClient, HttpError, Method, Token};
use crate::models::SnapshotId;
use crate::session::Session;
use crate::session::http_provider::{segment, vm_path};

/// How much longer than the command's own time limit the host may take: it stops the command by itself (ten
/// seconds from the first signal to the last) and then has to answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(15);

/// A snapshot writes the memory of the VM to disk, a rollback reads it back.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(120);

const EXECUTE: &str = "/api/llm/execute";

/// Runs commands through the HTTP API of a VM host (`POST /api/llm/execute`).
#[derive(Debug)]
pub struct VmCommandExecutor {
    client: HttpClient,
    backoff: Backoff,
    answer_margin: Duration,
}

/// An answer that does not say how the command ended.
#[derive(Debug, Error)]
enum Contradiction {
    #[error("the answer has no exit code{}", .reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    NoExitCode { reason: Option<String> },
    #[error("the command ran in VM {actual} and not in {expected}")]
    OtherVm { expected: String, actual: String },
    #[error("the exit code is 0 and there is an error: {reason}")]
    FailedSuccess { reason: String },
    #[error("the answer has no snapshot_id")]
    NoSnapshotId,
}

/// What the host says about a command. Fields that are not needed may be absent.
#[derive(Debug, Deserialize)]
struct Executed {
    exit_code: Option<i32>,
    #[serde(default)]
    stdout: Option<String>,
    #[serde(default)]
    stderr: Option<String>,
    #[serde(default)]
    vm_id: Option<String>,
    #[serde(default)]
    duration_ms: Option<u64>,
    #[serde(default)]
    error: Option<String>,
}

impl VmCommandExecutor {
    /// The host at `url`, without a token.
    ///
    /// An address that cannot be used shows at the first command.
    pub fn new(url: impl Into<String>) -> Self {
        VmCommandExecutor::over(HttpClient::new(url, None))
    }

    /// The host at `url`, with a JWT.
    pub fn with_auth(url: impl Into<String>, token: impl Into<String>) -> Self {
        VmCommandExecutor::over(HttpClient::new(url, Some(Token::new(token))))
    }

    fn over(client: HttpClient) -> Self {
        VmCommandExecutor { client, backoff: Backoff::default(), answer_margin: ANSWER_MARGIN }
    }

    /// Calls the host. Only what surely did not start is tried again: nothing runs twice.
    async fn post(&self, path: &str, body: &Value, limit: Duration) -> Result<Value, HttpError> {
        let call = Call { method: Method::POST, path, body: Some(body), limit };
        self.backoff.run(HttpError::surely_did_not_start, || self.client.json(&call)).await
    }

    fn malformed(&self, path: &str, source: impl std::error::Error + Send + Sync + 'static) -> HttpError {
        HttpError::Malformed { url: format!("{}{path}", self.client.base()), source: Box::new(source) }
    }

    fn result(&self, session: &Session, executed: Executed, elapsed: Duration) -> Result<CommandResult> {
        let refuse = |c: Contradiction| GitHubRunnerError::from(self.malformed(EXECUTE, c));
        if let Some(actual) = executed.vm_id.filter(|actual| *actual != session.vm_id) {
            return Err(refuse(Contradiction::OtherVm { expected: session.vm_id.clone(), actual }));
        }
        let error = executed.error.filter(|error| !error.is_empty());
        let Some(exit_code) = executed.exit_code else {
            return Err(refuse(Contradiction::NoExitCode { reason: error }));
        };
        let mut stderr = executed.stderr.unwrap_or_default();
        if let Some(reason) = error {
            if exit_code == 0 {
                return Err(refuse(Contradiction::FailedSuccess { reason }));
            }
            if !stderr.is_empty() && !stderr.ends_with('\n') {
                stderr.push('\n');
            }
            stderr.push_str(&reason);
        }
        let duration = executed.duration_ms.map_or(elapsed, Duration::from_millis);
        Ok(CommandResult { exit_code, stdout: executed.stdout.unwrap_or_default(), stderr, duration })
    }
}

#[async_trait]
impl CommandExecutor for VmCommandExecutor {
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        timeout: Duration,
        working_dir: &str,
    ) -> Result<CommandResult> {
        let mut body = json!({
            "agent_id": "terraphim-github-runner",
            "language": "bash",
            "code": command,
            "vm_id": session.vm_id,
            "working_dir": working_dir,
        });
        // The two are alternatives, and older hosts know only whole seconds.
        if timeout.subsec_nanos() == 0 {
            body["timeout_seconds"] = json!(timeout.as_secs());
        } else {
            body["timeout_ms"] = json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        }
        let started = tokio::time::Instant::now();
        let answer = self.post(EXECUTE, &body, timeout.saturating_add(self.answer_margin)).await?;
        let executed = serde_json::from_value(answer).map_err(|e| self.malformed(EXECUTE, e))?;
        self.result(session, executed, started.elapsed())
    }

    async fn create_snapshot(&self, session: &Session, name: &str) -> Result<SnapshotId> {
        let path = vm_path(&session.vm_id, "/snapshots");
        let answer = self.post(&path, &json!({ "name": name }), SNAPSHOT_LIMIT).await?;
        match answer.get("snapshot_id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => Ok(SnapshotId::new(id)),
            _ => Err(self.malformed(&path, Contradiction::NoSnapshotId).into()),
        }
    }

    async fn rollback(&self, session: &Session, snapshot: &SnapshotId) -> Result<()> {
        let path = vm_path(&session.vm_id, &format!("/rollback/{}", segment(&snapshot.0)));
        self.post(&path, &json!({}), SNAPSHOT_LIMIT).await?;
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshots: true, ..Capabilities::default() }
    }
}

#[cfg(test)]
#[path = "vm_executor_tests.rs"]
mod tests;
