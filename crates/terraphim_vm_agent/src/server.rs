//! HTTP/2 over the link: takes calls and hands each to its task.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Method, Request, StatusCode};
use terraphim_vm_protocol::call;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use crate::{
    agent::Agent,
    body::{self, Refusal},
    calls,
    exec::exec,
    files, forward,
};

/// What a stream may have under way towards us: more than one largest frame of `exec`, so that one always completes.
const STREAM_WINDOW: u32 = 2 << 20;
/// Never the limit: calls that do not read (a process that ignores its input) must not stop the others. What is held is
/// at most [`STREAM_WINDOW`] for each of [`MAX_CALLS`], and the host decides how many it makes.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const MAX_CALLS: u32 = 256;
/// One frame is one turn of the port: small enough that a ping does not wait long behind it.
const MAX_FRAME: u32 = 256 * 1024;
/// Output that is queued but not yet written, per call.
const SEND_BUFFER: usize = 1 << 20;

/// How long the last answers may take to leave before this process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one connection until its end; calls that are still under way are left in `calls`, and will notice.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    link: S,
    agent: &Rc<Agent>,
    calls: &mut JoinSet<()>,
) {
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CALLS)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<S, Bytes>(link);
    // A connection that breaks has no one left to be told; its calls end by themselves.
    let Ok(mut connection) = handshake.await else { return };
    let mut ending = agent.ending.subscribe();
    loop {
        tokio::select! {
            call = connection.accept() => {
                let Some(Ok((request, respond))) = call else { return };
                calls.spawn_local(answer(agent.clone(), request, respond));
            }
            Some(_) = calls.join_next() => {}
            _ = ending.wait_for(|ending| *ending) => break,
        }
    }
    connection.graceful_shutdown();
    let _ =
        tokio::time::timeout(FAREWELL, async { while let Some(Ok(_)) = connection.accept().await {} }).await;
}

async fn answer(agent: Rc<Agent>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let answer = match (&head.method, path) {
        (&Method::GET, call::PING) => Ok(Vec::new()),
        (&Method::POST, call::EXEC) => return exec(agent, body, respond).await,
        (&Method::GET, call::FILES) => return files::download(agent, &head, respond).await,
        (&Method::PUT, call::FILES) => files::upload(agent, head.uri.query(), &mut body).await,
        (&Method::POST, call::FORWARDS) => return forward::listen(agent, &mut body, respond).await,
        (&Method::POST, path) if path.starts_with(call::FORWARDS) => {
            return forward::carry(&agent, path, body, respond).await;
        }
        (&Method::GET, call::INFO) => calls::info::info(&agent),
        (&Method::POST, call::CONFIGURE) => calls::configure::configure(&agent, &mut body).await,
        (&Method::POST, call::SHUTDOWN) => match calls::shutdown::prepare(&mut body).await {
            Ok(shutdown) => {
                body::answer(respond, StatusCode::OK, Vec::new()).await;
                return calls::shutdown::shutdown(agent, shutdown);
            }
            Err(refusal) => Err(refusal),
        },
        (&Method::POST, call::VIEWS) => calls::views::create(&agent, &mut body).await,
        (&Method::DELETE, path) if path.starts_with(call::LEFT) => calls::left::end(&agent, path).await,
        (&Method::DELETE, path) if path.starts_with(call::VIEWS) => calls::views::remove(&agent, path),
        (method, path) => {
            Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no call {method} {path}")))
        }
    };
    match answer {
        Ok(bytes) => body::answer(respond, StatusCode::OK, bytes).await,
        Err(refusal) => body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    }
}
