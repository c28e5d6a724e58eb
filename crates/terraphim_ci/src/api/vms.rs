//! `/api/vms`: a user's VMs.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use terraphim_vm::{Host, StopOptions, VmId, VmRecord, VmSpec, VmState};

use super::{Api, auth::User, body::Body, calls::time_text, error::ApiError};

/// Whose VM it is.
const USER_LABEL: &str = "tci.user";
/// Its type.
const TYPE_LABEL: &str = "tci.vm-type";

/// `POST /api/vms`.
#[derive(Debug, Deserialize)]
pub(super) struct NewVm {
    #[serde(default)]
    vm_type: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    vm_name: Option<String>,
}

pub(super) async fn list(State(api): State<Arc<Api>>, user: User) -> Result<Json<Value>, ApiError> {
    let mut vms = Vec::new();
    for record in owned(&api.host, &user)? {
        vms.push(describe(&api, &record).await);
    }
    let (total, most) = (vms.len(), api.settings.vms_per_user);
    let (vcpus, memory) = owned(&api.host, &user)?
        .iter()
        .filter(|record| record.effective_state().is_owned())
        .fold((0_u64, 0_u64), |(vcpus, memory), record| {
            (vcpus + u64::from(record.spec.vcpus), memory + u64::from(record.spec.memory_mib))
        });
    let usage = json!({"vms": total, "max_vms": most, "running_vcpus": vcpus, "running_memory_mib": memory});
    Ok(Json(json!({"user": user.id, "total": total, "usage": usage, "vms": vms})))
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    user: User,
    Body(new): Body<NewVm>,
) -> Result<Json<Value>, ApiError> {
    let name = match (new.name, new.vm_name) {
        (Some(name), Some(other)) if name != other => {
            return Err(ApiError::bad_request("name and vm_name are given and differ"));
        }
        (name, other) => name.or(other),
    };
    let record = provision(&api, &user, new.vm_type.as_deref().unwrap_or("default"), name).await?;
    Ok(Json(describe(&api, &record).await))
}

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = find(&api.host, &user, &id)?;
    Ok(Json(describe(&api, &record).await))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = find(&api.host, &user, &id)?;
    api.host.remove(&record.id, true).await?;
    tracing::info!(vm.id = %record.id, "VM removed");
    Ok(Json(json!({"message": "VM deleted", "id": record.id, "vm_id": record.id})))
}

pub(super) async fn start(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = find(&api.host, &user, &id)?;
    let record = api.host.start(&record.id).await?;
    Ok(Json(describe(&api, &record).await))
}

pub(super) async fn stop(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = find(&api.host, &user, &id)?;
    let report = api.host.stop(&record.id, &StopOptions::default()).await?;
    Ok(Json(json!({"message": "VM stopped", "id": record.id, "vm_id": record.id, "step": report.step})))
}

/// Makes and starts a VM for a user, within the quota. It is the caller's from now on.
pub(super) async fn provision(
    api: &Api,
    user: &User,
    vm_type: &str,
    name: Option<String>,
) -> Result<VmRecord, ApiError> {
    let spec = spec(api, user, vm_type, name)?;
    let record = {
        let _turn = api.creating.lock().await;
        let has = owned(&api.host, user)?.len();
        let most = api.settings.vms_per_user;
        if has >= most {
            let message = format!("user `{}` has {has} VMs, {most} are allowed: delete one first", user.id);
            return Err(ApiError::new(axum::http::StatusCode::TOO_MANY_REQUESTS, message));
        }
        let host = api.host.clone();
        blocking(move || host.create(&spec)).await??
    };
    match api.host.start(&record.id).await {
        Ok(record) => {
            tracing::info!(vm.id = %record.id, "VM started");
            Ok(record)
        }
        Err(error) => {
            // Nobody knows the id of a VM whose creation failed, so nobody else would remove it.
            if let Err(second) = api.host.remove(&record.id, true).await {
                tracing::warn!(vm.id = %record.id, "cannot remove a VM that did not start: {second}");
            }
            let error = ApiError::from(error);
            Err(ApiError::unavailable(error.message))
        }
    }
}

fn spec(api: &Api, user: &User, vm_type: &str, name: Option<String>) -> Result<VmSpec, ApiError> {
    let known = || api.config.vm_types.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let configured = api.config.vm_type(vm_type).ok_or_else(|| {
        ApiError::bad_request(format!("there is no VM type `{vm_type}`; these exist: {}", known()))
    })?;
    let mut spec = VmSpec { name, ..configured.spec() };
    spec.labels.insert(USER_LABEL.to_owned(), user.id.clone());
    spec.labels.insert(TYPE_LABEL.to_owned(), vm_type.to_owned());
    Ok(spec)
}

/// The user's VMs.
pub(super) fn owned(host: &Host, user: &User) -> Result<Vec<VmRecord>, ApiError> {
    let mut all = host.list()?;
    all.retain(|record| record.spec.labels.get(USER_LABEL) == Some(&user.id));
    Ok(all)
}

/// The user's VM with this id or name.
pub(super) fn find(host: &Host, user: &User, wanted: &str) -> Result<VmRecord, ApiError> {
    let all = host.list()?;
    let is_wanted = |record: &&VmRecord| record.id.as_str() == wanted || record.name == wanted;
    let Some(record) = all.iter().find(is_wanted) else {
        return Err(ApiError::not_found(format!("there is no VM `{wanted}`")));
    };
    if record.spec.labels.get(USER_LABEL) != Some(&user.id) {
        return Err(ApiError::forbidden(format!("VM `{wanted}` belongs to somebody else")));
    }
    Ok(record.clone())
}

/// Whether a VM was made through this API.
pub(super) fn is_ours(record: &VmRecord) -> bool {
    record.spec.labels.contains_key(USER_LABEL)
}

async fn describe(api: &Api, record: &VmRecord) -> Value {
    let labels = &record.spec.labels;
    let ms = |time: i64| time_text(u64::try_from(time).unwrap_or_default());
    json!({
        "id": record.id,
        "vm_id": record.id,
        "name": record.name,
        "status": status(&api.host, record).await,
        "vm_type": labels.get(TYPE_LABEL),
        "user_id": labels.get(USER_LABEL),
        "vcpus": record.spec.vcpus,
        "memory_mib": record.spec.memory_mib,
        "created_at": ms(record.created_at_ms),
        "updated_at": ms(record.updated_at_ms),
    })
}

/// `running` means that commands can run: the guest has booted.
async fn status(host: &Host, record: &VmRecord) -> &'static str {
    let state = record.effective_state();
    if state != VmState::Running {
        return state.as_str();
    }
    let Ok(client) = host.client(&record.id) else { return VmState::Stopped.as_str() };
    match client.status().await {
        Ok(status) if status.agent == "ready" => VmState::Running.as_str(),
        Ok(status) if status.agent == "booting" => VmState::Starting.as_str(),
        Ok(_) | Err(_) => VmState::Failed.as_str(),
    }
}

/// The id of a user's VM that runs.
pub(super) fn running(host: &Host, user: &User, wanted: &str) -> Result<VmId, ApiError> {
    let record = find(host, user, wanted)?;
    match record.effective_state() {
        VmState::Running | VmState::Starting => Ok(record.id),
        state => Err(ApiError::conflict(format!("VM `{wanted}` is {state}"))),
    }
}

/// For what touches the disk for more than a moment.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::unavailable(format!("the call ended early: {error}")))
}
