//! What whoever verifies identity tokens fetches. It is public, so these two calls need no token.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::Value;

use super::{Api, error::ApiError};
use crate::{failure::chain, services};

/// `GET /.well-known/openid-configuration`
pub(super) async fn configuration(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    Ok(Json(services::configuration(issuer(&api)?)))
}

/// `GET /.well-known/jwks`
pub(super) async fn keys(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    issuer(&api)?;
    let key = services::IssuerKey::load(&services::directory(api.host.paths().data()));
    Ok(Json(key.map_err(|error| ApiError::unavailable(chain(&error)))?.key_set()))
}

fn issuer(api: &Api) -> Result<&str, ApiError> {
    let missing =
        "this host issues no identity tokens for others: its configuration has no `services.issuer`";
    api.config.services.issuer.as_deref().ok_or_else(|| ApiError::not_found(missing))
}
