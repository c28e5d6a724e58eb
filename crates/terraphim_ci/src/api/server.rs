//! The router, and the server's life.

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{
    Api,
    calls::{now_ms, time_text},
    connections::Connections,
    error::ApiError,
    execute, files, history, issuer, openapi, resume, snapshots, stall, stream, vms,
};
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    output,
    signals::Interrupts,
};

/// The largest body: a script and its frame.
const BODY_LIMIT: usize = 1 << 20;
/// How long answers that are under way may take to leave. Commands that run longer are taken up by the next server.
const FAREWELL: Duration = Duration::from_secs(5);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves until it is told to end.
pub(crate) async fn serve(
    api: Arc<Api>,
    address: SocketAddr,
    port_file: Option<&Path>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen().context("cannot listen for signals")?;
    let listener = TcpListener::bind(address).await;
    let in_use = matches!(&listener, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse);
    let listener = listener.context(format!("cannot listen on {address}")).map_err(|failure| {
        let remedy = "another program listens there; choose another port with `--listen`";
        if in_use { failure.hint(remedy) } else { failure }
    })?;
    let address = listener.local_addr().context("cannot tell the address of the server")?;
    api.host.reconcile()?;
    let resumed = resume::resume(&api).map_err(|error| Failure::fault(error.message))?;
    if resumed > 0 {
        output::note(&format!("{resumed} commands of an earlier server still run and are followed"));
    }
    output::data(&format!("listening on http://{address}\n"))?;
    if let Some(path) = port_file {
        std::fs::write(path, format!("http://{address}\n"))
            .map_err(|error| Failure::io("write", path, error))?;
    }
    let head_limit = api.settings.client_timeout();
    let connections = Connections::new(router(Arc::clone(&api)), head_limit, api.leaving.clone());
    tokio::select! {
        () = connections.accept_all(listener) => {}
        () = interrupts.next() => {}
    }
    api.leaving.cancel();
    output::note("leaving: VMs and their commands go on");
    leave(&connections).await;
    Ok(Exit::Success)
}

/// Waits for requests that are in progress, and for nothing else.
async fn leave(connections: &Connections) {
    match connections.busy() {
        0 => {}
        busy => output::note(&format!("waiting up to {FAREWELL:?} for requests in progress: {busy}")),
    }
    match connections.farewell(FAREWELL).await {
        0 => {}
        busy => output::note(&format!(
            "requests without an answer: {busy}; if they run commands, the next server takes those up"
        )),
    }
}

/// All calls.
fn router(api: Arc<Api>) -> Router {
    let body_limit = api.settings.client_timeout();
    Router::new()
        .route("/health", get(health))
        .route("/openapi.json", get(document))
        .route("/.well-known/openid-configuration", get(issuer::configuration))
        .route("/.well-known/jwks", get(issuer::keys))
        .route("/api/vms", get(vms::list).post(vms::create))
        .route("/api/vms/{id}", get(vms::get).delete(vms::delete))
        .route("/api/vms/{id}/start", post(vms::start))
        .route("/api/vms/{id}/stop", post(vms::stop))
        .route("/api/llm/execute", post(execute::execute))
        .route("/api/vms/{id}/snapshots", get(snapshots::list).post(snapshots::take))
        .route("/api/vms/{id}/rollback/{snapshot_id}", post(snapshots::roll_back))
        .route("/api/vms/{id}/history", get(history::list))
        .route("/api/vms/{id}/executions/{execution_id}", get(history::get))
        .route("/api/vms/{id}/executions/{execution_id}/cancel", post(history::cancel))
        .route("/api/vms/{id}/executions/{execution_id}/stream", get(stream::stream))
        .route("/api/vms/{id}/files", get(files::get).put(files::put).layer(DefaultBodyLimit::disable()))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(body_limit, stall::refuse))
        .layer(from_fn(identify))
        .with_state(api)
}

async fn health() -> Json<Value> {
    Json(json!({"service": "tci", "status": "healthy", "timestamp": time_text(now_ms())}))
}

async fn document() -> Json<Value> {
    Json(openapi::document())
}

async fn missing(request: Request) -> ApiError {
    ApiError::not_found(format!("there is no call `{} {}`", request.method(), request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    ApiError::new(status, format!("`{}` cannot be {}", request.uri().path(), request.method()))
}

/// Every answer names its request: the client's own id where it is harmless, else a new one.
async fn identify(request: Request, next: Next) -> Result<Response, Infallible> {
    let is_harmless = |id: &&HeaderValue| {
        id.len() <= 64 && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(is_harmless)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is ASCII"));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    tracing::info!(request.id = ?id, status = response.status().as_u16(), "{method} {path}");
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response)
}
