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

use super::{reply::Reply, written::Blank};
use crate::{
    body::{BodyWriter, Gone},
    users::User,
    view::Namespace,
    worker::{Seat, Workers},
};

/// Files up to this size are read with the others and sent together.
const SMALL: u64 = 16 * 1024;
/// What is kept at most before it is sent.
const HELD: usize = 64 * 1024;

/// What a request wants back.
pub(super) struct Wanted {
    pub(super) paths: Vec<String>,
    /// Who must be able to read it, and where.
    pub(super) user: User,
    pub(super) view: Option<Namespace>,
    /// How it was written, if that is all that is to be known.
    pub(super) blank: Option<Blank>,
}

/// Sends a header for every path, and the content of those that can be read.
pub(super) async fn send(workers: &Arc<Workers>, reply: &mut Reply, wanted: Wanted) -> Result<(), Gone> {
    let Wanted { paths, user, view, blank } = wanted;
    if paths.is_empty() {
        return Ok(());
    }
    if blank.is_some_and(|blank| blank.is_untouched()) {
        for index in 0..paths.len() {
            reply.hold_json(Tag::File, &FileHeader { index, size: 0, exists: true, error: None });
        }
        return Ok(());
    }
    let count = paths.len();
    let opened = workers.run(move |seat| open_all(seat, &paths, &user, view)).await;
    let opened = match opened.map_err(|refusal| refusal.message).and_then(|opened| opened) {
        Ok(opened) => opened,
        Err(message) => (0..count).map(|_| Opened::Unreadable(message.clone())).collect(),
    };
    for (index, file) in opened.into_iter().enumerate() {
        let (exists, size, error) = match &file {
            Opened::Small(content) => (true, content.len() as u64, None),
            Opened::Large(_, size) => (true, *size, None),
            Opened::Unreadable(error) => (true, 0, Some(error.clone())),
            Opened::Absent => (false, 0, None),
        };
        reply.hold_json(Tag::File, &FileHeader { index, size, exists, error });
        match file {
            Opened::Small(content) if !content.is_empty() => reply.hold(Tag::FileData, &content),
            Opened::Large(file, size) => send_content(reply.writer().await?, file, size).await?,
            _ => {}
        }
        if reply.held() > HELD {
            reply.writer().await?;
        }
    }
    Ok(())
}

/// A file that is to be returned.
enum Opened {
    /// All of it.
    Small(Vec<u8>),
    /// An open regular file and its size.
    Large(File, u64),
    /// Why it could not be read.
    Unreadable(String),
    Absent,
}

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
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let read = opened.and_then(|mut file| {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if metadata.len() > SMALL {
            return Ok(Opened::Large(file, metadata.len()));
        }
        let mut content = Vec::new();
        if metadata.len() > 0 {
            file.by_ref().take(metadata.len()).read_to_end(&mut content)?;
        }
        Ok(Opened::Small(content))
    });
    match read {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Opened::Absent,
        Err(error) => Opened::Unreadable(format!("cannot read {path}: {error}")),
    }
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
