//! What a call ends in when it does not succeed: a status and `{"code": "...", "msg": "..."}`, in the words of Twirp.
//!
//! Clients repeat a call five times when the answer is no JSON, so nothing here is ever answered otherwise.

use std::{io, path::Path};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use thiserror::Error;

/// A refusal or a fault.
#[derive(Debug, Error)]
pub(super) enum ServiceError {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The token is missing, wrong, out of time, or its job has ended.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The job may not do this.
    #[error("{0}")]
    Denied(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// It is larger than what is taken.
    #[error("{0}")]
    TooLarge(String),
    /// The client stopped sending.
    #[error("nothing came for {0} s")]
    Stalled(u64),
    /// There is no such call.
    #[error("there is no call `{0}`")]
    NoRoute(String),
    /// A file of ours cannot be used.
    #[error("cannot {operation} {path}")]
    Io {
        /// A verb.
        operation: &'static str,
        /// Its object.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ServiceError {
    pub(super) fn invalid(message: impl Into<String>) -> ServiceError {
        ServiceError::Invalid(message.into())
    }

    /// For `map_err`: names the file operation that failed.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServiceError {
        let path = path.display().to_string();
        move |source| ServiceError::Io { operation, path, source }
    }

    /// The status and the word for it (twitchtv.github.io/twirp, "Errors").
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            ServiceError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_argument"),
            ServiceError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            ServiceError::Denied(_) => (StatusCode::FORBIDDEN, "permission_denied"),
            ServiceError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            ServiceError::Exists(_) => (StatusCode::CONFLICT, "already_exists"),
            ServiceError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "resource_exhausted"),
            ServiceError::Stalled(_) => (StatusCode::REQUEST_TIMEOUT, "deadline_exceeded"),
            ServiceError::NoRoute(_) => (StatusCode::NOT_FOUND, "bad_route"),
            ServiceError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        if let ServiceError::Io { source, .. } = &self {
            tracing::error!("services for jobs: {self}: {source}");
        }
        // Paths of the host are nothing that a guest needs to know.
        let message = match &self {
            ServiceError::Io { operation, source, .. } => {
                format!("the server cannot {operation} a file: {source}")
            }
            error => error.to_string(),
        };
        (status, Json(json!({"code": code, "msg": message}))).into_response()
    }
}
