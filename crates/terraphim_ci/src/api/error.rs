//! What a call ends in when it does not succeed: a status and `{"error": "..."}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use terraphim_vm::{VmError, image::ImageError, registry::RegistryError};

use crate::failure::chain;

/// A refusal or a fault.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, message)
    }

    /// The host failed: nothing is known about what was asked for.
    pub(crate) fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A file of ours cannot be used.
    pub(crate) fn io(operation: &str, path: &std::path::Path, error: &std::io::Error) -> ApiError {
        ApiError::unavailable(format!("cannot {operation} {}: {error}", path.display()))
    }
}

impl From<VmError> for ApiError {
    fn from(error: VmError) -> ApiError {
        let status = match &error {
            VmError::NotFound(_) | VmError::NoSnapshot(_) | VmError::NoExecution { .. } => {
                StatusCode::NOT_FOUND
            }
            VmError::Offset { .. } => {
                let remedy = "take the `offset` of a line of the stream, or 0 for all of it";
                return ApiError::bad_request(format!("{error}: {remedy}"));
            }
            VmError::Invalid(_) | VmError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            VmError::WrongState { .. }
            | VmError::Registry(RegistryError::NameTaken(_) | RegistryError::Superseded(_)) => {
                StatusCode::CONFLICT
            }
            VmError::Image(ImageError::NotFound(_)) => StatusCode::SERVICE_UNAVAILABLE,
            VmError::Refused { status, .. } => match StatusCode::from_u16(*status) {
                Ok(known @ (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::CONFLICT)) => known,
                // A tar stream that the guest cannot unpack.
                Ok(StatusCode::UNPROCESSABLE_ENTITY) => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            },
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        ApiError::new(status, chain(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), "{}", self.message);
        }
        let mut response = (self.status, Json(json!({"error": self.message}))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
