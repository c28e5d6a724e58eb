//! One JSON exchange.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub(crate) use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::error::HttpError;
use super::token::Token;
use super::words;
use crate::error::BoxError;

/// A host that is up answers a connection attempt in far less, also across an ocean.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Longer answers are a fault of the service. A command's whole output is in one answer of the VM host API.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;

/// How much of a service's own words goes into an error.
const MESSAGE_LIMIT_CHARS: usize = 300;

/// A service at one address.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    base: String,
    token: Option<Token>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below the service's address; starts with `/`.
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a Value>,
    /// From the start of the connection to the last byte of the answer.
    pub(crate) limit: Duration,
}

impl HttpClient {
    /// A client for the service at `base` (`http://host:port` or `https://host/prefix`).
    ///
    /// A bad address shows at the first call, so that clients can be made without a way to fail.
    pub(crate) fn new(base: impl Into<String>, token: Option<Token>) -> Self {
        let mut base = base.into();
        base.truncate(base.trim_end_matches('/').len());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector(base.starts_with("https:")));
        HttpClient { base, token, client }
    }

    /// A client that opens a connection per call: it works from one runtime as from another.
    pub(crate) fn unpooled(base: impl Into<String>, token: Option<Token>) -> Self {
        let mut this = HttpClient::new(base, token);
        this.client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector(this.base.starts_with("https:")));
        this
    }

    /// The address, for messages.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Makes one call and returns the JSON of its answer; `null` when the answer is empty.
    pub(crate) async fn json(&self, call: &Call<'_>) -> Result<Value, HttpError> {
        let url = format!("{}{}", self.base, call.path);
        let request = self.request(call, &url)?;
        match tokio::time::timeout(call.limit, self.exchange(request, &url)).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TimedOut { url, after: call.limit }),
        }
    }

    pub(super) fn request(&self, call: &Call<'_>, url: &str) -> Result<Request<Full<Bytes>>, HttpError> {
        let bad = |source: BoxError| HttpError::Address { url: url.to_owned(), source };
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| bad(e.into()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(bad("it must start with http:// or https:// and a host".into()));
        }
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("terraphim-ci/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut value = value.map_err(|_| HttpError::Token { url: url.to_owned() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = match call.body {
            Some(json) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|e| bad(e.into()))
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        url: &str,
    ) -> Result<Response<Incoming>, HttpError> {
        self.client.request(request).await.map_err(|e| {
            if e.is_connect() {
                HttpError::Connect { url: url.to_owned(), source: e.into() }
            } else {
                HttpError::Broken { url: url.to_owned(), source: e.into() }
            }
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, url: &str) -> Result<Value, HttpError> {
        let response = self.send(request, url).await?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = read(response, url).await?;
        if !status.is_success() {
            let message = message(&body);
            return Err(HttpError::Status { url: url.to_owned(), status, message, retry_after });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|e| HttpError::Malformed { url: url.to_owned(), source: e.into() })
    }
}

/// Speaks TLS only to services that are addressed so; the certificates are read only for them.
fn connector(is_tls: bool) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3");
    // The system's own certificates, so that a company's authority counts. On a system without any, every
    // HTTPS call fails with an unknown issuer.
    let system = is_tls.then(|| tls.clone().with_native_roots().ok()).flatten();
    let tls = system.unwrap_or_else(|| tls.with_root_certificates(RootCertStore::empty()));
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

async fn read(response: Response<Incoming>, url: &str) -> Result<Bytes, HttpError> {
    match Limited::new(response.into_body(), ANSWER_LIMIT_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => {
            Err(HttpError::TooLong { url: url.to_owned(), limit_bytes: ANSWER_LIMIT_BYTES })
        }
        Err(source) => Err(HttpError::Broken { url: url.to_owned(), source }),
    }
}

/// `Retry-After` in its form of seconds; the form of a date is rare and ignored.
pub(super) fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The words of an error answer: the `error` (or `error.message`) of a JSON object, otherwise the text itself.
pub(super) fn message(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let words = json.as_ref().and_then(words::of_error);
    let text = words.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let clean = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if clean.is_empty() {
        return "no explanation".to_owned();
    }
    clean.chars().take(MESSAGE_LIMIT_CHARS).collect()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
