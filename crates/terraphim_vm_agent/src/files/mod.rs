//! `PUT` and `GET /v1/files`: tar streams in and out.
//!
//! The archive is read and written on a thread of its own, which may enter a view; [`bridge`] carries the bytes
//! between it and the connection a few at a time.

mod bridge;
mod pack;
mod unpack;

use std::{io, path::Path, rc::Rc};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Response, StatusCode, header, request};
use terraphim_vm_protocol::call::FilesQuery;

use crate::{
    agent::Agent,
    body::{self, BodyWriter, Refusal, release},
    users,
    view::{Namespace, on_own_thread},
};

/// A checked query.
struct Target {
    files: FilesQuery,
    view: Option<Namespace>,
}

fn target(agent: &Agent, query: Option<&str>) -> Result<Target, Refusal> {
    let files = query.and_then(FilesQuery::parse).ok_or_else(|| Refusal::bad_request("malformed query"))?;
    if !Path::new(&files.path).is_absolute() || files.path.contains('\0') {
        return Err(Refusal::bad_request(format!("path {:?} is not absolute", files.path)));
    }
    let view = match &files.view {
        Some(name) => {
            let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("there is no view `{name}`"));
            Some(agent.views.get(name).ok_or_else(missing)?)
        }
        None => None,
    };
    Ok(Target { files, view })
}

fn enter(view: Option<Namespace>) -> Result<(), Refusal> {
    view.map_or(Ok(()), |view| view.enter())
        .map_err(|error| Refusal::internal(format!("cannot enter the view: {error}")))
}

/// Unpacks the body below a directory.
pub(crate) async fn upload(
    agent: Rc<Agent>,
    query: Option<&str>,
    body: &mut RecvStream,
) -> Result<Vec<u8>, Refusal> {
    let Target { files, view } = target(&agent, query)?;
    let (sender, reader) = bridge::incoming();
    let unpack = on_own_thread(move || {
        enter(view)?;
        let owner = match &files.owner {
            Some(name) => {
                let user = users::find(name).map_err(|error| Refusal::bad_request(error.to_string()))?;
                Some((user.uid, user.gid))
            }
            None => None,
        };
        unpack::unpack(reader, Path::new(&files.path), owner).map_err(|error| {
            Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("cannot unpack into {}: {error}", files.path),
            )
        })
    });
    let feed = async {
        while let Some(chunk) = body.data().await {
            let length = chunk.as_ref().map_or(0, Bytes::len);
            let broken = chunk.is_err();
            // Refused when unpacking failed; the answer says why.
            let taken = sender.send(chunk.map_err(io::Error::other)).await;
            if broken || taken.is_err() {
                break;
            }
            release(body, length);
        }
        drop(sender);
    };
    let (unpacked, ()) = tokio::join!(unpack, feed);
    unpacked??;
    Ok(Vec::new())
}

/// Packs a path into the answer of a request with this head.
pub(crate) async fn download(agent: Rc<Agent>, head: &request::Parts, mut respond: SendResponse<Bytes>) {
    let begun = match target(&agent, head.uri.query()) {
        Ok(target) => begin_download(target).await,
        Err(refusal) => Err(refusal),
    };
    let mut chunks = match begun {
        Ok(chunks) => chunks,
        Err(refusal) => return body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    };
    let Ok(stream) = respond.send_response(Response::new(()), false) else { return };
    let mut writer = BodyWriter::new(stream);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            () = writer.cancelled() => return,
        };
        match chunk {
            Some(bridge::Chunk::Bytes(bytes)) => {
                if writer.send(bytes).await.is_err() {
                    return;
                }
            }
            Some(bridge::Chunk::End) => return writer.finish(),
            // The archive is incomplete, and must not look otherwise.
            Some(bridge::Chunk::BrokenOff(why)) if takes_trailers(head) => return writer.break_off(&why),
            Some(bridge::Chunk::BrokenOff(_)) | None => return writer.abort(Reason::INTERNAL_ERROR),
        }
    }
}

/// Whether the host looks at trailers (RFC 9110 section 6.5.1).
fn takes_trailers(head: &request::Parts) -> bool {
    head.headers.get(header::TE).is_some_and(|value| value == "trailers")
}

/// Starts packing, once it is known that there is something to pack.
async fn begin_download(target: Target) -> Result<tokio::sync::mpsc::Receiver<bridge::Chunk>, Refusal> {
    let Target { files, view } = target;
    let (mut writer, chunks) = bridge::outgoing();
    let (opened_sender, opened) = tokio::sync::oneshot::channel();
    let pack = on_own_thread(move || {
        let source = enter(view).and_then(|()| {
            pack::Source::open(Path::new(&files.path)).map_err(|error| {
                let status = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StatusCode::NOT_FOUND,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Refusal::new(status, format!("cannot read {}: {error}", files.path))
            })
        });
        let source = match source {
            Ok(source) => source,
            Err(refusal) => return drop(opened_sender.send(Err(refusal))),
        };
        let _ = opened_sender.send(Ok(()));
        match source.pack(&mut writer) {
            Ok(()) => writer.finish(),
            Err(error) => {
                let why = format!("cannot pack {}: {error}", files.path);
                crate::kmsg::say(&why);
                writer.break_off(why);
            }
        }
    });
    // Driven to its end beside the answer: dropping the receiver ends it.
    let mut pack = tokio::task::spawn_local(pack);
    tokio::select! {
        biased;
        opened = opened => match opened {
            Ok(opened) => opened.map(|()| chunks),
            Err(_) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "cannot start a thread")),
        },
        ended = &mut pack => match ended {
            Ok(Err(refusal)) => Err(refusal),
            _ => Ok(chunks),
        },
    }
}
