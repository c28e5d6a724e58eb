//! One call: a connection to itself, a request, its answer, and noticing a supervisor that is silent.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::VmClient;
use crate::VmError;

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// What a supervisor may take to give a sign of life, when asked for one: it has a thread for nothing else, so this is only for
/// hosts that are very busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a supervisor. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: http1::SendRequest<Body>,
    _task: AbortOnDropHandle<()>,
}

/// Where a connection waits for the next call, with what is still to be read of the answer before: to make and to close one
/// is a dozen system calls of both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<Option<(Connection, Incoming)>>>);

impl Idle {
    /// Held for an exchange of values only.
    fn replace(&self, waiting: Option<(Connection, Incoming)>) -> Option<(Connection, Incoming)> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), waiting)
    }

    /// The connection, unless the supervisor has closed it meanwhile. A body whose end nobody waited for closes the
    /// connection when it is dropped, so it is read here: by now the end has long come.
    async fn take(&self) -> Option<Connection> {
        let (mut connection, mut body) = self.replace(None)?;
        while let Some(frame) = body.frame().await {
            frame.ok()?;
        }
        connection.sender.ready().await.ok()?;
        Some(connection)
    }
}

/// An answer whose body is still to be read. Dropping it closes its connection.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    idle: Idle,
}

impl Answer {
    /// All that mattered of the body was read, and its end follows at once: the connection may serve another call.
    pub(crate) fn done(self) {
        self.idle.replace(Some((self.connection, self.response.into_body())));
    }
}

impl VmClient {
    /// Asks the supervisor for a sign of life.
    ///
    /// # Errors
    /// It cannot be reached, or gives none within ten seconds.
    pub async fn ping(&self) -> Result<(), VmError> {
        let ping = self.transmit("ping", Method::GET, "/v1/ping", &[], empty());
        timeout(PATIENCE, ping).await.unwrap_or_else(|_| Err(self.silent(PATIENCE))).map(drop)
    }

    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T, VmError> {
        let mut answer = self.send(call, method, path, body).await?;
        let body = answer.response.body_mut().collect().await.map_err(|error| self.broken(call, error))?;
        answer.done();
        serde_json::from_slice(&body.to_bytes()).map_err(|error| self.broken(call, error))
    }

    pub(super) async fn send(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Answer, VmError> {
        self.send_with(call, method, path, &[], body).await
    }

    /// A call may take its time, as long as the supervisor lives.
    pub(super) async fn send_with(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Answer, VmError> {
        tokio::select! {
            answer = self.transmit(call, method, path, headers, body) => answer,
            silent = self.until_silent() => Err(silent),
        }
    }

    /// Returns when the supervisor gives no sign of life any more. Nothing tells of a process that is stopped, or hangs: it has to
    /// be asked.
    async fn until_silent(&self) -> VmError {
        loop {
            sleep(PATIENCE).await;
            if let Err(VmError::Silent { .. }) = self.ping().await {
                return self.silent(2 * PATIENCE);
            }
        }
    }

    fn silent(&self, duration: Duration) -> VmError {
        VmError::Silent { id: self.id.clone(), seconds: duration.as_secs() }
    }

    async fn transmit(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Answer, VmError> {
        let request = Request::builder().method(method).uri(path).header(http::header::HOST, "vm");
        let mut request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(body)
            .map_err(|error| self.broken(call, error))?;
        let mut waiting = self.idle.take().await;
        let (response, connection) = loop {
            let (mut connection, is_new) = match waiting.take() {
                Some(connection) => (connection, false),
                None => (self.connect(call).await?, true),
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => break (response, connection),
                Err(mut refused) => match refused.take_message() {
                    // It was closed as it was taken up; nothing was sent.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(self.broken(call, refused.into_error())),
                },
            }
        };
        if response.status() == StatusCode::OK {
            return Ok(Answer { response, connection, idle: self.idle.clone() });
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| self.broken(call, error))?.to_bytes();
        let text = serde_json::from_slice::<Value>(&body).ok();
        let message = text.as_ref().and_then(|value| value["error"].as_str()).unwrap_or("no reason given");
        Err(VmError::Refused { status, message: message.to_owned() })
    }

    async fn connect(&self, call: &'static str) -> Result<Connection, VmError> {
        let unreachable =
            |source| VmError::Unreachable { id: self.id.clone(), socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let shaken = http1::Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.broken(call, error))?;
        let task = tokio::spawn(async move {
            // Its error reaches whoever reads the answer.
            let _ = connection.await;
        });
        Ok(Connection { sender, _task: AbortOnDropHandle::new(task) })
    }

    pub(crate) fn broken(
        &self,
        call: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> VmError {
        VmError::Broken { id: self.id.clone(), call, source: source.into() }
    }
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn full(value: &impl Serialize) -> Body {
    let text = serde_json::to_vec(value).expect("plain data is JSON");
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}
