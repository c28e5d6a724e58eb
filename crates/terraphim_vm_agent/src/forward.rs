//! `POST /v1/forwards`: connections to a port of the guest's loopback interface are carried to the host.
//!
//! ```text
//! process -> accept -> announced -> taken up by the host -> carried until both directions have ended
//! ```
//!
//! The agent cannot open an exchange, the host being the client of the connection; so it announces what it has accepted,
//! and the host opens one exchange for each. Every connection thereby has its own flow control.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::Ipv4Addr,
    rc::Rc,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Response, StatusCode};
use serde::Serialize;
use terraphim_vm_protocol::{
    call,
    message::{Forward, ForwardAccepted, ForwardListening},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

use crate::{
    agent::Agent,
    body::{self, BodyWriter, Gone, Refusal, release},
};

/// Connections of one port that the host has been told of and not yet taken up; more wait in the kernel.
const MAX_WAITING: usize = 32;
/// Read at once: one HTTP/2 frame.
const CHUNK: usize = 64 * 1024;

/// Connections that wait for the host.
#[derive(Default)]
pub(crate) struct Forwards {
    waiting: RefCell<HashMap<u64, TcpStream>>,
    next: Cell<u64>,
    /// The host has taken one up.
    taken: Notify,
}

/// The connections of one port that wait: they end with the port.
struct Waiting<'a> {
    forwards: &'a Forwards,
    numbers: Vec<u64>,
}

impl Waiting<'_> {
    fn add(&mut self, stream: TcpStream) -> u64 {
        let number = self.forwards.next.replace(self.forwards.next.get() + 1);
        self.forwards.waiting.borrow_mut().insert(number, stream);
        self.numbers.push(number);
        number
    }

    fn has_room(&mut self) -> bool {
        let waiting = self.forwards.waiting.borrow();
        self.numbers.retain(|number| waiting.contains_key(number));
        self.numbers.len() < MAX_WAITING
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.forwards.waiting.borrow_mut();
        for number in &self.numbers {
            waiting.remove(number);
        }
    }
}

/// Listens until the host cancels the call.
pub(crate) async fn listen(agent: Rc<Agent>, body: &mut RecvStream, mut respond: SendResponse<Bytes>) {
    let (listener, port) = match bind(body).await {
        Ok(bound) => bound,
        Err(refusal) => return body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    };
    let Ok(stream) = respond.send_response(Response::new(()), false) else { return };
    let mut writer = BodyWriter::new(stream);
    if say(&mut writer, &ForwardListening { port }).await.is_err() {
        return;
    }
    let mut waiting = Waiting { forwards: &agent.forwards, numbers: Vec::new() };
    loop {
        let has_room = waiting.has_room();
        let accepted = tokio::select! {
            () = writer.cancelled() => return,
            () = agent.forwards.taken.notified(), if !has_room => continue,
            accepted = listener.accept(), if has_room => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = waiting.add(stream);
                if say(&mut writer, &ForwardAccepted { connection }).await.is_err() {
                    return;
                }
            }
            // The process gave up before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                crate::kmsg::say(&format!("cannot accept connections to port {port}: {error}"));
                return writer.abort(Reason::INTERNAL_ERROR);
            }
        }
    }
}

async fn bind(body: &mut RecvStream) -> Result<(TcpListener, u16), Refusal> {
    let Forward { port } = body::read_json(body).await?;
    let failed = |error: io::Error| {
        let status = match error.kind() {
            io::ErrorKind::AddrInUse => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, format!("cannot listen on port {port} of the loopback interface: {error}"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

async fn say(writer: &mut BodyWriter, message: &impl Serialize) -> Result<(), Gone> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys and finite numbers");
    line.push(b'\n');
    writer.send(line.into()).await
}

/// Carries one connection that was announced.
pub(crate) async fn carry(agent: &Agent, path: &str, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let number = path.strip_prefix(call::FORWARDS).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
    let found = number.and_then(|number: u64| agent.forwards.waiting.borrow_mut().remove(&number));
    let Some(stream) = found else {
        let message = format!("no connection waits at {path}");
        return body::answer(respond, StatusCode::NOT_FOUND, message.into_bytes()).await;
    };
    agent.forwards.taken.notify_waiters();
    let Ok(answer) = respond.send_response(Response::new(()), false) else { return };
    // Small requests and answers go to and fro; waiting for more of them only costs time.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    tokio::join!(to_host(reader, BodyWriter::new(answer)), to_guest(body, writer));
}

/// What the process writes.
async fn to_host(mut reader: OwnedReadHalf, mut writer: BodyWriter) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let read = tokio::select! {
            read = reader.read_buf(&mut buffer) => read,
            () = writer.cancelled() => return,
        };
        match read {
            Ok(0) => return writer.finish(),
            Ok(_) => {
                if writer.send(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            // What the host has is incomplete, and must not look otherwise.
            Err(_) => return writer.abort(Reason::CANCEL),
        }
    }
}

/// What the process reads.
async fn to_guest(mut body: RecvStream, mut writer: OwnedWriteHalf) {
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            // The host broke off: an end in order would look like a complete answer.
            let _ = writer.as_ref().set_zero_linger();
            return writer.forget();
        };
        let length = chunk.len();
        // A process that reads no more has closed the other direction too, or will.
        if writer.write_all(&chunk).await.is_err() {
            return;
        }
        release(&mut body, length);
    }
    let _ = writer.shutdown().await;
}
