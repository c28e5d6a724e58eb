//! The router, and the server on a Unix socket.

use std::{
    convert::Infallible,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path as UrlPath, RawQuery, Request, State as Shared},
    http::HeaderMap,
    middleware::{Next, from_fn},
    response::Response,
    routing::{any, get, patch, post, put},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{net::UnixListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::{
    artifact_calls, blob, cache_calls,
    call::{Caller, caller},
    error::ServiceError,
    oidc,
    state::State,
    token::{self, Use},
};

/// A connection on which no request comes for this long is closed: it holds one of the few that a guest may have open.
const IDLE: Duration = Duration::from_secs(30);
/// The longest audience that is signed.
const AUDIENCE_LIMIT: usize = 1024;

/// A running server. Dropping it ends it and removes its socket.
pub(super) struct Server {
    socket: PathBuf,
    _loop: AbortOnDropHandle<()>,
}

impl Server {
    /// Listens on a socket in `runtime`, which only this user can reach.
    pub(super) fn start(runtime: &Path, state: Arc<State>) -> io::Result<Server> {
        super::entry::make_directory(runtime)?;
        remove_abandoned(runtime)?;
        let socket = runtime.join(format!("{SOCKET}{}", uuid::Uuid::new_v4().simple()));
        let listener = UnixListener::bind(&socket)?;
        // From here on dropping removes the socket.
        let server = |handle| Server { socket: socket.clone(), _loop: AbortOnDropHandle::new(handle) };
        let server = server(tokio::spawn(accept_all(listener, router(state))));
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        Ok(server)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::warn!("cannot remove {}: {error}", self.socket.display());
        }
    }
}

/// What the names of the sockets begin with.
const SOCKET: &str = "services-";

/// Removes the sockets of servers that were killed: nobody listens there.
fn remove_abandoned(runtime: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(runtime)?.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(SOCKET.as_bytes()) {
            continue;
        }
        match std::os::unix::net::UnixStream::connect(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Another server may be as quick.
                let _ = std::fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
    Ok(())
}

async fn accept_all(listener: UnixListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!("services for jobs: cannot accept connections any more: {error}");
                return;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(IDLE);
            // A client that goes away is no fault of ours.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// All calls.
pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/twirp/{service}/{method}", post(twirp))
        .route("/blobs/uploads/{id}", put(blob::put))
        .route("/blobs/{kind}/{group}/{entry}", get(blob::get))
        .route("/_apis/artifactcache/cache", get(cache_calls::find_v1))
        .route("/_apis/artifactcache/caches", post(cache_calls::create_v1))
        .route(
            "/_apis/artifactcache/caches/{number}",
            patch(cache_calls::upload_v1).post(cache_calls::commit_v1),
        )
        .route("/oidc/token", get(id_token))
        .route("/.well-known/openid-configuration", get(openid_configuration))
        .route("/.well-known/jwks", get(key_set))
        .fallback(any(missing))
        .method_not_allowed_fallback(missing)
        // Bodies are limited where they are read: some are large and go to a file.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(note))
        .with_state(state)
}

async fn twirp(
    Shared(state): Shared<Arc<State>>,
    Caller(job): Caller,
    UrlPath((service, method)): UrlPath<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ServiceError> {
    match service.as_str() {
        "github.actions.results.api.v1.ArtifactService" => {
            artifact_calls::call(&state, &job, &method, body).await
        }
        "github.actions.results.api.v1.CacheService" => cache_calls::call(&state, &job, &method, body).await,
        _ => Err(ServiceError::NoRoute(format!("{service}/{method}"))),
    }
}

async fn missing(request: Request) -> ServiceError {
    ServiceError::NoRoute(format!("{} {}", request.method(), request.uri().path()))
}

/// Paths only: addresses and headers hold what lets in.
async fn note(request: Request, next: Next) -> Result<Response, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    tracing::debug!(status = response.status().as_u16(), "services for jobs: {method} {path}");
    Ok(response)
}

/// `GET /oidc/token?audience=...`
async fn id_token(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ServiceError> {
    let job = caller(&state, &headers, Use::IdToken)?;
    if !job.identity.may_request_id_token {
        return Err(ServiceError::Denied("permissions: this job has no `id-token: write`".to_owned()));
    }
    let audience = audience(&query.unwrap_or_default())?;
    let audience = audience.unwrap_or_else(|| oidc::default_audience(&job.identity));
    let issuer = state.settings.issuer.clone().unwrap_or_else(|| job.origin.clone());
    let key = state.issuer_key().map_err(|error| {
        tracing::error!("{}", crate::failure::chain(&error));
        ServiceError::io("use the key of", Path::new("the issuer"))(io::Error::other("see the log of tci"))
    })?;
    Ok(Json(json!({"value": key.token(&issuer, &audience, &job.identity, token::now())})))
}

/// The audience that is asked for, if any.
fn audience(query: &str) -> Result<Option<String>, ServiceError> {
    let bad = |why: &str| ServiceError::invalid(format!("audience: {why}"));
    let pairs: Vec<(String, String)> =
        axum::extract::Query::try_from_uri(&format!("/?{query}").parse().map_err(|_| bad("not an address"))?)
            .map_err(|_| bad("cannot be understood"))?
            .0;
    let found = pairs.into_iter().find(|(name, _)| name == "audience").map(|(_, value)| value);
    match found {
        Some(value) if value.len() > AUDIENCE_LIMIT => Err(bad("too long")),
        found => Ok(found.filter(|value| !value.is_empty())),
    }
}

/// Anybody may ask. Without an issuer's public address in the configuration, the guest's own is the issuer.
async fn openid_configuration(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
) -> Result<Json<Value>, ServiceError> {
    let host = headers.get(axum::http::header::HOST).and_then(|host| host.to_str().ok());
    let issuer = match (&state.settings.issuer, host.and_then(super::guest_origin)) {
        (Some(issuer), _) => issuer.clone(),
        (None, Some(origin)) => origin,
        (None, None) => {
            return Err(ServiceError::NoRoute("GET /.well-known/openid-configuration".to_owned()));
        }
    };
    Ok(Json(oidc::configuration(&issuer)))
}

async fn key_set(Shared(state): Shared<Arc<State>>) -> Result<Json<Value>, ServiceError> {
    let key = state.issuer_key().map_err(|error| {
        tracing::error!("{}", crate::failure::chain(&error));
        ServiceError::io("use the key of", Path::new("the issuer"))(io::Error::other("see the log of tci"))
    })?;
    Ok(Json(key.key_set()))
}
