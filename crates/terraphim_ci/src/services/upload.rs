//! One upload: blocks in any order and a list of them, or everything at once, or ranges; and then what it came to.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use futures_util::StreamExt as _;
use ring::digest::{Context, SHA256};
use tokio::io::AsyncWriteExt as _;

use super::{entry, error::ServiceError};

/// A client under emulation packs a block in seconds; one that is silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(120);
/// Azure: "up to 50,000 blocks".
pub(super) const BLOCKS_LIMIT: usize = 50_000;
/// Azure: a block's id has 64 bytes, which are 88 characters of base64.
const BLOCK_ID_LIMIT: usize = 128;

/// What an upload becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Artifact { name: String, content_type: String, expires_at_ms: i64 },
    Cache { scope: String, key: String, version: String },
}

/// What an upload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) size: u64,
    /// `sha256:` and hexadecimal digits.
    pub(super) digest: String,
}

/// An upload that is under way.
pub(super) struct Upload {
    pub(super) id: String,
    /// How clients of caches, version 1, call it.
    pub(super) number: u64,
    /// The job's id; the upload ends with the job.
    pub(super) job: String,
    pub(super) purpose: Purpose,
    pub(super) directory: PathBuf,
    limit: u64,
    received: AtomicU64,
    // Std mutex: taken for moments, never across a wait.
    state: Mutex<State>,
    /// One commit at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Lengths of blocks by id.
    blocks: HashMap<String, u64>,
    /// What was written of a range upload: start and end.
    ranges: Vec<(u64, u64)>,
    committed: Option<(Commit, Committed)>,
}

/// What was committed, so that a client that repeats the call gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Commit {
    Whole,
    List(Vec<String>),
    Ranges(u64),
}

impl Upload {
    pub(super) fn new(job: &str, purpose: Purpose, limit: u64, id: String, directory: PathBuf) -> Upload {
        Upload {
            id,
            number: entry::new_id(),
            job: job.to_owned(),
            purpose,
            directory,
            limit,
            received: AtomicU64::new(0),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it came to, once it was committed.
    pub(super) fn committed(&self) -> Option<Committed> {
        self.state().committed.as_ref().map(|(_, committed)| committed.clone())
    }

    /// Takes a block.
    pub(super) async fn put_block(&self, id: &str, body: Body) -> Result<(), ServiceError> {
        if id.is_empty() || id.len() > BLOCK_ID_LIMIT {
            return Err(ServiceError::invalid(format!("blockid: use 1 to {BLOCK_ID_LIMIT} characters")));
        }
        if self.state().blocks.len() >= BLOCKS_LIMIT {
            return Err(ServiceError::TooLarge(format!("{BLOCKS_LIMIT} blocks are the most")));
        }
        let (temporary, size) = self.receive(body).await?;
        let path = self.block(id);
        fs::rename(&temporary, &path).map_err(ServiceError::io("name", &path))?;
        if let Some(before) = self.state().blocks.insert(id.to_owned(), size) {
            self.received.fetch_sub(before, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes everything at once.
    pub(super) async fn put_whole(&self, body: Body) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        let (temporary, size) = self.receive(body).await?;
        let content = entry::content(&self.directory);
        let committed = on_thread(move || {
            let digest = digest_of(File::open(&temporary)?)?;
            fs::rename(&temporary, &content)?;
            Ok(Committed { size, digest })
        });
        let committed = committed.await.map_err(ServiceError::io("complete", &self.directory))?;
        self.state().committed = Some((Commit::Whole, committed));
        Ok(())
    }

    /// Puts blocks together in the order of the list.
    pub(super) async fn commit_list(&self, ids: Vec<String>) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        let commit = Commit::List(ids.clone());
        if self.is_committed(&commit) {
            return Ok(());
        }
        let paths = {
            let state = self.state();
            let missing = ids.iter().find(|id| !state.blocks.contains_key(*id));
            if let Some(id) = missing {
                return Err(ServiceError::invalid(format!("InvalidBlockList: there is no block {id:?}")));
            }
            let size: u64 = ids.iter().map(|id| state.blocks[id]).fold(0, u64::saturating_add);
            // A list may name a block many times.
            self.check_size(size)?;
            ids.iter().map(|id| self.block(id)).collect::<Vec<_>>()
        };
        let directory = self.directory.clone();
        let committed = on_thread(move || join(&directory, &paths)).await;
        let committed = committed.map_err(ServiceError::io("join the blocks in", &self.directory))?;
        let mut state = self.state();
        state.blocks.clear();
        state.committed = Some((commit, committed));
        Ok(())
    }

    /// Takes the bytes from `start` to `end`.
    pub(super) async fn put_range(&self, start: u64, end: u64, body: Body) -> Result<(), ServiceError> {
        self.check_size(end)?;
        let (temporary, size) = self.receive(body).await?;
        let whole = entry::content(&self.directory);
        if size != end - start {
            discard(&temporary);
            return Err(ServiceError::invalid(format!("{size} bytes came where {} were said", end - start)));
        }
        let placed = on_thread(move || {
            use std::io::Seek as _;
            let mut file = File::options().write(true).create(true).truncate(false).open(&whole)?;
            file.seek(io::SeekFrom::Start(start))?;
            io::copy(&mut File::open(&temporary)?, &mut file)?;
            fs::remove_file(&temporary)
        });
        placed.await.map_err(ServiceError::io("write", &self.directory))?;
        self.state().ranges.push((start, end));
        Ok(())
    }

    /// Says that the ranges make up `size` bytes.
    pub(super) async fn commit_ranges(&self, size: u64) -> Result<Committed, ServiceError> {
        let _turn = self.turn.lock().await;
        let commit = Commit::Ranges(size);
        if !self.is_committed(&commit) {
            if covered(self.state().ranges.clone()) != Some(size) {
                return Err(ServiceError::invalid(format!("not all of the {size} bytes were uploaded")));
            }
            let content = entry::content(&self.directory);
            let committed =
                on_thread(move || Ok(Committed { size, digest: digest_of(File::open(&content)?)? }));
            let committed = committed.await.map_err(ServiceError::io("read", &self.directory))?;
            self.state().committed = Some((commit, committed));
        }
        self.committed().ok_or_else(|| ServiceError::invalid("nothing was uploaded"))
    }

    fn is_committed(&self, commit: &Commit) -> bool {
        self.state().committed.as_ref().is_some_and(|(known, _)| known == commit)
    }

    fn check_size(&self, size: u64) -> Result<(), ServiceError> {
        if size > self.limit {
            return Err(ServiceError::TooLarge(format!("{size} bytes: at most {} are taken", self.limit)));
        }
        Ok(())
    }

    /// A block's file. Its id is the client's text, so a digest stands for it.
    fn block(&self, id: &str) -> PathBuf {
        self.directory.join(format!("block-{}", entry::name_of(&[id])))
    }

    /// Writes a body to a file, as it comes.
    async fn receive(&self, body: Body) -> Result<(PathBuf, u64), ServiceError> {
        let path = self.directory.join(format!("part-{}", uuid::Uuid::new_v4().simple()));
        let mut size = 0;
        let received = self.receive_into(&path, body, &mut size).await;
        if received.is_err() {
            discard(&path);
            self.received.fetch_sub(size, Ordering::Relaxed);
        }
        received.map(|()| (path, size))
    }

    async fn receive_into(&self, path: &Path, body: Body, size: &mut u64) -> Result<(), ServiceError> {
        let failed = |error| ServiceError::io("write", path)(error);
        let mut file = tokio::fs::File::create_new(path).await.map_err(failed)?;
        let mut stream = body.into_data_stream();
        loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await;
            let Some(chunk) = next.map_err(|_| ServiceError::Stalled(SILENCE.as_secs()))? else { break };
            let chunk =
                chunk.map_err(|error| ServiceError::invalid(format!("the body broke off: {error}")))?;
            let length = chunk.len() as u64;
            *size += length;
            let total = self.received.fetch_add(length, Ordering::Relaxed) + length;
            self.check_size(total)?;
            file.write_all(&chunk).await.map_err(failed)?;
        }
        // Tokio writes behind; what could not be written is known now and not when everybody has left.
        file.flush().await.map_err(failed)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A published one is not there any more.
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.directory.display());
            }
            _ => {}
        }
    }
}

/// A file that is of no use any more; it goes with its directory at the latest.
fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Runs something that blocks.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Copies blocks one after another into the content, removing none before all are there.
fn join(directory: &Path, blocks: &[PathBuf]) -> io::Result<Committed> {
    let temporary = directory.join("joined");
    let mut digest = Context::new(&SHA256);
    let mut file = File::create(&temporary)?;
    let mut size = 0;
    for block in blocks {
        let mut block = File::open(block)?;
        each_chunk(&mut block, |chunk| {
            size += chunk.len() as u64;
            digest.update(chunk);
            file.write_all(chunk)
        })?;
    }
    fs::rename(&temporary, entry::content(directory))?;
    for block in blocks {
        // A list may name it twice.
        discard(block);
    }
    Ok(Committed { size, digest: text(digest) })
}

fn digest_of(mut file: File) -> io::Result<String> {
    let mut digest = Context::new(&SHA256);
    each_chunk(&mut file, |chunk| {
        digest.update(chunk);
        Ok(())
    })?;
    Ok(text(digest))
}

fn text(digest: Context) -> String {
    format!("sha256:{}", entry::hex(digest.finish().as_ref()))
}

fn each_chunk(reader: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(&buffer[..count])?,
        }
    }
}

/// Up to where ranges cover everything from 0; `None` if they leave a gap.
fn covered(mut ranges: Vec<(u64, u64)>) -> Option<u64> {
    ranges.sort_unstable();
    ranges.into_iter().try_fold(0, |end: u64, (start, stop)| (start <= end).then_some(end.max(stop)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(limit: u64) -> (tempfile::TempDir, Upload) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("upload");
        entry::make_directory(&directory).unwrap();
        let purpose = Purpose::Cache { scope: "s".into(), key: "k".into(), version: "v".into() };
        let upload = Upload::new("job", purpose, limit, "id".into(), directory);
        (root, upload)
    }

    fn content(upload: &Upload) -> Vec<u8> {
        fs::read(entry::content(&upload.directory)).unwrap()
    }

    #[tokio::test]
    async fn blocks_come_in_any_order_and_are_joined_in_that_of_the_list() {
        let (_root, upload) = upload(100);
        for (id, text) in [("b", "world"), ("a", "old"), ("../../a", "hello "), ("a", "!")] {
            upload.put_block(id, Body::from(text)).await.unwrap();
        }
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert!(upload.commit_list(ids(&["a", "x"])).await.is_err());
        let list = ids(&["../../a", "b", "a", "a"]);
        upload.commit_list(list.clone()).await.unwrap();
        // The answer was lost: the client asks again.
        upload.commit_list(list).await.unwrap();
        assert_eq!(content(&upload), b"hello world!!");
        let digest = entry::hex(ring::digest::digest(&SHA256, b"hello world!!").as_ref());
        assert_eq!(upload.committed(), Some(Committed { size: 13, digest: format!("sha256:{digest}") }));
        let left: Vec<_> = fs::read_dir(&upload.directory).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[tokio::test]
    async fn what_is_too_large_or_breaks_off_leaves_nothing() {
        let (_root, upload) = upload(10);
        upload.put_block("a", Body::from("12345678")).await.unwrap();
        let refused = upload.put_block("b", Body::from("123")).await.unwrap_err();
        assert!(matches!(refused, ServiceError::TooLarge(_)));
        let broken = futures_util::stream::iter([Ok("1"), Err(io::Error::other("gone"))]);
        let refused = upload.put_block("b", Body::from_stream(broken)).await.unwrap_err();
        assert!(matches!(refused, ServiceError::Invalid(_)));
        // A block that is sent again takes the place of the first.
        upload.put_block("a", Body::from("12")).await.unwrap();
        upload.put_block("b", Body::from("12345678")).await.unwrap();
        let twice = vec!["b".to_owned(), "b".to_owned()];
        assert!(matches!(upload.commit_list(twice).await, Err(ServiceError::TooLarge(_))));
        assert_eq!(fs::read_dir(&upload.directory).unwrap().count(), 2);
        drop(upload);
    }

    #[tokio::test]
    async fn ranges_must_cover_everything() {
        let (_root, upload) = upload(100);
        upload.put_range(6, 11, Body::from("world")).await.unwrap();
        assert!(upload.commit_ranges(11).await.is_err());
        assert!(upload.put_range(0, 6, Body::from("hell")).await.is_err());
        upload.put_range(0, 6, Body::from("hello ")).await.unwrap();
        assert!(upload.commit_ranges(12).await.is_err());
        assert_eq!(upload.commit_ranges(11).await.unwrap().size, 11);
        assert_eq!(content(&upload), b"hello world");
        assert!(upload.put_range(50, 101, Body::from("x")).await.is_err());
    }

    #[tokio::test]
    async fn everything_at_once() {
        let (_root, upload) = upload(100);
        upload.put_whole(Body::from("all")).await.unwrap();
        assert_eq!((content(&upload), upload.committed().unwrap().size), (b"all".to_vec(), 3));
    }
}
