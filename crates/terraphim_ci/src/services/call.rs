//! Reading calls: who it is, and the message.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    error::ServiceError,
    state::{OpenJob, State},
    token::Use,
};

/// The largest message; keys and names are far shorter.
const MESSAGE_LIMIT: usize = 1 << 20;

/// The job that calls, by its token.
pub(super) struct Caller(pub(super) Arc<OpenJob>);

impl FromRequestParts<Arc<State>> for Caller {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Caller, ServiceError> {
        caller(state, &parts.headers, Use::Results).map(Caller)
    }
}

/// The open job whose token for `purpose` is in the headers.
pub(super) fn caller(state: &State, headers: &HeaderMap, purpose: Use) -> Result<Arc<OpenJob>, ServiceError> {
    let missing = ServiceError::Unauthenticated("no token: `Authorization: Bearer ...` is expected");
    let header = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let (scheme, token) = header.and_then(|header| header.trim().split_once(' ')).ok_or(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ServiceError::Unauthenticated("the token must be of the kind `Bearer`"));
    }
    let ids = state.keys.verify(purpose, token.trim())?;
    let job = state.job(&ids.job)?;
    if job.ids != ids {
        return Err(ServiceError::Unauthenticated("the token is for another run"));
    }
    Ok(job)
}

/// The message in a body.
pub(super) async fn message<T: DeserializeOwned>(body: Body) -> Result<T, ServiceError> {
    let text = text(body, MESSAGE_LIMIT).await?;
    serde_json::from_slice(&text)
        .map_err(|error| ServiceError::invalid(format!("the message cannot be understood: {error}")))
}

/// A whole body of at most `limit` bytes.
pub(super) async fn text(body: Body, limit: usize) -> Result<bytes::Bytes, ServiceError> {
    use std::error::Error as _;
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large {
            ServiceError::TooLarge(format!("the message has more than {limit} bytes"))
        } else {
            ServiceError::invalid(format!("the body broke off: {error}"))
        }
    })
}

/// A 64-bit number, which proto3's JSON writes as a text.
pub(super) fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Number(u64),
    }
    match Number::deserialize(deserializer)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => {
            text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not a number of bytes")))
        }
    }
}
