//! The HTTP API on the control socket. `curl --unix-socket SOCKET http://vm/v1/status` shows it at work.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::task::TaskTracker;

pub use super::executions::ExecutionInfo;
use super::{
    NewForward, StopOptions,
    executions::{AskedExec, Execution, Executions},
    forwards,
    run::{AgentState, StopCall},
    snapshots::{NewSnapshot, Rollback, Snapshot, Snapshots},
    start::Started,
};
use crate::{
    LimitsReport, VmError,
    agent::{AgentClient, AgentError},
    driver::{accelerator::Accelerator, qmp::Qmp},
    protocol::{
        call,
        message::{TerminalSize, View},
    },
    registry::EndReason,
};

/// Names the execution in the answer to `POST /v1/exec`; in the request, a UUID that the caller wants it to have.
pub(crate) const EXEC_ID_HEADER: &str = "x-exec-id";
/// `GET /v1/exec/{id}/output?offset=N`.
pub(crate) const OUTPUT_OFFSET_QUERY: &str = "offset";

/// The largest JSON body: an execution's request carries scripts and an environment.
const JSON_LIMIT: usize = 32 << 20;
/// QEMU answers in milliseconds; snapshots of large memory take longest.
const QMP_LIMIT: Duration = Duration::from_secs(60);

/// What a supervisor says about its VM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VmStatus {
    /// Whether the agent answers: `booting`, `ready` or `failed`.
    pub agent: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_error: Option<String>,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Executions that have not ended.
    pub running_executions: usize,
    /// Which limits are in force.
    #[serde(default)]
    pub limits: LimitsReport,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SignalRequest {
    pub(crate) signal: i32,
}

#[derive(Debug, Deserialize)]
struct QmpRequest {
    execute: String,
    arguments: Option<Value>,
}

type Body = BoxBody<Bytes, io::Error>;

/// What the calls need; shared by all connections.
pub(super) struct Control {
    agent: watch::Receiver<AgentState>,
    stops: mpsc::Sender<StopCall>,
    executions: Executions,
    qmp: Qmp,
    snapshots: Snapshots,
    accelerator: Accelerator,
    limits: LimitsReport,
    tasks: TaskTracker,
    /// The VM has ended.
    ended: watch::Receiver<bool>,
}

impl Control {
    pub(super) fn new(
        started: &Started,
        (agent, ended): (watch::Receiver<AgentState>, watch::Receiver<bool>),
        stops: mpsc::Sender<StopCall>,
        snapshots: Snapshots,
        tasks: TaskTracker,
    ) -> Arc<Control> {
        Arc::new(Control {
            agent,
            stops,
            executions: started.executions.clone(),
            qmp: started.qmp.clone(),
            snapshots,
            accelerator: started.accelerator.clone(),
            limits: started.group.as_ref().map(|group| group.report().clone()).unwrap_or_default(),
            tasks,
            ended,
        })
    }
}

/// Serves one connection in a task of its own.
pub(super) fn accept(
    control: &Arc<Control>,
    accepted: io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
) {
    let stream = match accepted {
        Ok((stream, _)) => stream,
        Err(error) => return tracing::warn!("cannot accept a control connection: {error}"),
    };
    // The directory's mode keeps others out; this holds also where somebody loosened it.
    let mine = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == mine || peer.uid() == 0) {
        return tracing::warn!("refused a control connection of another user");
    }
    let tracked = Arc::clone(control);
    control.tasks.spawn(async move {
        let service = service_fn(|request| {
            let control = Arc::clone(&tracked);
            async move { Ok::<_, Infallible>(answer(&control, request).await) }
        });
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        let mut ended = tracked.ended.clone();
        let served = tokio::select! {
            served = &mut connection => served,
            // One that waits for its next call ends now, one with a call when that is answered.
            () = async { drop(ended.wait_for(|ended| *ended).await) } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            // A client that goes away is no fault of ours.
            tracing::debug!("control connection: {error}");
        }
    });
}

/// What a call ended in when it did not succeed.
enum Failure {
    Status(StatusCode, String),
    Vm(VmError),
}

impl<E: Into<VmError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Vm(error.into())
    }
}

async fn answer(control: &Arc<Control>, request: Request<Incoming>) -> Response<Body> {
    route(control, request).await.unwrap_or_else(|failure| {
        let (status, message) = match failure {
            Failure::Status(status, message) => (status, message),
            // What the caller did wrong stays the caller's.
            Failure::Vm(error @ VmError::Agent(AgentError::Refused { status, .. }))
                if matches!(status, 400 | 404 | 413 | 422) =>
            {
                (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), error.to_string())
            }
            Failure::Vm(error @ VmError::Agent(AgentError::InputClosed)) => {
                (StatusCode::CONFLICT, error.to_string())
            }
            Failure::Vm(error @ VmError::NoSnapshot(_)) => (StatusCode::NOT_FOUND, error.to_string()),
            Failure::Vm(VmError::Refused { status, message }) => {
                (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), message)
            }
            Failure::Vm(VmError::Io { operation, path, source }) => {
                let status = match source.kind() {
                    // So that the caller knows what helps.
                    io::ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
                    _ => StatusCode::BAD_GATEWAY,
                };
                (status, format!("cannot {operation} {}: {source}", path.display()))
            }
            Failure::Vm(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
        };
        let mut response = json_response(&json!({"error": message}));
        *response.status_mut() = status;
        response
    })
}

async fn route(control: &Arc<Control>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["v1", "ping"]) => Ok(Response::new(empty())),
        (&Method::GET, ["v1", "status"]) => Ok(json_response(&control.status())),
        (&Method::GET, ["v1", "agent"]) => Ok(json_response(&control.agent().await?.info().await?)),
        (&Method::POST, ["v1", "stop"]) => control.stop(read_json(request).await?).await,
        (&Method::POST, ["v1", "qmp"]) => control.qmp(read_json(request).await?).await,
        (&Method::GET, ["v1", "snapshots"]) => Ok(json_response(&control.snapshots.list()?)),
        (&Method::POST, ["v1", "snapshots"]) => {
            let new: NewSnapshot = read_json(request).await?;
            control.agent().await?;
            Ok(json_response(&control.snapshots.take(new).await?))
        }
        (&Method::POST, ["v1", "rollback"]) => {
            let wanted: Rollback = read_json(request).await?;
            control.agent().await?;
            Ok(json_response(&control.roll_back(wanted).await?))
        }
        (&Method::POST, ["v1", "views"]) => {
            control.agent().await?.create_view(&read_json::<View>(request).await?).await?;
            Ok(Response::new(empty()))
        }
        (&Method::DELETE, ["v1", "views", name]) => {
            control.agent().await?.remove_view(name).await?;
            Ok(Response::new(empty()))
        }
        (&Method::DELETE, ["v1", "left", name]) => {
            Ok(json_response(&control.agent().await?.end_left(name).await?))
        }
        (&Method::POST, ["v1", "forwards"]) => control.forward(read_json(request).await?).await,
        (&Method::PUT, ["v1", "files"]) => control.upload(request).await,
        (&Method::GET, ["v1", "files"]) => control.download(&request).await,
        (&Method::GET, ["v1", "exec"]) => Ok(json_response(&control.executions.list())),
        (&Method::POST, ["v1", "exec"]) => {
            let id = wanted_id(&request)?;
            let asked = AskedExec::read(read_body(request).await?).map_err(|error| bad_body(&error))?;
            control.exec(id, asked).await
        }
        (&Method::GET, ["v1", "exec", id, "output"]) => output(&control.execution(id)?, offset(&request)?),
        (&Method::POST, ["v1", "exec", id, "signal"]) => {
            let call: SignalRequest = read_json(request).await?;
            control.execution(id)?.input()?.signal(call.signal).await?;
            Ok(Response::new(empty()))
        }
        (&Method::POST, ["v1", "exec", id, "resize"]) => {
            let size: TerminalSize = read_json(request).await?;
            control.execution(id)?.input()?.resize(size).await?;
            Ok(Response::new(empty()))
        }
        (&Method::POST, ["v1", "exec", id, "stdin"]) => stdin(&control.execution(id)?, request).await,
        (method, _) => {
            Err(Failure::Status(StatusCode::NOT_FOUND, format!("there is no call `{method} {path}`")))
        }
    }
}

impl Control {
    fn status(&self) -> VmStatus {
        let (agent, agent_error) = match &*self.agent.borrow() {
            AgentState::Booting => ("booting", None),
            AgentState::Ready(_) => ("ready", None),
            AgentState::Failed(why) => ("failed", Some(why.to_string())),
        };
        let running = self.executions.list().iter().filter(|execution| !execution.finished).count();
        VmStatus {
            agent: agent.to_owned(),
            agent_error,
            accelerator: self.accelerator.clone(),
            running_executions: running,
            limits: self.limits.clone(),
        }
    }

    /// The agent, as soon as the guest is up.
    async fn agent(&self) -> Result<AgentClient, Failure> {
        let mut state = self.agent.clone();
        let unavailable = |why: &str| {
            Failure::Status(StatusCode::SERVICE_UNAVAILABLE, format!("the guest cannot be reached: {why}"))
        };
        match state.wait_for(|state| !matches!(state, AgentState::Booting)).await.as_deref() {
            Ok(AgentState::Ready(agent)) => Ok(agent.clone()),
            Ok(AgentState::Failed(why)) => Err(unavailable(why)),
            Ok(AgentState::Booting) | Err(_) => Err(unavailable("the VM has ended")),
        }
    }

    fn execution(&self, id: &str) -> Result<Arc<Execution>, Failure> {
        let missing = || Failure::Status(StatusCode::NOT_FOUND, format!("there is no execution `{id}`"));
        self.executions.get(id).ok_or_else(missing)
    }

    async fn stop(&self, options: StopOptions) -> Result<Response<Body>, Failure> {
        let (done, report) = oneshot::channel();
        let ended = || Failure::Status(StatusCode::SERVICE_UNAVAILABLE, "the VM has ended".to_owned());
        let call = StopCall { options, reason: EndReason::Requested, done: Some(done) };
        self.stops.send(call).await.map_err(|_| ended())?;
        Ok(json_response(&report.await.map_err(|_| ended())?))
    }

    async fn qmp(&self, call: QmpRequest) -> Result<Response<Body>, Failure> {
        let value = self.qmp.execute(&call.execute, call.arguments, QMP_LIMIT).await?;
        Ok(json_response(&value))
    }

    /// In a task of its own: a caller that goes away must not leave the guest between two states.
    async fn roll_back(&self, wanted: Rollback) -> Result<Snapshot, Failure> {
        let snapshots = self.snapshots.clone();
        let work = self.tasks.spawn(async move { snapshots.roll_back(&wanted).await });
        let ended = |_| Failure::Status(StatusCode::SERVICE_UNAVAILABLE, "the VM has ended".to_owned());
        Ok(work.await.map_err(ended)??)
    }

    async fn exec(&self, id: Option<uuid::Uuid>, asked: AskedExec) -> Result<Response<Body>, Failure> {
        let agent = self.agent().await?;
        let (execution, file) = self.executions.start(&agent, id, asked).await?;
        // What came with the agent's answer is written first: it then leaves together with this one.
        tokio::task::yield_now().await;
        let mut response = output(&execution, 0)?;
        drop(file);
        let id = HeaderValue::from_str(execution.id()).expect("an execution's id is hexadecimal");
        response.headers_mut().insert(EXEC_ID_HEADER, id);
        Ok(response)
    }

    async fn forward(&self, new: NewForward) -> Result<Response<Body>, Failure> {
        let agent = self.agent().await?;
        let lines = forwards::start(agent, new, &self.tasks).await?;
        Ok(Response::new(streaming(lines)))
    }

    async fn upload(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let agent = self.agent().await?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = request.into_body().into_data_stream().map_err(io::Error::other);
        agent.upload(&query, body).await?;
        Ok(Response::new(empty()))
    }

    async fn download(&self, request: &Request<Incoming>) -> Result<Response<Body>, Failure> {
        let agent = self.agent().await?;
        let stream = agent.download(request.uri().query().unwrap_or_default()).await?;
        // Whoever does not look at trailers has to see the connection break.
        if request.headers().get(header::TE).is_none_or(|value| value != "trailers") {
            return Ok(Response::new(streaming(stream.map_err(io::Error::other))));
        }
        let frames = stream.map_ok(Frame::data).or_else(|error| std::future::ready(broken_off(error)));
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
        response.headers_mut().insert(header::TRAILER, HeaderValue::from_static(call::BROKEN_OFF));
        Ok(response)
    }
}

/// What the guest says about its failure, as it said it to us.
fn broken_off(error: AgentError) -> io::Result<Frame<Bytes>> {
    let message = match error {
        AgentError::BrokenOff { message, .. } => message,
        error => return Err(io::Error::other(error)),
    };
    let value = HeaderValue::try_from(call::encode(&message)).expect("percent-encoded text is ASCII");
    Ok(Frame::trailers(HeaderMap::from_iter([(HeaderName::from_static(call::BROKEN_OFF), value)])))
}

/// The id that the caller has chosen for an execution.
fn wanted_id(request: &Request<Incoming>) -> Result<Option<uuid::Uuid>, Failure> {
    let Some(text) = request.headers().get(EXEC_ID_HEADER) else { return Ok(None) };
    let id = text.to_str().ok().and_then(|text| uuid::Uuid::try_parse(text).ok());
    let bad = || Failure::Status(StatusCode::BAD_REQUEST, format!("{EXEC_ID_HEADER}: a UUID is expected"));
    id.map(Some).ok_or_else(bad)
}

fn output(execution: &Arc<Execution>, offset: u64) -> Result<Response<Body>, Failure> {
    let failed = |error: io::Error| {
        Failure::Status(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read the output: {error}"))
    };
    let stream = Arc::clone(execution).follow(offset).map_err(failed)?;
    Ok(Response::new(streaming(stream)))
}

async fn stdin(execution: &Arc<Execution>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let close = request.uri().query() == Some("close");
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Status(StatusCode::BAD_REQUEST, error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            execution.input()?.write_stdin(data).await?;
        }
    }
    if close {
        execution.input()?.close_stdin().await?;
    }
    Ok(Response::new(empty()))
}

fn offset(request: &Request<Incoming>) -> Result<u64, Failure> {
    let query = request.uri().query().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(OUTPUT_OFFSET_QUERY)?.strip_prefix('='));
    let bad =
        |_| Failure::Status(StatusCode::BAD_REQUEST, "offset: a number of bytes is expected".to_owned());
    value.map_or(Ok(0), |value| value.parse().map_err(bad))
}

async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    serde_json::from_slice(&read_body(request).await?).map_err(|error| bad_body(&error))
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), JSON_LIMIT).collect().await;
    Ok(body.map_err(|error| bad_body(&*error))?.to_bytes())
}

fn bad_body(error: &dyn std::error::Error) -> Failure {
    Failure::Status(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}"))
}

fn json_response(value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("plain data is JSON");
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn streaming(stream: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(stream.map_ok(Frame::data)))
}
