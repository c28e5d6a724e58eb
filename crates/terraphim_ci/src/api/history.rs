//! What ran in a VM: the list, one execution, and stopping one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api,
    auth::User,
    body::Params,
    calls::{Call, time_text},
    error::ApiError,
    execute::answer,
    running, vms,
};

/// Entries of a page when the client names no limit, and the most it may name.
const DEFAULT_LIMIT: usize = 50;
const MOST: usize = 1000;

/// `?limit&failures_only`.
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    failures_only: Option<bool>,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
    Params(filter): Params<Filter>,
) -> Result<Json<Value>, ApiError> {
    let vm = vms::find(&api.host, &user, &id)?.id;
    let (paths, of) = (api.host.paths().clone(), vm.clone());
    let mut calls = vms::blocking(move || Call::list(&paths, &of)).await??;
    if filter.failures_only == Some(true) {
        calls.retain(Call::has_failed);
    }
    let total = calls.len();
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).min(MOST);
    let history: Vec<Value> = calls.iter().take(limit).map(entry).collect();
    Ok(Json(json!({"vm_id": vm, "total": total, "history": history})))
}

fn entry(call: &Call) -> Value {
    let end = call.end.as_ref();
    let status = match (&call.end, call.has_failed()) {
        (None, _) => "running",
        (Some(_), false) => "success",
        (Some(_), true) => "failed",
    };
    json!({
        "execution_id": call.execution_id,
        "command": call.code,
        "language": call.language,
        "agent_id": call.agent_id,
        "working_dir": call.working_dir,
        "status": status,
        "exit_code": end.and_then(|end| end.exit_code),
        "duration_ms": end.map(|end| end.duration_ms),
        "started_at": time_text(call.started_at_ms),
        "completed_at": end.map(|end| time_text(end.completed_at_ms)),
        "error": end.and_then(|end| end.error.clone()),
    })
}

/// One execution with its output so far.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    user: User,
    Path((id, execution)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let vm = vms::find(&api.host, &user, &id)?.id;
    let call = Call::load(api.host.paths(), &vm, &execution)?;
    let (paths, of, exec) = (api.host.paths().clone(), vm.clone(), call.exec.clone());
    let stored = vms::blocking(move || running::stored(&paths, &of, &exec)).await?;
    let (_, output) =
        stored.map_err(|error| ApiError::unavailable(format!("cannot read the output: {error}")))?;
    Ok(Json(answer(&vm, &call, &output)))
}

pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    user: User,
    Path((id, execution)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let vm = vms::find(&api.host, &user, &id)?.id;
    let call = Call::load(api.host.paths(), &vm, &execution)?;
    if !api.running.stop(&vm, &call.execution_id) {
        return Err(ApiError::conflict(format!("execution {} has ended", call.execution_id)));
    }
    Ok(Json(
        json!({"message": "the command is being stopped", "vm_id": vm, "execution_id": call.execution_id}),
    ))
}
