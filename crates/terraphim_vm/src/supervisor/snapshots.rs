//! Snapshots of the running guest, memory and disk, inside its writable disk (qcow2); and going back to one.
//!
//! Afterwards the guest's end of the agent connection is older than ours: it is dropped, and hands are shaken anew on the
//! same stream. What a connection started ends with it, in the guest too.

use std::{
    fs, io,
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    net::UnixStream,
    sync::{Mutex as AsyncMutex, watch},
};

use super::{
    executions::Executions,
    run::{AgentState, now},
    start::Started,
};
use crate::{
    VmError,
    agent::AgentClient,
    driver::qmp::Qmp,
    error::IoContext as _,
    fault::{self, Point},
};

/// 165 MB of memory were saved in 0.7 to 3.3 s and loaded in 0.5 s; this is for large guests on slow disks.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(300);
/// Pausing and resuming take a millisecond.
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// The agent answers 0.2 s after its memory is back.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Names it for a rollback.
    pub id: String,
    /// For people.
    pub name: String,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewSnapshot {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rollback {
    pub(crate) id: String,
}

/// The end of the name of a snapshot's description while it is being taken.
const UNFINISHED: &str = ".unfinished";

/// The snapshots of one VM.
#[derive(Clone)]
pub(super) struct Snapshots {
    directory: PathBuf,
    qmp: Qmp,
    stream: Arc<StdStream>,
    agent: watch::Sender<AgentState>,
    executions: Executions,
    /// One at a time.
    turn: Arc<AsyncMutex<()>>,
}

impl Snapshots {
    pub(super) fn new(started: &Started, agent: watch::Sender<AgentState>) -> Result<Snapshots, VmError> {
        let directory = started.paths.vm(&started.record.id).join("snapshots");
        let stream = started.agent.try_clone().io("use the agent connection of", &directory)?;
        Ok(Snapshots {
            directory,
            qmp: started.qmp.clone(),
            stream: Arc::new(stream),
            agent,
            executions: started.executions.clone(),
            turn: Arc::default(),
        })
    }

    /// All that were taken, oldest first.
    pub(super) fn list(&self) -> Result<Vec<Snapshot>, VmError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).io("read", &self.directory),
        };
        let mut all = Vec::new();
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|it| it == "json") {
                all.extend(read(&entry.path())?);
            }
        }
        all.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        Ok(all)
    }

    /// Takes one. The guest stands still meanwhile, so its clock is set afterwards.
    pub(super) async fn take(&self, new: NewSnapshot) -> Result<Snapshot, VmError> {
        let _turn = self.turn.lock().await;
        let id = uuid::Uuid::now_v7().simple().to_string();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created_at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let snapshot = Snapshot { id, name: new.name, description: new.description, created_at_ms };
        crate::make_private_directory(&self.directory).io("create", &self.directory)?;
        let (path, unfinished) = (self.path(&snapshot.id), self.unfinished(&snapshot.id));
        let text = serde_json::to_vec(&snapshot).expect("plain data is JSON");
        // Noted first: what QEMU saved inside the disk and nobody lists would take room for ever.
        fs::write(&unfinished, text).io("write", &unfinished)?;
        let kept = async {
            fault::at(Point::SnapshotNoted)?;
            self.monitor("save", "savevm", &snapshot.id).await?;
            fault::at(Point::SnapshotSaved)?;
            fs::rename(&unfinished, &path).io("write", &path)
        };
        if let Err(error) = kept.await {
            self.discard(&snapshot.id).await;
            return Err(error);
        }
        fault::at(Point::SnapshotKept)?;
        let state = self.agent.borrow().clone();
        if let AgentState::Ready(agent) = state {
            agent.configure(&now()).await?;
        }
        Ok(snapshot)
    }

    /// Removes from the disk what snapshots that were never finished left there: their supervisor was killed meanwhile.
    pub(super) async fn discard_unfinished(&self) {
        let left = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let left: Vec<String> = left
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(UNFINISHED)?.to_owned()))
            .collect();
        let _turn = self.turn.lock().await;
        for id in left {
            self.discard(&id).await;
        }
    }

    async fn discard(&self, id: &str) {
        // It was not saved, or not whole: QEMU says so, and there is nothing to delete.
        if let Err(error) = self.monitor("delete", "delvm", id).await {
            tracing::debug!("{error}");
        }
        let note = self.unfinished(id);
        if let Err(error) = fs::remove_file(&note) {
            tracing::warn!("cannot remove {}: {error}", note.display());
        }
    }

    /// Sets the guest back.
    pub(super) async fn roll_back(&self, wanted: &Rollback) -> Result<Snapshot, VmError> {
        let _turn = self.turn.lock().await;
        let missing = || VmError::NoSnapshot(wanted.id.clone());
        let id = uuid::Uuid::try_parse(&wanted.id).map_err(|_| missing())?.simple().to_string();
        let snapshot = read(&self.path(&id))?.ok_or_else(missing)?;
        // Calls that come now wait as they wait for a boot.
        let before = self.agent.send_replace(AgentState::Booting);
        if let AgentState::Ready(agent) = before {
            agent.close().await;
        }
        self.executions.interrupt("rolled back");
        let loaded = self.load(&id).await;
        let resumed = self.qmp.execute("cont", None, PAUSE_LIMIT).await;
        let connected = match resumed {
            Ok(_) => self.return_to_agent().await,
            Err(error) => Err(error.into()),
        };
        let state = match &connected {
            Ok(agent) => AgentState::Ready(agent.clone()),
            Err(error) => AgentState::Failed(error.to_string().into()),
        };
        self.agent.send_if_modified(|now| {
            // The VM may have ended meanwhile, which is the last word.
            let waits = matches!(now, AgentState::Booting);
            if waits {
                *now = state;
            }
            waits
        });
        loaded.and(connected).map(|_| snapshot)
    }

    async fn load(&self, id: &str) -> Result<(), VmError> {
        self.qmp.execute("stop", None, PAUSE_LIMIT).await?;
        fault::at(Point::RollbackHalted)?;
        self.monitor("load", "loadvm", id).await?;
        fault::at(Point::RollbackLoaded)
    }

    async fn return_to_agent(&self) -> Result<AgentClient, VmError> {
        let stream = self.stream.try_clone().and_then(UnixStream::from_std);
        let stream = stream.io("use the agent connection of", &self.directory)?;
        let agent = AgentClient::reconnect(stream, RETURN_LIMIT).await?;
        agent.configure(&now()).await?;
        Ok(agent)
    }

    /// QEMU's monitor says nothing when all went well.
    async fn monitor(&self, operation: &'static str, command: &str, id: &str) -> Result<(), VmError> {
        let arguments = json!({"command-line": format!("{command} {id}")});
        let said = self.qmp.execute("human-monitor-command", Some(arguments), SNAPSHOT_LIMIT).await?;
        match said.as_str().map(str::trim) {
            Some("") => Ok(()),
            said => {
                let message = said.unwrap_or("nothing that can be understood").to_owned();
                Err(VmError::Snapshot { operation, id: id.to_owned(), message })
            }
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn unfinished(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}{UNFINISHED}"))
    }
}

fn read(path: &Path) -> Result<Option<Snapshot>, VmError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).io("understand", path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).io("read", path),
    }
}
