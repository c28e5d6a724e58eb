//! `return_files`: small files that a step left, sent after its output.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
};

use rustix::fs::OFlags;
use terraphim_vm_protocol::{
    frame::{MAX_PAYLOAD, Tag},
    message::FileHeader,
};

use super::reply::Reply;
use crate::{
    body::{BodyWriter, Gone},
    users::User,
    view::Namespace,
    worker::{Seat, Workers},
};

/// Sends a header for every path, and the content of those that can be read by `user` in `view`.
pub(super) async fn send(
    workers: &Arc<Workers>,
    reply: &mut Reply,
    paths: Vec<String>,
    user: User,
    view: Option<Namespace>,
) -> Result<(), Gone> {
    let count = paths.len();
    let opened = workers.run(move |seat| open_all(seat, &paths, &user, view)).await;
    let opened = match opened.map_err(|refusal| refusal.message).and_then(|opened| opened) {
        Ok(opened) => opened,
        Err(message) => (0..count).map(|_| Err(Some(message.clone()))).collect(),
    };
    let writer = reply.writer().await?;
    for (index, file) in opened.into_iter().enumerate() {
        let (exists, error) = match &file {
            Ok(_) | Err(Some(_)) => (true, file.as_ref().err().cloned().flatten()),
            Err(None) => (false, None),
        };
        let size = file.as_ref().map_or(0, |(_, size)| *size);
        writer.send_json(Tag::File, &FileHeader { index, size, exists, error }).await?;
        if let Ok((file, size)) = file {
            send_content(writer, file, size).await?;
        }
    }
    Ok(())
}

/// An open regular file and its size; else why it could not be opened, or `None` when it does not exist.
type Opened = Result<(File, u64), Option<String>>;

fn open_all(
    seat: &mut Seat,
    paths: &[String],
    user: &User,
    view: Option<Namespace>,
) -> Result<Vec<Opened>, String> {
    if let Some(view) = view {
        seat.enter(&view).map_err(|error| format!("cannot enter the view: {error}"))?;
    }
    seat.act_as(user).map_err(|error| format!("cannot act as user `{}`: {error}", user.name))?;
    Ok(paths.iter().map(|path| open(path)).collect())
}

fn open(path: &str) -> Opened {
    // Without waiting for a writer, should it be a named pipe.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let describe = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => None,
        _ => Some(format!("cannot read {path}: {error}")),
    };
    let file = file.map_err(describe)?;
    let metadata = file.metadata().map_err(describe)?;
    if !metadata.is_file() {
        return Err(Some(format!("cannot read {path}: it is not a regular file")));
    }
    Ok((file, metadata.len()))
}

/// Exactly `size` bytes, as announced: one that shrank meanwhile is filled up with zeros.
async fn send_content(writer: &mut BodyWriter, mut file: File, size: u64) -> Result<(), Gone> {
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_PAYLOAD / 4);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match file.read(&mut chunk[filled..]) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => filled += count,
                }
            }
            (file, chunk)
        });
        let (returned, chunk) = read.await.map_err(|_| Gone)?;
        file = returned;
        writer.send_frame(Tag::FileData, &chunk).await?;
        left -= length as u64;
    }
    Ok(())
}
