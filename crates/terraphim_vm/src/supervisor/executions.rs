//! What was run in the guest: each execution's frames in a file, written as they arrive and read by offset.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::places::Places;
use crate::{
    Paths, VmError, VmId,
    agent::{AgentClient, AgentError, AgentExec, AgentInput},
    fault::{self, Point},
    past::ExecutionNote,
    protocol::frame::{self, Decoder, HEADER, Tag},
};

/// One entry of the list of executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionInfo {
    /// Its id.
    pub id: String,
    /// Program and arguments. The environment is not kept: it may hold secrets.
    pub argv: Vec<String>,
    /// When it was asked for, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Bytes of frames so far.
    pub output_bytes: u64,
    /// Whether the last frame is written.
    pub finished: bool,
}

/// What was asked for. It is the agent's to understand; only what is noted down about it is looked at here.
#[derive(Debug, Deserialize)]
pub(super) struct AskedExec {
    #[serde(skip)]
    json: Bytes,
    argv: Vec<String>,
}

impl AskedExec {
    /// Of an [`ExecRequest`](crate::protocol::message::ExecRequest).
    pub(super) fn read(json: Bytes) -> serde_json::Result<AskedExec> {
        let asked: AskedExec = serde_json::from_slice(&json)?;
        Ok(AskedExec { json, ..asked })
    }
}

/// How far an execution's file is written.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    written: u64,
    finished: bool,
}

/// One execution.
#[derive(Debug)]
pub(super) struct Execution {
    id: String,
    argv: Vec<String>,
    started_at_ms: u64,
    path: PathBuf,
    /// Open as long as somebody writes or reads it: no number of past executions holds descriptors.
    file: Weak<File>,
    progress: watch::Sender<Progress>,
    /// The last frame, when there was no room for it in the file.
    unwritten: OnceLock<Bytes>,
    /// None when the connection broke before the agent answered.
    input: Option<AgentInput>,
}

/// All executions of a VM's present life.
#[derive(Clone, Debug)]
pub(super) struct Executions {
    places: Places,
    // Std mutex: looked up and inserted into, never held across an await.
    all: Arc<Mutex<BTreeMap<String, Arc<Execution>>>>,
    writers: TaskTracker,
    /// Why everything that runs at this moment has ended; news for whoever listened before.
    ends: watch::Sender<String>,
}

/// Read at once from an execution's file; large enough that the system call does not count.
const READ_SIZE: usize = 256 * 1024;

impl Executions {
    pub(super) fn open(paths: &Paths, id: &VmId) -> Result<Executions, VmError> {
        let places = Places::open(paths.vm(id).join("exec"))?;
        let (ends, _) = watch::channel(String::new());
        Ok(Executions { places, all: Arc::default(), writers: TaskTracker::new(), ends })
    }

    /// Starts a process in the guest and writes its frames from now on, whoever reads them. The caller may have chosen
    /// its id, so that it could note it down before. As long as it holds the file, following does not open it again.
    pub(super) async fn start(
        &self,
        agent: &AgentClient,
        id: Option<uuid::Uuid>,
        request: AskedExec,
    ) -> Result<(Arc<Execution>, Arc<File>), VmError> {
        let id = id.unwrap_or_else(uuid::Uuid::now_v7).simple().to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let note = ExecutionNote { id, argv: request.argv, started_at_ms };
        let (path, file) = self.places.take(&note.id, &note)?;
        let file = Arc::new(file);
        fault::at(Point::ExecPrepared)?;
        // From before the start, so that an end in between is news too.
        let mut ends = self.ends.subscribe();
        let prepare = async {
            // Once the request is on its way.
            tokio::task::yield_now().await;
            self.places.prepare();
        };
        let (started, ()) = tokio::join!(agent.exec_json(&request.json), prepare);
        let (output, input) = match started {
            Ok((output, input)) => (Ok(output), Some(input)),
            // The process may have been started, and what it did is unknown: lost, as one whose output breaks off.
            Err(error @ AgentError::Broken { .. }) => (Err(error), None),
            Err(error) => {
                if matches!(error, AgentError::Refused { .. }) {
                    // Nothing was begun, so there is nothing to list.
                    let _ = fs::remove_file(&path);
                }
                return Err(error.into());
            }
        };
        fault::at(Point::ExecStarted)?;
        let execution = Arc::new(Execution {
            id: note.id,
            argv: note.argv,
            started_at_ms,
            path,
            file: Arc::downgrade(&file),
            progress: watch::Sender::new(Progress::default()),
            unwritten: OnceLock::new(),
            input,
        });
        self.lock().insert(execution.id.clone(), Arc::clone(&execution));
        let writer = Writer {
            execution: Arc::clone(&execution),
            file: Arc::clone(&file),
            decoder: Decoder::new(),
            whole: 0,
            finished: false,
        };
        match output {
            Ok(output) => {
                self.writers.spawn(writer.run(output, ends));
            }
            Err(error) => writer.lose(&why_lost(&mut ends, &error).await),
        }
        Ok((execution, file))
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Execution>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn list(&self) -> Vec<ExecutionInfo> {
        self.lock().values().map(|execution| execution.info()).collect()
    }

    /// Gives every unfinished execution its last frame; later ones are not concerned.
    pub(super) fn interrupt(&self, why: &str) {
        self.ends.send_replace(why.to_owned());
    }

    /// Likewise, when there will be no later ones.
    pub(super) async fn vm_ended(&self, why: &str) {
        self.interrupt(why);
        self.writers.close();
        self.writers.wait().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Execution>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Execution {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where to send it standard input, signals and sizes.
    pub(super) fn input(&self) -> Result<&AgentInput, AgentError> {
        self.input.as_ref().ok_or(AgentError::InputClosed)
    }

    fn info(&self) -> ExecutionInfo {
        let progress = *self.progress.borrow();
        ExecutionInfo {
            id: self.id.clone(),
            argv: self.argv.clone(),
            started_at_ms: self.started_at_ms,
            output_bytes: progress.written,
            finished: progress.finished,
        }
    }

    /// The frames from `offset` on as they are written; ends after the last one. Memory: one read.
    pub(super) fn follow(
        self: Arc<Self>,
        offset: u64,
    ) -> std::io::Result<impl futures_util::Stream<Item = std::io::Result<Bytes>> + use<>> {
        let file = self.file.upgrade().map_or_else(|| File::open(&self.path).map(Arc::new), Ok)?;
        let progress = self.progress.subscribe();
        let state = (self, file, offset, progress);
        Ok(futures_util::stream::try_unfold(state, |(this, file, offset, mut progress)| async move {
            let Ok(now) = progress.wait_for(|now| now.written > offset || now.finished).await.map(|now| *now)
            else {
                return Ok(None);
            };
            let ahead = usize::try_from(now.written.saturating_sub(offset)).unwrap_or(usize::MAX);
            if ahead == 0 {
                let passed = usize::try_from(offset - now.written).unwrap_or(usize::MAX);
                let rest = this.unwritten.get().and_then(|last| last.get(passed..)).unwrap_or_default();
                let rest = Bytes::copy_from_slice(rest);
                let offset = offset + rest.len() as u64;
                return Ok((!rest.is_empty()).then_some((rest, (this, file, offset, progress))));
            }
            let mut buffer = vec![0; ahead.min(READ_SIZE)];
            // From the page cache: it was written moments ago, so this does not hold up the loop.
            file.read_exact_at(&mut buffer, offset)?;
            let offset = offset + buffer.len() as u64;
            Ok(Some((Bytes::from(buffer), (this, file, offset, progress))))
        }))
    }
}

struct Writer {
    execution: Arc<Execution>,
    file: Arc<File>,
    decoder: Decoder,
    /// Bytes of whole frames in the file. Nobody is shown the beginning of a frame: its rest may never come.
    whole: u64,
    finished: bool,
}

/// Why the connection to the agent broke: most often the VM has just ended, and its loop knows why a moment later.
async fn why_lost(ends: &mut watch::Receiver<String>, error: &AgentError) -> String {
    match tokio::time::timeout(std::time::Duration::from_secs(1), ends.changed()).await {
        Ok(_) => ends.borrow().clone(),
        Err(_) => error.to_string(),
    }
}

impl Writer {
    async fn run(mut self, mut output: AgentExec, mut ends: watch::Receiver<String>) {
        let why = loop {
            let chunk = tokio::select! {
                biased;
                chunk = output.next_chunk() => chunk,
                _ = ends.changed() => break ends.borrow().clone(),
            };
            match chunk {
                Ok(Some(bytes)) => {
                    if let Err(error) = self.write(&bytes) {
                        // Without a place for its output the process cannot go on: dropping `output` kills it.
                        break format!("cannot store its output: {error}");
                    }
                }
                Ok(None) if self.finished => return self.publish(),
                Ok(None) => break "the agent ended the exchange early".to_owned(),
                Err(error) => break why_lost(&mut ends, &error).await,
            }
        };
        self.lose(&why);
    }

    /// Writes that its end is unknown, after the last whole frame.
    fn lose(mut self, why: &str) {
        self.finished = true;
        let mut last = Vec::new();
        frame::encode(Tag::Lost, why.as_bytes(), &mut last);
        match self.file.set_len(self.whole).and_then(|()| self.file.write_all_at(&last, self.whole)) {
            Ok(()) => self.whole += last.len() as u64,
            Err(error) => {
                tracing::error!("cannot write the end of execution {}: {error}", self.execution.id);
                let _ = self.execution.unwritten.set(last.into());
            }
        }
        self.publish();
    }

    /// The frames are only looked at to know which is the last.
    fn write(&mut self, bytes: &Bytes) -> std::io::Result<()> {
        (&*self.file).write_all(bytes)?;
        fault::at(Point::ExecWritten).map_err(std::io::Error::other)?;
        self.decoder.push(bytes);
        loop {
            match self.decoder.next() {
                Ok(Some((tag, payload))) => {
                    self.finished |= tag.is_last();
                    self.whole += (HEADER + payload.len()) as u64;
                }
                Ok(None) => break,
                Err(error) => return Err(std::io::Error::other(error)),
            }
        }
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.execution.progress.send_replace(Progress { written: self.whole, finished: self.finished });
    }
}
