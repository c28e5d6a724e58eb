//! VMs of a VM host, over its HTTP API.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::manager::VmProvider;
use crate::error::{GitHubRunnerError, Result, chain};
use crate::http::{Backoff, Call, HttpClient, HttpError, Method, Token};

/// Where the VM host is when nothing is said.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// For calls that look or delete: stopping a VM takes up to ten seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A host may boot the VM before it answers: up to a minute with software emulation on a busy machine.
const CREATE_LIMIT: Duration = Duration::from_secs(120);

/// From the answer to a running VM, for hosts that answer before the boot.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// The API has no event for "running"; it is asked for, ever more rarely. A VM from a pool runs at once.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Where the VM host is and how to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostSettings {
    pub(crate) url: String,
    pub(crate) token: Option<Token>,
    pub(crate) vm_type: Option<String>,
}

impl HostSettings {
    /// From `FIRECRACKER_API_URL`, `FIRECRACKER_AUTH_TOKEN` and `FIRECRACKER_VM_TYPE`.
    pub(crate) fn from_env() -> Self {
        HostSettings::from_variables(|name| std::env::var(name).ok())
    }

    /// An empty variable counts as absent, as shells and CI systems set them so.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| variable(name).filter(|value| !value.trim().is_empty());
        HostSettings {
            url: get("FIRECRACKER_API_URL").unwrap_or_else(|| DEFAULT_URL.to_owned()),
            token: get("FIRECRACKER_AUTH_TOKEN").map(Token::new),
            vm_type: get("FIRECRACKER_VM_TYPE"),
        }
    }
}

/// A VM of the host that cannot be used.
#[derive(Debug, Error)]
enum Unusable {
    #[error("VM {vm_id} is {status}")]
    Ended { vm_id: String, status: String },
    #[error("VM {vm_id} is still {status} after {after:?}")]
    NotRunning { vm_id: String, status: String, after: Duration },
}

/// What the host says about a VM.
#[derive(Debug, Deserialize)]
struct Vm {
    #[serde(alias = "vm_id")]
    id: String,
    status: String,
}

/// VMs of a VM host, over its HTTP API.
#[derive(Debug)]
pub struct HttpVmProvider {
    client: HttpClient,
    backoff: Backoff,
}

impl HttpVmProvider {
    pub(crate) fn new(host: &HostSettings) -> Self {
        HttpVmProvider {
            // A manager that is dropped releases its VMs from a runtime of their own.
            client: HttpClient::unpooled(&host.url, host.token.clone()),
            backoff: Backoff::default(),
        }
    }

    /// The host that `FIRECRACKER_API_URL` and `FIRECRACKER_AUTH_TOKEN` name.
    #[must_use]
    pub fn from_env() -> Self {
        HttpVmProvider::new(&HostSettings::from_env())
    }

    /// Creates a VM. Its name is ours alone, so that it is found again when the answer is lost.
    async fn create(&self, vm_type: &str) -> Result<Vm, HttpError> {
        let name = format!("run-{}", Uuid::new_v4());
        let body = json!({ "vm_type": vm_type, "name": name });
        let call = Call { method: Method::POST, path: "/api/vms", body: Some(&body), limit: CREATE_LIMIT };
        let created = self.backoff.run(HttpError::surely_did_not_start, || self.client.json(&call)).await;
        match created {
            Ok(answer) => self.read(answer, "/api/vms"),
            Err(error @ (HttpError::TimedOut { .. } | HttpError::Broken { .. })) => {
                match self.find(&name).await {
                    Ok(Some(vm)) => Ok(vm),
                    Ok(None) => Err(error),
                    Err(second) => {
                        debug!("cannot look for VM {name} either: {}", chain(&second));
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn find(&self, name: &str) -> Result<Option<Vm>, HttpError> {
        let answer = self.get("/api/vms").await?;
        let vms = answer.get("vms").and_then(Value::as_array).into_iter().flatten();
        let found = { vms }.rfind(|vm| vm.get("name").and_then(Value::as_str) == Some(name));
        found.map(|vm| self.read(vm.clone(), "/api/vms")).transpose()
    }

    async fn get(&self, path: &str) -> Result<Value, HttpError> {
        let call = Call { method: Method::GET, path, body: None, limit: CALL_LIMIT };
        self.backoff.run(HttpError::is_transient, || self.client.json(&call)).await
    }

    fn read(&self, answer: Value, path: &str) -> Result<Vm, HttpError> {
        let malformed = |e: serde_json::Error| HttpError::Malformed {
            url: format!("{}{path}", self.client.base()),
            source: e.into(),
        };
        // H4 gives both `id` and `vm_id`; one of them is enough, and two would be a duplicate field.
        let mut answer = answer;
        if let Some(fields) = answer.as_object_mut()
            && fields.contains_key("id")
        {
            fields.remove("vm_id");
        }
        serde_json::from_value(answer).map_err(malformed)
    }

    /// Waits until the host says that the VM runs.
    async fn until_running(&self, mut vm: Vm) -> Result<String> {
        let path = vm_path(&vm.id, "");
        let (started, mut pause) = (Instant::now(), FIRST_LOOK);
        loop {
            match vm.status.to_ascii_lowercase().as_str() {
                "running" | "ready" => return Ok(vm.id),
                "stopped" | "stopping" | "failed" | "error" | "deleted" => {
                    let (vm_id, status) = (vm.id, vm.status);
                    return Err(GitHubRunnerError::failed(
                        format!("start a VM on {}", self.client.base()),
                        Unusable::Ended { vm_id, status },
                    ));
                }
                _ if started.elapsed() >= BOOT_LIMIT => {
                    let (vm_id, status) = (vm.id, vm.status);
                    return Err(GitHubRunnerError::failed(
                        format!("start a VM on {}", self.client.base()),
                        Unusable::NotRunning { vm_id, status, after: BOOT_LIMIT },
                    ));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
            vm = self.read(self.get(&path).await?, &path)?;
        }
    }
}

#[async_trait]
impl VmProvider for HttpVmProvider {
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)> {
        let started = Instant::now();
        let vm = self.create(vm_type).await?;
        let vm_id = vm.id.clone();
        match self.until_running(vm).await {
            Ok(vm_id) => Ok((vm_id, started.elapsed())),
            Err(error) => {
                if let Err(second) = self.release(&vm_id).await {
                    warn!("cannot remove VM {vm_id}, which never ran: {}", chain(&second));
                }
                Err(error)
            }
        }
    }

    async fn release(&self, vm_id: &str) -> Result<()> {
        let path = vm_path(vm_id, "");
        let call = Call { method: Method::DELETE, path: &path, body: None, limit: CALL_LIMIT };
        match self.backoff.run(HttpError::is_transient, || self.client.json(&call)).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The path of a VM in the API; what no id should contain cannot leave its segment.
pub(crate) fn vm_path(vm_id: &str, below: &str) -> String {
    format!("/api/vms/{}{below}", segment(vm_id))
}

/// `text` as one segment of a path (RFC 3986 section 3.3, unreserved characters only).
pub(crate) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        // Dots alone would be a step up in the path.
        let is_plain =
            byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && text.len() > 2);
        if is_plain {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
#[path = "http_provider_tests.rs"]
mod tests;
