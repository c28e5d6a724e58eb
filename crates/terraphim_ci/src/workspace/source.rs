//! A tar stream that is made while it is read.

use std::io::{self, Write};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use terraphim_github_runner::engine::WorkspaceSource;
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_util::io::StreamReader;

use super::{Entry, Tree, pack};

/// One write to the guest; four of them wait at most.
const CHUNK: usize = 256 * 1024;
const WAITING: usize = 4;

/// Gives the files of a [`Tree`], as they are at that moment, to every VM that asks.
#[derive(Clone, Debug)]
pub(crate) struct TreeSource(pub(crate) Tree);

#[async_trait]
impl WorkspaceSource for TreeSource {
    async fn tar(&self) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let tree = self.0.clone();
        let listed = tokio::task::spawn_blocking(move || tree.entries()).await;
        let entries = listed.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Box::new(tar_stream(entries)))
    }
}

/// Reads `entries` as a tar stream. An error of packing is an error of reading: an archive that breaks off never looks
/// whole.
pub(crate) fn tar_stream(entries: Vec<Entry>) -> impl AsyncRead + Send + Sync + Unpin + use<> {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut writer = Chunks { sender, buffer: BytesMut::with_capacity(CHUNK) };
        let packed = pack(&entries, &mut writer).map_err(io::Error::other).and_then(|()| writer.flush());
        if let Err(error) = packed {
            // The reader is gone when this fails, and needs no error.
            let _ = writer.sender.blocking_send(Err(error));
        }
    });
    StreamReader::new(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.buffer.reserve(CHUNK);
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
