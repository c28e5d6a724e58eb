//! The output of an execution as it comes, one JSON object a line.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use terraphim_vm::{Exec, ExecEvent};

use super::{Api, auth::User, body::Params, calls::Call, error::ApiError, execute::exit_of, vms};
use crate::exec_line;

/// `?offset=N`: continues behind the line that said this `offset`.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    offset: Option<u64>,
}

pub(super) async fn stream(
    State(api): State<Arc<Api>>,
    user: User,
    Path((id, execution)): Path<(String, String)>,
    Params(from): Params<From>,
) -> Result<Response, ApiError> {
    let vm = vms::running(&api.host, &user, &id)?;
    let call = Call::load(api.host.paths(), &vm, &execution)?;
    // Not before it is settled which shell the guest has.
    api.running.begun(&vm, &call.execution_id).await;
    let call = Call::load(api.host.paths(), &vm, &call.execution_id)?;
    let exec = api.host.client(&vm)?.attach(&call.exec, from.offset.unwrap_or(0)).await?;
    let lines = futures_util::stream::unfold(Some((exec, api, vm, call)), |all| async move {
        let (mut exec, api, vm, call) = all?;
        // Why it was stopped, if it was, is noted before it gets its signal.
        let now = || Call::load(api.host.paths(), &vm, &call.execution_id).unwrap_or_else(|_| call.clone());
        let (line, is_last) = next_line(&mut exec, now).await?;
        Some((Ok::<_, std::convert::Infallible>(line), (!is_last).then_some((exec, api, vm, call))))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The next line, and whether it is the last, which says the same as the call does `now`.
async fn next_line(exec: &mut Exec, now: impl Fn() -> Call) -> Option<(Bytes, bool)> {
    loop {
        let event = match exec.next().await {
            Ok(event) => event?,
            Err(error) => return Some((line(json!({"lost": error.to_string()})), true)),
        };
        let Some(mut value) = exec_line::of(&event, exec.offset()) else { continue };
        if let ExecEvent::Exited(exited) = &event {
            let (code, error) = exit_of(&now(), exited.status);
            value["exit_code"] = json!(code);
            if let Some(error) = error {
                value["error"] = json!(error);
            }
        }
        return Some((line(value), event.is_last()));
    }
}

fn line(value: Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}
