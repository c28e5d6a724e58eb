//! Bodies of requests that do not go on: a client that has promised one and sends nothing would hold a call for ever.
//!
//! What counts is the time in which we wait for the client. A body that nobody reads, because the guest is slow to take it, is
//! not late.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// Answers 408 and closes the connection when nothing comes of a request's body for `limit`. The call is given up, as when its
/// client goes away.
pub(super) async fn refuse(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let stalled = CancellationToken::new();
    let told = stalled.clone();
    let request = request.map(|body| Body::new(Watched { body, limit, waiting: None, stalled: told }));
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = stalled.cancelled() => {
            let message = format!(
                "nothing of the request's body came for {limit:?}: call again, and send as much as \
                 `Content-Length` says"
            );
            let mut response = ApiError::new(StatusCode::REQUEST_TIMEOUT, message).into_response();
            // The rest of the body may still come, and is no request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// A body that says when it does not go on.
struct Watched {
    body: Body,
    limit: Duration,
    /// There while somebody waits for the client.
    waiting: Option<Pin<Box<Sleep>>>,
    stalled: CancellationToken,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(ctx);
        if frame.is_ready() {
            this.waiting = None;
            return frame;
        }
        let limit = this.limit;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waiting.as_mut().poll(ctx).is_ready() {
            // Whoever reads is dropped now.
            this.stalled.cancel();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Router, body::to_bytes, middleware::from_fn_with_state, routing::post};
    use futures_util::StreamExt as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    /// Calls with a body of pieces, each so many milliseconds after the one before it.
    async fn call(path: &str, pauses: &'static [u64]) -> (Response, String) {
        let read = |request: Request| async { to_bytes(request.into_body(), 1 << 20).await.unwrap().len() };
        let router = Router::new()
            .route("/", post(move |request: Request| async move { read(request).await.to_string() }))
            .route(
                "/late",
                post(move |request: Request| async move {
                    sleep(LIMIT + LIMIT / 2).await;
                    read(request).await.to_string()
                }),
            )
            .layer(from_fn_with_state(LIMIT, refuse));
        let pieces = futures_util::stream::iter(pauses).then(|pause| async move {
            sleep(Duration::from_millis(*pause)).await;
            Ok::<_, Infallible>(Bytes::from_static(b"piece"))
        });
        let request = axum::http::Request::post(path).body(Body::from_stream(pieces)).unwrap();
        let mut response = TowerToHyperService::new(router).call(request).await.unwrap();
        let body = std::mem::take(response.body_mut());
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (response, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_body_that_goes_on_may_take_long() {
        let (response, body) = call("/", &[0, 400, 400, 400, 400]).await;
        assert_eq!((response.status().as_u16(), body.as_str()), (200, "25"));
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_is_not_late() {
        let (response, body) = call("/late", &[0, 0]).await;
        assert_eq!((response.status().as_u16(), body.as_str()), (200, "10"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_go_on_is_refused_and_its_connection_closed() {
        let (response, body) = call("/", &[0, 3_600_000]).await;
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(body["error"].as_str().unwrap().contains("came for 1s"), "{body}");
    }
}
