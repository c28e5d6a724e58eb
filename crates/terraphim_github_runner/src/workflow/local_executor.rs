//! Runs commands in VMs of this host.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use terraphim_vm::protocol::call::FilesQuery;
use terraphim_vm::protocol::message::{
    EndedProcess, ExecFailed, ExecFailure, ExecRequest, ExitStatus, FileHeader, FileWrite, View, ViewMount,
};
use terraphim_vm::{Exec, ExecEvent, Host, VmClient, VmError, VmId};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::executor::{CommandExecutor, CommandResult};
use super::process::{
    Capabilities, Exit, FileToWrite, LeftProcess, Mount, OutputSink, ProcessOutcome, ProcessSpec,
    ReturnedFile, StopReason, Stream,
};
use crate::error::{BoxError, GitHubRunnerError, Result};
use crate::session::Session;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// How long the end of a killed process may take to arrive. The guest kills at once; a host under load is slow.
const KILL_LIMIT: Duration = Duration::from_secs(60);
/// The most that is kept of a returned file.
const MAX_RETURNED: usize = 16 << 20;
/// The most that [`execute`](CommandExecutor::execute) keeps of each output.
const MAX_OUTPUT: usize = 16 << 20;

/// Runs commands in VMs of this host, through their supervisors.
#[derive(Clone)]
pub struct LocalCommandExecutor {
    host: Host,
    user: Option<String>,
    /// By id of the VM. A step would otherwise open the registry to find the socket that the step before it used.
    // A std mutex: held for a look or an insertion.
    clients: Arc<Mutex<HashMap<String, VmClient>>>,
}

/// The user that our images have for steps; it may become root with sudo.
const USER: &str = "runner";

impl LocalCommandExecutor {
    /// Commands that name no user run as `runner`, who also owns the files that are put into a VM.
    #[must_use]
    pub fn new(host: Host) -> Self {
        LocalCommandExecutor { host, user: Some(USER.to_owned()), clients: Arc::default() }
    }

    /// Another user instead of `runner`; root if `None`.
    #[must_use]
    pub fn with_user(self, user: Option<String>) -> Self {
        LocalCommandExecutor { user, ..self }
    }

    fn client(&self, session: &Session) -> Result<VmClient> {
        let failed =
            |source: BoxError| GitHubRunnerError::failed(format!("reach VM {}", session.vm_id), source);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(&session.vm_id).filter(|known| known.has_socket()) {
            return Ok(known.clone());
        }
        let id: VmId = session.vm_id.parse().map_err(|error| failed(Box::new(error)))?;
        // Only VMs that are used now are kept in mind.
        clients.retain(|_, client| client.has_socket());
        let client = self.host.client(&id).map_err(|error| failed(Box::new(error)))?;
        clients.insert(session.vm_id.clone(), client.clone());
        Ok(client)
    }

    fn request(&self, spec: &ProcessSpec) -> ExecRequest {
        let write = |file: &super::FileToWrite| FileWrite {
            path: file.path.clone(),
            content: file.content.clone(),
            mode: file.mode,
        };
        ExecRequest {
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            inherit_env: true,
            cwd: Some(spec.cwd.clone()),
            user: spec.user.clone().or_else(|| self.user.clone()),
            view: spec.view.clone(),
            write_files: spec.write_files.iter().filter(|file| !is_large(file)).map(write).collect(),
            return_files: spec.return_files.clone(),
            keep_left: spec.keep_left.clone(),
            ..ExecRequest::default()
        }
    }
}

#[async_trait]
impl CommandExecutor for LocalCommandExecutor {
    async fn execute(
        &self,
        session: &Session,
        command: &str,
        timeout: Duration,
        working_dir: &str,
    ) -> Result<CommandResult> {
        let spec = ProcessSpec::shell(command, working_dir, timeout);
        let mut output = Kept::default();
        let outcome = self.run_process(session, &spec, &mut output, &CancellationToken::new()).await?;
        if outcome.stopped == Some(StopReason::Timeout) {
            return Err(GitHubRunnerError::CommandTimedOut { after: timeout });
        }
        Ok(CommandResult {
            exit_code: outcome.exit.shell_code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            duration: outcome.duration,
        })
    }

    async fn run_process(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        cancel: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        let failed = |error| failed(session, error);
        let client = self.client(session)?;
        for file in spec.write_files.iter().filter(|file| is_large(file)) {
            self.put_file(&client, spec, file).await.map_err(failed)?;
        }
        let exec = match client.exec(&self.request(spec)).await {
            // Linux has limits of that size too (execve(2)): it is the command that is at fault.
            Err(VmError::Refused { status: 413, .. }) => {
                let text = Bytes::from_static(b"its arguments and variables are too long\n");
                output.write(Stream::Stderr, text).await?;
                return Ok(not_started(Exit::Code(126)));
            }
            started => started.map_err(failed)?,
        };
        let mut running = Running::new(exec, spec);
        loop {
            match running.next(session, cancel).await? {
                None => return Err(GitHubRunnerError::failed(what(session), Unfinished)),
                Some(ExecEvent::Started(_)) => {}
                Some(ExecEvent::Stdout(bytes)) => output.write(Stream::Stdout, bytes).await?,
                Some(ExecEvent::Stderr(bytes)) => output.write(Stream::Stderr, bytes).await?,
                Some(ExecEvent::File(header)) => running.begin_file(&header, output).await?,
                Some(ExecEvent::FileData(bytes)) => running.add_to_file(&bytes),
                Some(ExecEvent::Exited(exited)) => {
                    let exit = match exited.status {
                        ExitStatus::Code(code) => Exit::Code(code),
                        ExitStatus::Signal(signal) => Exit::Signal(signal),
                    };
                    return Ok(running.finish(exit, Duration::from_micros(exited.duration_us)));
                }
                Some(ExecEvent::Failed(failure)) => {
                    let exit = refused(session, failure, output).await?;
                    return Ok(running.finish(exit, Duration::ZERO));
                }
                Some(ExecEvent::Lost(reason)) => {
                    running.is_over = true;
                    return Err(GitHubRunnerError::failed(what(session), VmLost(reason)));
                }
            }
        }
    }

    async fn upload(
        &self,
        session: &Session,
        guest_dir: &str,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        self.put(session, guest_dir, self.user.as_deref(), tar).await
    }

    /// The files are root's.
    async fn upload_read_only(
        &self,
        session: &Session,
        guest_dir: &str,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        self.put(session, guest_dir, None, tar).await
    }

    async fn download(
        &self,
        session: &Session,
        guest_path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let reader = self.client(session)?.download(guest_path).await;
        let reader = reader.map_err(|error| {
            GitHubRunnerError::failed(format!("get {guest_path} of VM {}", session.vm_id), error)
        })?;
        Ok(Box::new(Box::pin(reader)))
    }

    async fn create_view(&self, session: &Session, name: &str, mounts: &[Mount]) -> Result<()> {
        let view =
            View { name: name.to_owned(), mounts: mounts.iter().map(|mount| self.mount(mount)).collect() };
        let made = self.client(session)?.create_view(&view).await;
        made.map_err(|error| {
            GitHubRunnerError::failed(format!("make the view {name} in VM {}", session.vm_id), error)
        })
    }

    async fn end_left(&self, session: &Session, name: &str) -> Result<Vec<LeftProcess>> {
        let ended = self.client(session)?.end_left(name).await.map_err(|error| {
            GitHubRunnerError::failed(format!("end the processes of {name} in VM {}", session.vm_id), error)
        })?;
        let of_guest = |process: EndedProcess| LeftProcess { pid: process.pid, name: process.name };
        Ok(ended.processes.into_iter().map(of_guest).collect())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { files: true, views: true, streaming: true, snapshots: false }
    }
}

impl LocalCommandExecutor {
    async fn put(
        &self,
        session: &Session,
        guest_dir: &str,
        owner: Option<&str>,
        tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        let uploaded = self.client(session)?.upload(guest_dir, owner, SharedReader(tar.into())).await;
        uploaded.map_err(|error| {
            GitHubRunnerError::failed(format!("put files into {guest_dir} of VM {}", session.vm_id), error)
        })
    }

    /// Writes a file that is too large to go with the request of its process.
    async fn put_file(
        &self,
        client: &VmClient,
        spec: &ProcessSpec,
        file: &FileToWrite,
    ) -> Result<(), VmError> {
        let (directory, name) = file.path.rsplit_once('/').unwrap_or_default();
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_size(file.content.len() as u64);
        let mut tar = tar::Builder::new(Vec::new());
        let packed =
            tar.append_data(&mut header, name, file.content.as_bytes()).and_then(|()| tar.into_inner());
        let packed = packed.map_err(|source| VmError::Io {
            operation: "pack",
            path: file.path.clone().into(),
            source,
        })?;
        let place = FilesQuery {
            path: format!("{directory}/"),
            owner: spec.user.clone().or_else(|| self.user.clone()),
            view: spec.view.clone(),
        };
        client.upload_to(&place, io::Cursor::new(packed)).await
    }

    fn mount(&self, mount: &Mount) -> ViewMount {
        let owner = |owner: &Option<String>| owner.clone().or_else(|| self.user.clone());
        match mount {
            Mount::Bind { source, target, owner: who, mode } => ViewMount::Bind {
                source: source.clone(),
                target: target.clone(),
                owner: owner(who),
                mode: *mode,
            },
            Mount::Overlay { lower, upper, target, owner: who } => ViewMount::Overlay {
                lower: lower.clone(),
                upper: upper.clone(),
                target: target.clone(),
                owner: owner(who),
            },
        }
    }
}

/// Whether a file is sent before its process instead of with it: a request has 1 MiB at most, and its JSON may be longer than
/// what it holds.
fn is_large(file: &FileToWrite) -> bool {
    file.content.len() > 64 * 1024
}

/// What became of a process that never was.
fn not_started(exit: Exit) -> ProcessOutcome {
    ProcessOutcome { exit, stopped: None, files: Vec::new(), duration: Duration::ZERO }
}

/// A process in a VM that is followed. Dropping it before its end kills the process.
struct Running<'a> {
    exec: Option<Exec>,
    spec: &'a ProcessSpec,
    deadline: Instant,
    stop: Option<StopReason>,
    /// The signal to send next, and when.
    ladder: Option<(i32, Instant)>,
    files: Vec<Option<BytesMut>>,
    file: Option<usize>,
    /// A file could not be returned.
    has_lost_file: bool,
    is_over: bool,
}

impl<'a> Running<'a> {
    fn new(exec: Exec, spec: &'a ProcessSpec) -> Self {
        Running {
            exec: Some(exec),
            spec,
            deadline: Instant::now() + spec.timeout,
            stop: None,
            ladder: None,
            files: vec![None; spec.return_files.len()],
            file: None,
            has_lost_file: false,
            is_over: false,
        }
    }

    /// The next event; meanwhile the process is stopped when its time is up or `cancel` says so.
    async fn next(&mut self, session: &Session, cancel: &CancellationToken) -> Result<Option<ExecEvent>> {
        loop {
            let exec = self.exec.as_mut().expect("taken on drop only");
            let ladder = self.ladder;
            tokio::select! {
                biased;
                () = cancel.cancelled(), if self.stop.is_none() => self.begin_stop(StopReason::Cancelled),
                () = sleep_until(self.deadline), if self.stop.is_none() => self.begin_stop(StopReason::Timeout),
                () = sleep_until(ladder.map_or(self.deadline, |(_, at)| at)), if ladder.is_some() => {
                    self.climb(session).await?;
                }
                event = exec.next() => return event.map_err(|error| failed(session, error)),
            }
        }
    }

    fn begin_stop(&mut self, reason: StopReason) {
        self.stop = Some(reason);
        self.ladder = Some((SIGINT, Instant::now()));
    }

    /// Sends the next signal of the ladder.
    async fn climb(&mut self, session: &Session) -> Result<()> {
        let Some((signal, _)) = self.ladder else { return Ok(()) };
        let exec = self.exec.as_ref().expect("taken on drop only");
        if signal == 0 {
            self.is_over = true;
            return Err(GitHubRunnerError::failed(what(session), Unkillable));
        }
        // A process that ended meanwhile takes no signal: its end is the next event.
        if let Err(error) = exec.signal(signal).await {
            tracing::debug!(vm.id = %session.vm_id, signal, "{error}");
        }
        let stop = self.spec.stop;
        let (next, wait) = match signal {
            SIGINT => (SIGTERM, stop.interrupt),
            SIGTERM => (SIGKILL, stop.terminate),
            _ => (0, KILL_LIMIT),
        };
        self.ladder = Some((next, Instant::now() + wait));
        Ok(())
    }

    async fn begin_file(&mut self, header: &FileHeader, output: &mut (dyn OutputSink + Send)) -> Result<()> {
        self.file = Some(header.index);
        if let Some(error) = &header.error {
            let path = self.spec.return_files.get(header.index).map_or("", String::as_str);
            self.has_lost_file = true;
            output.write(Stream::Stderr, Bytes::from(format!("cannot read {path}: {error}\n"))).await?;
        } else if header.exists
            && let Some(file) = self.files.get_mut(header.index)
        {
            *file = Some(BytesMut::new());
        }
        Ok(())
    }

    /// Keeps part of a file. Whoever asked for it finds by its size that it is cut.
    fn add_to_file(&mut self, bytes: &Bytes) {
        let file = self.file.and_then(|index| self.files.get_mut(index)?.as_mut());
        if let Some(file) = file {
            let room = MAX_RETURNED.saturating_sub(file.len()).min(bytes.len());
            file.extend_from_slice(&bytes[..room]);
        }
    }

    fn finish(mut self, exit: Exit, duration: Duration) -> ProcessOutcome {
        self.is_over = true;
        let contents = std::mem::take(&mut self.files);
        let files = self.spec.return_files.iter().zip(contents).map(|(path, content)| ReturnedFile {
            path: path.clone(),
            content: content.map(BytesMut::freeze),
        });
        // What a process left and nobody could read may have been its result.
        let exit = if self.has_lost_file && exit.is_success() { Exit::Code(1) } else { exit };
        ProcessOutcome { exit, stopped: self.stop, files: files.collect(), duration }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(exec) = self.exec.take().filter(|_| !self.is_over) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = exec.signal(SIGKILL).await {
                    tracing::debug!("cannot stop a process nobody waits for: {error}");
                }
            });
        }
    }
}

/// A process that could not be started: the exit code that a shell would give. What is not the fault of the command
/// is an error.
async fn refused(
    session: &Session,
    failure: ExecFailed,
    output: &mut (dyn OutputSink + Send),
) -> Result<Exit> {
    let code = match failure.reason {
        ExecFailure::BadRequest => {
            return Err(GitHubRunnerError::failed(what(session), BadRequest(failure.message)));
        }
        ExecFailure::NotFound => 127,
        ExecFailure::NotExecutable => 126,
        ExecFailure::WorkingDirectory | ExecFailure::WriteFile | ExecFailure::Resources => 1,
    };
    output.write(Stream::Stderr, Bytes::from(format!("{}\n", failure.message))).await?;
    Ok(Exit::Code(code))
}

fn what(session: &Session) -> String {
    format!("run a process in VM {}", session.vm_id)
}

fn failed(session: &Session, error: terraphim_vm::VmError) -> GitHubRunnerError {
    GitHubRunnerError::failed(what(session), error)
}

/// The VM ended before the process did.
#[derive(Debug, thiserror::Error)]
#[error("the VM was lost: {0}")]
struct VmLost(String);

/// The guest does not accept the process.
#[derive(Debug, thiserror::Error)]
#[error("the guest refuses the process: {0}")]
struct BadRequest(String);

/// The output ended, but not the process.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor did not say how the process ended")]
struct Unfinished;

/// The guest does not react.
#[derive(Debug, thiserror::Error)]
#[error("the process was killed, but its end did not arrive within {KILL_LIMIT:?}")]
struct Unkillable;

/// A reader that only its owner reads: a lock that is never taken makes it shareable, as a request body has to be.
struct SharedReader(Mutex<Box<dyn AsyncRead + Send + Unpin>>);

impl AsyncRead for SharedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let reader = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(reader).poll_read(cx, buf)
    }
}

/// Keeps the beginning of both outputs.
#[derive(Default)]
struct Kept {
    stdout: BytesMut,
    stderr: BytesMut,
}

#[async_trait]
impl OutputSink for Kept {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    let cut = if bytes.len() >= MAX_OUTPUT { "\n[more output was dropped]\n" } else { "" };
    format!("{}{cut}", String::from_utf8_lossy(bytes))
}
