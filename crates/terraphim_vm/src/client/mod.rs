//! Talking to a supervisor.

mod wire;

use std::{io, path::PathBuf};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::Method;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{
    Exec, Paths, VmError, VmId,
    fault::{self, Point},
    past::check_offset,
    protocol::{
        call::{self, FilesQuery},
        message::{AgentInfo, Ended, ExecRequest, ForwardListening, TerminalSize, View},
    },
    supervisor::{
        EXEC_ID_HEADER, ExecutionInfo, ForwardTarget, NewForward, NewSnapshot, OUTPUT_OFFSET_QUERY, Rollback,
        SignalRequest, Snapshot, StopOptions, StopReport, VmStatus,
    },
};
pub(crate) use wire::Answer;
use wire::{Connection, Idle, empty, full};

/// Read at once from a stream that is sent to the guest.
const CHUNK: usize = 256 * 1024;

/// Calls the supervisor of one running VM. Calls at the same time have a connection each; one is kept for the next call.
///
/// Calls that need the guest wait until it has booted. A call fails with [`VmError::Silent`] when the supervisor does not answer
/// and gives no sign of life either for twenty seconds.
#[derive(Clone, Debug)]
pub struct VmClient {
    id: VmId,
    paths: Paths,
    socket: PathBuf,
    /// Shared by all clones.
    idle: Idle,
}

/// A port in the guest that leads to the host. Dropping it closes the port.
#[derive(Debug)]
pub struct VmForward {
    port: u16,
    body: Incoming,
    _connection: Connection,
}

impl VmForward {
    /// The port on 127.0.0.1 of the guest.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns when the port is closed from the other side: the guest was set back, or is gone.
    pub async fn ended(&mut self) {
        // Nothing more is ever said.
        while let Some(Ok(_)) = self.body.frame().await {}
    }
}

impl VmClient {
    pub(crate) fn new(id: VmId, paths: Paths, socket: PathBuf) -> VmClient {
        VmClient { id, paths, socket, idle: Idle::default() }
    }

    /// Which VM.
    #[must_use]
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// Whether the socket of the start that this client is for is still there: it goes with its supervisor. One that was
    /// killed leaves it, and the next call says so.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.socket.exists()
    }

    pub(crate) fn exec_output(&self, exec: &str) -> PathBuf {
        self.paths.exec_output(&self.id, exec)
    }

    /// What the supervisor says about its VM.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer.
    pub async fn status(&self) -> Result<VmStatus, VmError> {
        self.json("status", Method::GET, "/v1/status", empty()).await
    }

    /// Waits until the guest has booted and returns what its agent says.
    ///
    /// # Errors
    /// The guest did not come up.
    pub async fn wait_agent(&self) -> Result<AgentInfo, VmError> {
        self.json("agent", Method::GET, "/v1/agent", empty()).await
    }

    /// Executes a command of QEMU's machine protocol.
    ///
    /// # Errors
    /// QEMU refuses it, with its own words.
    pub async fn qmp(&self, command: &str, arguments: Option<Value>) -> Result<Value, VmError> {
        let mut body = json!({"execute": command});
        if let Some(arguments) = arguments {
            body["arguments"] = arguments;
        }
        self.json("qmp", Method::POST, "/v1/qmp", full(&body)).await
    }

    pub(crate) async fn stop(&self, options: &StopOptions) -> Result<StopReport, VmError> {
        self.json("stop", Method::POST, "/v1/stop", full(options)).await
    }

    /// Makes a view, see [`View`].
    ///
    /// # Errors
    /// The guest refuses it.
    pub async fn create_view(&self, view: &View) -> Result<(), VmError> {
        self.send("create view", Method::POST, call::VIEWS, full(view)).await.map(Answer::done)
    }

    /// Removes a view whose processes have ended.
    ///
    /// # Errors
    /// There is no such view.
    pub async fn remove_view(&self, name: &str) -> Result<(), VmError> {
        let path = format!("{}/{name}", call::VIEWS);
        self.send("remove view", Method::DELETE, &path, empty()).await.map(Answer::done)
    }

    /// Kills what executions have left running under a name, see [`ExecRequest::keep_left`], and says what that was.
    ///
    /// # Errors
    /// The guest cannot be reached.
    pub async fn end_left(&self, name: &str) -> Result<Ended, VmError> {
        let path = format!("{}/{name}", call::LEFT);
        self.json("end processes", Method::DELETE, &path, empty()).await
    }

    /// Unpacks a tar stream below `directory` in the guest; every entry belongs to `owner` if one is given.
    ///
    /// # Errors
    /// The stream is no tar archive or leaves the directory, or the guest cannot write it.
    pub async fn upload(
        &self,
        directory: &str,
        owner: Option<&str>,
        tar: impl AsyncRead + Send + Sync + 'static,
    ) -> Result<(), VmError> {
        let (path, owner) = (directory.to_owned(), owner.map(str::to_owned));
        self.upload_to(&FilesQuery { path, owner, view: None }, tar).await
    }

    /// Unpacks a tar stream where `place` says.
    ///
    /// # Errors
    /// As [`VmClient::upload`].
    pub async fn upload_to(
        &self,
        place: &FilesQuery,
        tar: impl AsyncRead + Send + Sync + 'static,
    ) -> Result<(), VmError> {
        let stream = ReaderStream::with_capacity(tar, CHUNK).map_ok(Frame::data);
        let body = BodyExt::boxed(StreamBody::new(stream));
        self.send("upload", Method::PUT, &place.to_uri(), body).await.map(Answer::done)
    }

    /// A tar stream of `path` in the guest.
    ///
    /// # Errors
    /// There is no such path. A stream that breaks in the middle ends in a read error, with the guest's words where it says
    /// why.
    pub async fn download(&self, path: &str) -> Result<impl AsyncRead + Send + use<>, VmError> {
        let path = FilesQuery { path: path.to_owned(), ..FilesQuery::default() }.to_uri();
        let headers = [("te", "trailers")];
        let answer = self.send_with("download", Method::GET, &path, &headers, empty()).await?;
        let Answer { response, connection, .. } = answer;
        let frames = TryStreamExt::map_err(BodyStream::new(response.into_body()), io::Error::other);
        let stream = frames.try_filter_map(|frame| std::future::ready(data_or_failure(frame)));
        Ok(Download { reader: StreamReader::new(stream), _connection: connection })
    }

    /// Runs a process in the guest.
    ///
    /// # Errors
    /// The guest cannot be reached. A process that cannot be started is an [`ExecEvent`](crate::ExecEvent).
    pub async fn exec(&self, request: &ExecRequest) -> Result<Exec, VmError> {
        fault::at(Point::CliExecAsked)?;
        let answer = self.send("exec", Method::POST, call::EXEC, full(request)).await?;
        fault::at(Point::CliExecStarted)?;
        self.started(answer)
    }

    /// Like [`VmClient::exec`] with an id of the caller's choice, which can be noted down before anything starts.
    ///
    /// # Errors
    /// As [`VmClient::exec`]; the id was used before in this VM.
    pub async fn exec_as(&self, id: uuid::Uuid, request: &ExecRequest) -> Result<Exec, VmError> {
        let id = id.simple().to_string();
        let headers = [(EXEC_ID_HEADER, id.as_str())];
        let answer = self.send_with("exec", Method::POST, call::EXEC, &headers, full(request)).await?;
        self.started(answer)
    }

    fn started(&self, answer: Answer) -> Result<Exec, VmError> {
        let id =
            answer.response.headers().get(EXEC_ID_HEADER).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let id = id.ok_or_else(|| self.broken("exec", "the answer names no execution"))?;
        Ok(Exec::new(self.clone(), id, 0, answer))
    }

    /// Takes up an execution from an offset of its output, see [`Exec::offset`].
    ///
    /// # Errors
    /// There is no such execution, or no event begins at the offset ([`VmError::Offset`]).
    pub async fn attach(&self, exec: &str, offset: u64) -> Result<Exec, VmError> {
        let (output, id) = (self.exec_output(exec), exec.to_owned());
        // Long output is read up to there: not by the thread that serves others.
        let checked = tokio::task::spawn_blocking(move || check_offset(&output, &id, offset)).await;
        checked.map_err(|error| self.broken("attach", error))??;
        let answer = self.output(exec, offset).await?;
        Ok(Exec::new(self.clone(), exec.to_owned(), offset, answer))
    }

    /// What was run since the VM started.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn executions(&self) -> Result<Vec<ExecutionInfo>, VmError> {
        self.json("list executions", Method::GET, call::EXEC, empty()).await
    }

    /// Keeps the state of the guest, memory and disk; it stands still meanwhile and goes on afterwards.
    ///
    /// # Errors
    /// The guest cannot be reached, or there is no room for its memory.
    pub async fn snapshot(&self, name: &str, description: Option<&str>) -> Result<Snapshot, VmError> {
        let new = NewSnapshot { name: name.to_owned(), description: description.map(str::to_owned) };
        self.json("snapshot", Method::POST, "/v1/snapshots", full(&new)).await
    }

    /// Sets the guest back to a snapshot, named by its id. Everything that runs in it is lost: those executions end
    /// with [`ExecEvent::Lost`](crate::ExecEvent).
    ///
    /// # Errors
    /// There is no such snapshot ([`VmError::Refused`] with status 404), or the guest does not answer afterwards.
    pub async fn rollback(&self, snapshot: &str) -> Result<Snapshot, VmError> {
        let wanted = Rollback { id: snapshot.to_owned() };
        self.json("rollback", Method::POST, "/v1/rollback", full(&wanted)).await
    }

    /// The snapshots of this VM, oldest first.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, VmError> {
        self.json("list snapshots", Method::GET, "/v1/snapshots", empty()).await
    }

    /// Lets processes of the guest reach a listener of the host: at `port` of the guest's loopback interface, 0 for any
    /// that is free. Works without a network.
    ///
    /// # Errors
    /// The port is taken in the guest, or `target` is not on this host.
    pub async fn forward(&self, port: u16, target: &ForwardTarget) -> Result<VmForward, VmError> {
        let new = NewForward { port, target: target.clone() };
        let answer = self.send("forward", Method::POST, call::FORWARDS, full(&new)).await?;
        let Answer { mut response, connection, .. } = answer;
        let line = response.body_mut().frame().await.transpose();
        let line = line.map_err(|error| self.broken("forward", error))?;
        let line = line.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        let listening: ForwardListening =
            serde_json::from_slice(&line).map_err(|error| self.broken("forward", error))?;
        Ok(VmForward { port: listening.port, body: response.into_body(), _connection: connection })
    }

    pub(crate) async fn output(&self, exec: &str, offset: u64) -> Result<Answer, VmError> {
        let path = format!("{}/{exec}/output?{OUTPUT_OFFSET_QUERY}={offset}", call::EXEC);
        self.send("attach", Method::GET, &path, empty()).await
    }

    /// Sends a signal to the processes of an execution.
    ///
    /// # Errors
    /// It has ended, or the supervisor cannot be reached.
    pub async fn signal(&self, exec: &str, signal: i32) -> Result<(), VmError> {
        let path = format!("{}/{exec}/signal", call::EXEC);
        self.send("signal", Method::POST, &path, full(&SignalRequest { signal })).await.map(Answer::done)
    }

    pub(crate) async fn resize(&self, exec: &str, size: TerminalSize) -> Result<(), VmError> {
        let path = format!("{}/{exec}/resize", call::EXEC);
        self.send("resize", Method::POST, &path, full(&size)).await.map(Answer::done)
    }

    pub(crate) async fn stdin(&self, exec: &str, bytes: Bytes, close: bool) -> Result<(), VmError> {
        let path = format!("{}/{exec}/stdin{}", call::EXEC, if close { "?close" } else { "" });
        let body = Full::new(bytes).map_err(|never| match never {}).boxed();
        self.send("stdin", Method::POST, &path, body).await.map(Answer::done)
    }
}

/// Bytes of a download; a trailer says why there are not all of them.
fn data_or_failure(frame: Frame<Bytes>) -> io::Result<Option<Bytes>> {
    let trailers = match frame.into_data() {
        Ok(data) => return Ok(Some(data)),
        Err(frame) => frame.into_trailers().unwrap_or_default(),
    };
    let Some(value) = trailers.get(call::BROKEN_OFF) else { return Ok(None) };
    let why = value.to_str().ok().and_then(call::decode);
    Err(io::Error::other(why.unwrap_or_else(|| "the guest gives no reason that can be read".to_owned())))
}

struct Download<R> {
    reader: R,
    _connection: Connection,
}

impl<R: AsyncRead + Unpin> AsyncRead for Download<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}
