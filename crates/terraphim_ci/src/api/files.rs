//! Files into and out of a VM, as tar streams.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{Api, auth::User, body::Params, error::ApiError, vms};

/// `?path=/absolute&owner=user`.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    path: String,
    #[serde(default)]
    owner: Option<String>,
}

impl Place {
    fn checked(self) -> Result<Place, ApiError> {
        if self.path.starts_with('/') && !self.path.contains('\0') {
            Ok(self)
        } else {
            Err(ApiError::bad_request("path: an absolute path is expected"))
        }
    }
}

/// Unpacks the body below a directory.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
    Params(place): Params<Place>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let place = place.checked()?;
    let vm = vms::running(&api.host, &user, &id)?;
    let body = request.into_body().into_data_stream().map_err(io::Error::other);
    let tar = Shared(Mutex::new(StreamReader::new(body)));
    api.host.client(&vm)?.upload(&place.path, place.owner.as_deref(), tar).await?;
    Ok(Json(json!({"message": "unpacked", "vm_id": vm})))
}

/// Packs a path.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    user: User,
    Path(id): Path<String>,
    Params(place): Params<Place>,
) -> Result<Response, ApiError> {
    let place = place.checked()?;
    let vm = vms::running(&api.host, &user, &id)?;
    let tar = ReaderStream::new(api.host.client(&vm)?.download(&place.path).await?);
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(tar)).into_response())
}

/// The body of a request may be used by one thread at a time, and is: the lock is never waited for.
struct Shared<R>(Mutex<R>);

impl<R: AsyncRead + Unpin> AsyncRead for Shared<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let reader = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(reader).poll_read(ctx, buffer)
    }
}
