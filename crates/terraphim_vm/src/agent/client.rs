//! The calls.

use std::{future::poll_fn, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::watch,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    AgentConnection, AgentError, AgentExec, AgentForward, AgentInput,
    exec::{Sender, send},
};
use crate::protocol::{
    GENERATION, call,
    handshake::{HELLO, READY, Scanner, message},
    message::{AgentInfo, Configure, Ended, ExecRequest, Forward, ForwardAccepted, Shutdown, View},
};

/// What one stream may have under way: bulk output is limited by the guest, not by waiting for us.
const STREAM_WINDOW: u32 = 4 << 20;
/// What all streams may have under way together: never the limit, so that no number of stalled ones stops another. What
/// is held is at most [`STREAM_WINDOW`] for each call that this side made.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Large frames cost the emulated guest less.
const FRAME_SIZE: u32 = 1 << 20;
/// Calls that only make a system call or two; a guest with every core busy needs a fraction of this.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A connection to an agent. Clones share it; any number of calls may be under way.
#[derive(Clone)]
pub struct AgentClient {
    requests: SendRequest<Bytes>,
    /// Moves the connection's bytes; ends with the last clone.
    connection: Arc<AbortOnDropHandle<()>>,
    /// Closed when the connection has let go of the stream.
    released: watch::Receiver<()>,
}

impl std::fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentClient")
    }
}

impl AgentClient {
    /// Shakes hands as soon as the guest is up, for at most `limit`. Needs a tokio runtime, of any kind.
    ///
    /// # Errors
    /// The agent is silent or of another generation, or the connection ends.
    pub async fn connect(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        limit: Duration,
    ) -> Result<AgentClient, AgentError> {
        let stream = timeout(limit, shake_hands(stream)).await.map_err(|_| AgentError::Silent(limit))??;
        AgentClient::over(stream).await
    }

    /// Shakes hands with a guest whose memory was replaced (a snapshot was loaded): it is in the middle of a connection
    /// of which this side knows nothing.
    ///
    /// # Errors
    /// As [`AgentClient::connect`].
    pub async fn reconnect(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        limit: Duration,
    ) -> Result<AgentClient, AgentError> {
        let stream = timeout(limit, interrupt(stream)).await.map_err(|_| AgentError::Silent(limit))??;
        AgentClient::over(stream).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<AgentClient, AgentError> {
        let broken = |source| AgentError::Broken { call: "connect", source };
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .handshake(stream)
            .await
            .map_err(broken)?;
        let (holding, released) = watch::channel(());
        let connection = tokio::spawn(async move {
            let _holding = holding;
            // Its error reaches every call that is under way.
            let _ = connection.await;
        });
        let connection = Arc::new(AbortOnDropHandle::new(connection));
        Ok(AgentClient { requests, connection, released })
    }

    /// Ends the connection for all clones; returns when nothing reads the stream any more.
    pub async fn close(&self) {
        self.connection.abort();
        // Nothing is ever sent: the only news is that the sender is gone.
        while self.released.clone().changed().await.is_ok() {}
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// The agent does not answer.
    pub async fn ping(&self) -> Result<(), AgentError> {
        self.short("ping", Method::GET, call::PING, None).await.map(drop)
    }

    /// What the agent says about itself.
    ///
    /// # Errors
    /// The agent does not answer.
    pub async fn info(&self) -> Result<AgentInfo, AgentError> {
        let body = self.short("info", Method::GET, call::INFO, None).await?;
        parse("info", &body)
    }

    /// Tells the guest what only the host knows.
    ///
    /// # Errors
    /// The guest cannot apply it.
    pub async fn configure(&self, settings: &Configure) -> Result<(), AgentError> {
        self.short("configure", Method::POST, call::CONFIGURE, Some(json(settings))).await.map(drop)
    }

    /// Makes a view.
    ///
    /// # Errors
    /// A mount of it fails, or its name is taken.
    pub async fn create_view(&self, view: &View) -> Result<(), AgentError> {
        self.short("create view", Method::POST, call::VIEWS, Some(json(view))).await.map(drop)
    }

    /// Removes a view.
    ///
    /// # Errors
    /// There is no such view.
    pub async fn remove_view(&self, name: &str) -> Result<(), AgentError> {
        let path = format!("{}/{name}", call::VIEWS);
        self.short("remove view", Method::DELETE, &path, None).await.map(drop)
    }

    /// Kills what executions have left running under a name, see [`ExecRequest::keep_left`].
    ///
    /// # Errors
    /// The agent does not answer.
    pub async fn end_left(&self, name: &str) -> Result<Ended, AgentError> {
        let path = format!("{}/{name}", call::LEFT);
        let body = self.short("end processes", Method::DELETE, &path, None).await?;
        parse("end processes", &body)
    }

    /// Ends the guest; its processes get `grace` between `SIGTERM` and `SIGKILL`. An answer may never come.
    ///
    /// # Errors
    /// The connection breaks before the answer, which is also how success can look.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), AgentError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let body = json(&Shutdown { grace_ms });
        self.short("shutdown", Method::POST, call::SHUTDOWN, Some(body)).await.map(drop)
    }

    /// Runs a process: its output and its input.
    ///
    /// # Errors
    /// The agent refuses the request or the connection breaks.
    pub async fn exec(&self, request: &ExecRequest) -> Result<(AgentExec, AgentInput), AgentError> {
        self.exec_json(&json(request)).await
    }

    /// Runs the process of an [`ExecRequest`] that is JSON already.
    ///
    /// # Errors
    /// As [`AgentClient::exec`].
    pub async fn exec_json(&self, request: &[u8]) -> Result<(AgentExec, AgentInput), AgentError> {
        let (response, body) = self.open("exec", Method::POST, call::EXEC, false).await?;
        let sender = Arc::new(Sender::new(body));
        sender.request(request)?;
        // Dropped at the limit, both ends of the stream cancel what the agent may have begun.
        let output = within_limit("exec", begin("exec", response)).await?;
        Ok((AgentExec::new(output, Arc::clone(&sender)), AgentInput::new(sender)))
    }

    /// Unpacks a tar stream; `query` is `path=DIRECTORY` and may add `owner=USER`, percent-encoded.
    ///
    /// # Errors
    /// The stream cannot be read or is no archive, or the guest cannot write it.
    pub async fn upload(
        &self,
        query: &str,
        stream: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<(), AgentError> {
        let path = format!("{}?{query}", call::FILES);
        let (response, mut body) = self.open("upload", Method::PUT, &path, false).await?;
        let mut stream = pin!(stream);
        // The guest may refuse before it has seen everything: its answer is what counts then.
        let pump = async {
            while let Some(chunk) = stream.try_next().await.map_err(AgentError::Source)? {
                if !send(&mut body, chunk).await {
                    return Ok(());
                }
            }
            let _ = body.send_data(Bytes::new(), true);
            Ok(())
        };
        let mut response = pin!(response);
        let answer = tokio::select! {
            answer = &mut response => answer,
            pumped = pump => { pumped?; response.await }
        };
        let response = answer.map_err(|source| AgentError::Broken { call: "upload", source })?;
        accept("upload", response).await.map(drop)
    }

    /// A tar stream; `query` is `path=PATH`, percent-encoded.
    ///
    /// # Errors
    /// There is no such path. A stream that breaks in the middle ends in an error, [`AgentError::BrokenOff`] where the guest
    /// knows why.
    pub async fn download(
        &self,
        query: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, AgentError>> + Send + Sync + use<>, AgentError> {
        let path = format!("{}?{query}", call::FILES);
        let trailers = [(header::TE, HeaderValue::from_static("trailers"))];
        let trailers = HeaderMap::from_iter(trailers);
        let (response, _) = self.open_with("download", Method::GET, &path, trailers, true).await?;
        let body = within_limit("download", begin("download", response)).await?;
        Ok(futures_util::stream::try_unfold(body, |mut body| async move {
            match next_chunk("download", &mut body).await? {
                Some(chunk) => Ok(Some((chunk, body))),
                None => whole("download", &mut body).await.map(|()| None),
            }
        }))
    }

    /// Lets processes of the guest connect to a port of its loopback interface.
    ///
    /// # Errors
    /// The port is taken, or the agent does not know how.
    pub async fn forward(&self, forward: Forward) -> Result<AgentForward, AgentError> {
        let (response, mut body) = self.open("forward", Method::POST, call::FORWARDS, false).await?;
        let broken = |source| AgentError::Broken { call: "forward", source };
        body.send_data(json(&forward), true).map_err(broken)?;
        let begun = async { AgentForward::begin(begin("forward", response).await?).await };
        within_limit("forward", begun).await
    }

    /// Takes up a connection that an [`AgentForward`] announced.
    ///
    /// # Errors
    /// It does not wait any more.
    pub async fn forwarded(&self, accepted: ForwardAccepted) -> Result<AgentConnection, AgentError> {
        let path = format!("{}/{}", call::FORWARDS, accepted.connection);
        let (response, sender) = self.open("forwarded", Method::POST, &path, false).await?;
        let receiver = within_limit("forwarded", begin("forwarded", response)).await?;
        Ok(AgentConnection::new(receiver, sender))
    }

    /// A call whose answer comes at once and is small.
    async fn short(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Vec<u8>, AgentError> {
        let exchange = async {
            let (response, mut sender) = self.open(call, method, path, body.is_none()).await?;
            if let Some(body) = body {
                sender.send_data(body, true).map_err(|source| AgentError::Broken { call, source })?;
            }
            read_all(call, begin(call, response).await?).await
        };
        within_limit(call, exchange).await
    }

    async fn open(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), AgentError> {
        self.open_with(call, method, path, HeaderMap::new(), is_whole).await
    }

    async fn open_with(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), AgentError> {
        let broken = |source| AgentError::Broken { call, source };
        let request = Request::builder().method(method).uri(format!("http://agent{path}")).body(());
        let mut request = request.map_err(|_| AgentError::Refused {
            call,
            status: 400,
            message: "a name in it has characters that no path may have".to_owned(),
        })?;
        *request.headers_mut() = headers;
        let mut requests = self.requests.clone().ready().await.map_err(broken)?;
        requests.send_request(request, is_whole).map_err(broken)
    }
}

/// Skips what an earlier connection left and returns the stream at its first byte of HTTP/2.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<BufReader<S>, AgentError> {
    // The agent's first bytes of HTTP/2 may come together with its answer; the buffer keeps them.
    let mut stream = BufReader::new(stream);
    greet(&mut stream).await?;
    Ok(stream)
}

/// An agent that is between two frames takes the hello at once. One that was stopped in the middle of a frame takes it
/// for that frame's content: then the frame is filled up, and what follows it is no HTTP/2, which ends its connection.
async fn interrupt<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<BufReader<S>, AgentError> {
    /// A restored guest answers within 0.2 s; this is for a host with every core busy.
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = BufReader::new(stream);
    loop {
        if let Ok(greeted) = timeout(PATIENCE, greet(&mut stream)).await {
            return greeted.map(|()| stream);
        }
        // More than the largest frame that an agent takes.
        let filler = vec![0; FRAME_SIZE as usize];
        let filled = timeout(PATIENCE, stream.write_all(&filler)).await;
        filled.unwrap_or(Ok(())).map_err(AgentError::Connect)?;
    }
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Result<(), AgentError> {
    let nonce = *uuid::Uuid::new_v4().as_bytes();
    stream.write_all(&message(HELLO, GENERATION, &nonce)).await.map_err(AgentError::Connect)?;
    let mut scanner = Scanner::new(READY);
    loop {
        let byte = stream.read_u8().await.map_err(AgentError::Connect)?;
        match scanner.push(byte) {
            Some((GENERATION, echoed)) if echoed == nonce => return Ok(()),
            Some((theirs, echoed)) if echoed == nonce => {
                return Err(AgentError::Generation { theirs, ours: GENERATION });
            }
            _ => {}
        }
    }
}

/// Gives up on an agent that does not answer. The stream is cancelled when the exchange is dropped.
async fn within_limit<T>(
    call: &'static str,
    exchange: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    timeout(CALL_LIMIT, exchange).await.map_err(|_| AgentError::Timeout { call, limit: CALL_LIMIT })?
}

/// Waits for the head of the answer.
async fn begin(call: &'static str, response: ResponseFuture) -> Result<RecvStream, AgentError> {
    accept(call, response.await.map_err(|source| AgentError::Broken { call, source })?).await
}

/// The body of a good answer, or the reason of a bad one.
async fn accept(call: &'static str, response: Response<RecvStream>) -> Result<RecvStream, AgentError> {
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let message = String::from_utf8_lossy(&read_all(call, body).await?).into_owned();
    Err(AgentError::Refused { call, status: status.as_u16(), message })
}

/// Whether a body whose last byte was read is whole: a trailer says why it is not.
async fn whole(call: &'static str, body: &mut RecvStream) -> Result<(), AgentError> {
    let trailers = body.trailers().await.map_err(|source| AgentError::Broken { call, source })?;
    let Some(value) = trailers.as_ref().and_then(|all| all.get(call::BROKEN_OFF)) else { return Ok(()) };
    let message = value.to_str().ok().and_then(call::decode);
    let message = message.unwrap_or_else(|| "it gives no reason that can be read".to_owned());
    Err(AgentError::BrokenOff { call, message })
}

/// Answers that are read whole are a few hundred bytes.
const ANSWER_LIMIT: usize = 1 << 20;

async fn read_all(call: &'static str, mut body: RecvStream) -> Result<Vec<u8>, AgentError> {
    let mut all = Vec::new();
    while all.len() < ANSWER_LIMIT {
        let Some(chunk) = next_chunk(call, &mut body).await? else { break };
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The next bytes; room for as many is given back at once, so at most a window is held by the stream.
pub(super) async fn next_chunk(
    call: &'static str,
    body: &mut RecvStream,
) -> Result<Option<Bytes>, AgentError> {
    let chunk = poll_fn(|context| body.poll_data(context)).await;
    let chunk = chunk.transpose().map_err(|source| AgentError::Broken { call, source })?;
    if let Some(chunk) = &chunk {
        body.flow_control()
            .release_capacity(chunk.len())
            .map_err(|source| AgentError::Broken { call, source })?;
    }
    Ok(chunk)
}

fn json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("plain data is JSON"))
}

fn parse<T: DeserializeOwned>(call: &'static str, body: &[u8]) -> Result<T, AgentError> {
    serde_json::from_slice(body).map_err(|source| AgentError::Answer { call, source })
}
