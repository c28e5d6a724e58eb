//! Snapshots of a running VM, memory and disk, and going back to one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use terraphim_vm::Snapshot;

use super::{Api, auth::User, body::Body, calls::time_text, error::ApiError, vms};

/// A name is for people; it has to fit into a line.
const LONGEST_NAME: usize = 200;

/// The request.
#[derive(Debug, Deserialize)]
pub(super) struct NewSnapshot {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

pub(super) async fn take(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
    Body(new): Body<NewSnapshot>,
) -> Result<Json<Value>, ApiError> {
    if new.name.trim().is_empty() || new.name.len() > LONGEST_NAME {
        return Err(ApiError::bad_request(format!("name: use 1 to {LONGEST_NAME} bytes")));
    }
    let vm = vms::running(&api.host, &user, &id)?;
    let snapshot = api.host.client(&vm)?.snapshot(&new.name, new.description.as_deref()).await?;
    tracing::info!(vm.id = %vm, snapshot.id, "snapshot taken");
    Ok(Json(describe(&snapshot)))
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let vm = vms::running(&api.host, &user, &id)?;
    let all = api.host.client(&vm)?.snapshots().await?;
    let snapshots: Vec<Value> = all.iter().map(describe).collect();
    Ok(Json(json!({"vm_id": vm, "total": snapshots.len(), "snapshots": snapshots})))
}

pub(super) async fn roll_back(
    State(api): State<Arc<Api>>,
    user: User,
    Path((id, snapshot)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let vm = vms::running(&api.host, &user, &id)?;
    let snapshot = api.host.client(&vm)?.rollback(&snapshot).await?;
    tracing::info!(vm.id = %vm, snapshot.id, "rolled back");
    let message = format!("VM {vm} is as it was at snapshot `{}`", snapshot.name);
    Ok(Json(json!({"message": message, "vm_id": vm, "snapshot_id": snapshot.id})))
}

fn describe(snapshot: &Snapshot) -> Value {
    json!({
        "snapshot_id": snapshot.id,
        "name": snapshot.name,
        "description": snapshot.description,
        "created_at": time_text(snapshot.created_at_ms),
    })
}
