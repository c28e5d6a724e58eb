//! The container engine of a VM. A small program listens on its socket and becomes the daemon when somebody connects, so
//! that a VM whose jobs need no container has none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::launch::words;
use crate::engine::layout::Layout;
use crate::error::{GitHubRunnerError, Result, chain};
use crate::session::Session;
use crate::workflow::{CommandExecutor, OutputSink, ProcessSpec, StopLadder, Stream};

/// Needs only what every Debian system has.
const LISTEN: &str = include_str!("listen.pl");
const SOCKET: &str = "/run/docker.sock";
/// Who may use the socket beside root.
const GROUP: &str = "docker";
/// As long as the VM: the process ends with its place.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Starting a small script takes a fraction of a second; an emulated guest on a busy machine takes longer.
const LISTEN_LIMIT: Duration = Duration::from_secs(120);
/// How much of the end of the daemon's log is kept, in bytes.
const KEPT: usize = 32 * 1024;

/// The container engine of a VM. Dropping it ends it.
#[derive(Debug)]
pub(in crate::engine) struct Daemon {
    log: Log,
    _task: AbortOnDropHandle<()>,
}

/// The end of what the daemon says.
// A lock of the standard library: held to add some bytes, never across an await.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Logged>>);

#[derive(Debug, Default)]
struct Logged {
    /// The last [`KEPT`] bytes at most.
    kept: Vec<u8>,
    /// How many bytes there were before them.
    lost: usize,
}

/// The engine of a VM does not start.
#[derive(Debug, thiserror::Error)]
#[error("it does not listen: {0}")]
struct Silent(String);

impl Daemon {
    /// Listens in the VM of a session.
    ///
    /// # Errors
    /// The guest cannot run it.
    pub(in crate::engine) async fn listen(
        executor: &Arc<dyn CommandExecutor>,
        session: &Session,
        layout: &Layout,
    ) -> Result<Daemon> {
        let log = Log::default();
        let (sender, listening) = oneshot::channel();
        let mut sink = Sink { log: log.clone(), listening: Some(sender) };
        let spec = spec(layout);
        let (executor, owned) = (Arc::clone(executor), session.clone());
        let task = tokio::spawn(async move {
            let ended = executor.run_process(&owned, &spec, &mut sink, &CancellationToken::new()).await;
            let text = match ended {
                Ok(outcome) => format!("the daemon ended with code {}\n", outcome.exit.shell_code()),
                // A VM that ends takes its daemon with it.
                Err(error) => format!("{}\n", chain(&error)),
            };
            sink.log.add(text.as_bytes());
        });
        let task = AbortOnDropHandle::new(task);
        // The sender goes with the task, which ends with the process.
        if !matches!(tokio::time::timeout(LISTEN_LIMIT, listening).await, Ok(Ok(()))) {
            let operation = format!("start the container engine of VM {}", session.vm_id);
            return Err(GitHubRunnerError::failed(operation, Silent(log.since(0))));
        }
        Ok(Daemon { log, _task: task })
    }

    /// How many bytes the daemon has logged so far; none if it was never needed.
    pub(super) fn logged(&self) -> usize {
        self.log.size()
    }

    /// The end of what the daemon logged after so many bytes.
    pub(super) fn log_since(&self, since: usize) -> String {
        self.log.since(since)
    }
}

fn spec(layout: &Layout) -> ProcessSpec {
    // Layers cannot be on the root file system, which is in layers itself.
    let [engine, below] = ["docker", "containerd"].map(|name| format!("{}/{name}", layout.scratch));
    let mut argv = words(&["perl", "-e", LISTEN, SOCKET, GROUP, &below, "dockerd", "--host", "fd://"]);
    argv.extend(words(&["--data-root", &engine, "--containerd", "/run/containerd/containerd.sock"]));
    // Beside the processes of steps, so that the limits that protect the guest hold for containers too.
    argv.extend(words(&["--cgroup-parent", "/tci/docker", "--log-level", "warn"]));
    ProcessSpec {
        argv,
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: Some("root".to_owned()),
        view: None,
        write_files: Vec::new(),
        return_files: Vec::new(),
        keep_left: None,
        timeout: LIFE,
        stop: StopLadder::default(),
    }
}

impl Log {
    fn add(&self, bytes: &[u8]) {
        let mut log = self.lock();
        log.kept.extend_from_slice(bytes);
        let surplus = log.kept.len().saturating_sub(KEPT);
        log.kept.drain(..surplus);
        log.lost += surplus;
    }

    fn size(&self) -> usize {
        let log = self.lock();
        log.lost + log.kept.len()
    }

    fn since(&self, since: usize) -> String {
        let log = self.lock();
        let begin = since.saturating_sub(log.lost).min(log.kept.len());
        String::from_utf8_lossy(&log.kept[begin..]).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Logged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Sink {
    log: Log,
    /// Told by the first line.
    listening: Option<oneshot::Sender<()>>,
}

#[async_trait]
impl OutputSink for Sink {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        match self.listening.take_if(|_| stream == Stream::Stdout) {
            // Whoever waited may have given up.
            Some(listening) => drop(listening.send(())),
            None => self.log.add(&bytes),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let log = Log::default();
        log.add(&vec![b'a'; KEPT]);
        log.add(b"the end");
        let text = log.since(0);
        assert!(text.ends_with("aathe end") && text.len() == KEPT);
    }

    #[test]
    fn a_job_is_told_what_was_logged_since_it_began() {
        let log = Log::default();
        log.add(b"of another job\n");
        let began = log.size();
        assert_eq!(log.since(began), "");
        log.add(b"of this one\n");
        assert_eq!(log.since(began), "of this one\n");
        // What came before may be lost by now, and some of this job's with it.
        log.add(&vec![b'b'; KEPT - 5]);
        assert!(log.since(began).starts_with(" one\nbb") && log.since(began).len() == KEPT);
        assert_eq!(log.since(log.size()), "");
    }
}
