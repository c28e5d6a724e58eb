//! Runs processes of this machine as if it were a VM.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use terraphim_github_runner::engine::Layout;
use terraphim_github_runner::{
    Capabilities, CommandExecutor, CommandResult, Exit, GitHubRunnerError, LeftProcess, Mount, OutputSink,
    ProcessOutcome, ProcessSpec, Result, ReturnedFile, Session, StopReason, Stream, VmProvider,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

static LISTENING: Once = Once::new();

/// A shell that starts these tests in the background (`cmd &`) has them ignore what Ctrl-C sends, and so would the processes
/// of a step, which cannot even trap it then (POSIX, "Asynchronous Lists"). Done once here and not between fork and exec of
/// each: without that, the processes are spawned without a copy of this one's page tables.
fn listen() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: sets nothing but this process's disposition, and no handler of ours is lost by it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A directory that stands for the file systems of all VMs: what is below `guest` is, for a process in a view, below
/// the directory of that view.
pub(crate) struct HostExecutor {
    root: PathBuf,
    capabilities: Capabilities,
    /// The process that is started when this many were started before is lost with its VM.
    pub(crate) lose: Option<usize>,
    started: AtomicUsize,
    /// What processes left running, by the name it is kept under.
    left: Mutex<HashMap<String, Vec<Group>>>,
}

impl HostExecutor {
    pub(crate) fn new(root: &Path) -> HostExecutor {
        let capabilities = Capabilities { files: true, views: true, streaming: true, snapshots: false };
        LISTENING.call_once(listen);
        let (started, left) = (AtomicUsize::new(0), Mutex::default());
        HostExecutor { root: root.to_owned(), capabilities, lose: None, started, left }
    }

    pub(crate) fn without_views(mut self) -> HostExecutor {
        self.capabilities.views = false;
        self
    }

    pub(crate) fn layout(root: &Path) -> Layout {
        let path = |name: &str| root.join("guest").join(name).display().to_string();
        Layout {
            root: path("workspace"),
            scratch: root.join("scratch").display().to_string(),
            memory: root.join("memory").display().to_string(),
            file_commands: path("file_commands"),
            home: path("home"),
            tmp: path("tmp"),
            tool_cache: path("tools"),
            path: std::env::var("PATH").unwrap(),
            user: None,
        }
    }

    /// A text of the guest as a process in the view has to see it.
    fn map(&self, session: &Session, view: Option<&str>, text: &str) -> String {
        let guest = format!("{}/", self.root.join("guest").display());
        let place = format!("{}/", self.root.join("views").join(&session.vm_id).display());
        let Some(view) = view else { return text.to_owned() };
        let (own, actions) = (format!("{place}{view}/"), "workspace/_actions/");
        // What no view has for itself is the same in all of them.
        text.replace(&guest, &own).replace(&format!("{own}{actions}"), &format!("{guest}{actions}"))
    }

    fn command(&self, session: &Session, spec: &ProcessSpec) -> Command {
        let map = |text: &str| self.map(session, spec.view.as_deref(), text);
        for file in &spec.write_files {
            write(Path::new(&map(&file.path)), &map(&file.content));
        }
        let env: Vec<(&String, String)> = spec.env.iter().map(|(name, value)| (name, map(value))).collect();
        let program = map(&spec.argv[0]);
        // Where the standard library has to search another path than its own, it copies this process for that (`fork`).
        let mut command = Command::new(found(&program, &env).unwrap_or_else(|| PathBuf::from(&program)));
        command.arg0(&program).args(spec.argv[1..].iter().map(|arg| map(arg))).env_clear().envs(env);
        command.current_dir(map(&spec.cwd)).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Mostly the directory is there.
fn write(path: &Path, content: &str) {
    if std::fs::write(path, content).is_err() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// The program of this name in the search path that `env` has.
fn found(program: &str, env: &[(&String, String)]) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    if program.contains('/') {
        return None;
    }
    // A later one replaces an earlier one.
    let (_, path) = env.iter().rfind(|(name, _)| *name == "PATH")?;
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|directory| directory.join(program)).find(is_program)
}

#[derive(Debug, thiserror::Error)]
#[error("the VM is gone")]
struct Gone;

#[async_trait]
impl CommandExecutor for HostExecutor {
    async fn execute(&self, _: &Session, _: &str, _: Duration, _: &str) -> Result<CommandResult> {
        unreachable!("the engine runs processes")
    }

    async fn run_process(
        &self,
        session: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        cancel: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        if self.lose == Some(number) {
            return Err(GitHubRunnerError::failed(format!("run a process in VM {}", session.vm_id), Gone));
        }
        let begin = Instant::now();
        let mut child = match self.command(session, spec).spawn() {
            Ok(child) => child,
            Err(error) => {
                output.write(Stream::Stderr, format!("{error}\n").into()).await?;
                return Ok(outcome(Exit::Code(127), None, Vec::new(), begin));
            }
        };
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap());
        let (exit, stopped) = follow(&mut child, &group, spec, output, cancel).await?;
        if let (Some(name), None) = (&spec.keep_left, stopped) {
            self.left.lock().unwrap().entry(name.clone()).or_default().push(group);
        }
        let files = spec.return_files.iter().map(|path| ReturnedFile {
            path: path.clone(),
            content: std::fs::read(self.map(session, spec.view.as_deref(), path)).ok().map(Bytes::from),
        });
        Ok(outcome(exit, stopped, files.collect(), begin))
    }

    async fn upload(
        &self,
        _: &Session,
        directory: &str,
        mut tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        std::fs::create_dir_all(directory).unwrap();
        let mut command = Command::new("tar");
        let mut child = command.args(["-x", "-C", directory]).stdin(Stdio::piped()).spawn().unwrap();
        tokio::io::copy(&mut tar, &mut child.stdin.take().unwrap()).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        Ok(())
    }

    async fn create_view(&self, session: &Session, name: &str, mounts: &[Mount]) -> Result<()> {
        for mount in mounts {
            let (Mount::Bind { target, .. } | Mount::Overlay { target, .. }) = mount;
            let target = self.map(session, Some(name), target);
            std::fs::create_dir_all(&target).unwrap();
            if let Mount::Overlay { lower, .. } = mount {
                std::fs::create_dir_all(lower).unwrap();
                let from = format!("{lower}/.");
                let copy = Command::new("cp").args(["-a", &from, &target]).status().await.unwrap();
                assert!(copy.success());
            }
        }
        Ok(())
    }

    /// Says nothing about what that was.
    async fn end_left(&self, _: &Session, name: &str) -> Result<Vec<LeftProcess>> {
        self.left.lock().unwrap().remove(name);
        Ok(Vec::new())
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

fn outcome(
    exit: Exit,
    stopped: Option<StopReason>,
    files: Vec<ReturnedFile>,
    begin: Instant,
) -> ProcessOutcome {
    ProcessOutcome { exit, stopped, files, duration: begin.elapsed() }
}

/// A process group that is killed when nobody follows it any more.
#[derive(Debug)]
struct Group(Pid);

impl Group {
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn follow(
    child: &mut Child,
    group: &Group,
    spec: &ProcessSpec,
    output: &mut (dyn OutputSink + Send),
    cancel: &CancellationToken,
) -> Result<(Exit, Option<StopReason>)> {
    let (mut stdout, mut stderr) = (Pipe::new(child.stdout.take()), Pipe::new(child.stderr.take()));
    let mut stopped = None;
    let mut exit = None;
    let deadline = tokio::time::sleep(spec.timeout);
    let ladder = tokio::time::sleep(Duration::ZERO);
    // GitHub's runner waits so long for the outputs of a process that has ended.
    let last_words = tokio::time::sleep(Duration::from_secs(5));
    tokio::pin!(deadline, ladder, last_words);
    let mut rung = 0;
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled(), if stopped.is_none() && exit.is_none() => stopped = Some(StopReason::Cancelled),
            () = &mut deadline, if stopped.is_none() && exit.is_none() => stopped = Some(StopReason::Timeout),
            () = &mut ladder, if stopped.is_some() && exit.is_none() && rung < 3 => {
                let (signal, wait) = [
                    (Signal::INT, spec.stop.interrupt),
                    (Signal::TERM, spec.stop.terminate),
                    (Signal::KILL, Duration::ZERO),
                ][rung];
                group.signal(signal);
                rung += 1;
                ladder.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            bytes = stdout.next(), if stdout.is_open() => output.write(Stream::Stdout, bytes).await?,
            bytes = stderr.next(), if stderr.is_open() => output.write(Stream::Stderr, bytes).await?,
            status = child.wait(), if exit.is_none() => {
                exit = Some(exit_of(status.unwrap()));
                last_words.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(5));
                if spec.keep_left.is_none() {
                    // What it left behind would hold its output open.
                    group.signal(Signal::KILL);
                }
            }
            () = &mut last_words,
                if exit.is_some() && spec.keep_left.is_some() && (stdout.is_open() || stderr.is_open()) =>
            {
                break;
            }
            else => break,
        }
    }
    let exit = match exit {
        Some(exit) => exit,
        None => exit_of(child.wait().await.unwrap()),
    };
    Ok((exit, stopped))
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().map_or_else(|| Exit::Signal(status.signal().unwrap()), Exit::Code)
}

/// One of the two outputs of a process.
struct Pipe<P> {
    /// None at its end.
    from: Option<P>,
    buffer: BytesMut,
}

impl<P: AsyncRead + Unpin> Pipe<P> {
    fn new(from: Option<P>) -> Pipe<P> {
        Pipe { from, buffer: BytesMut::new() }
    }

    fn is_open(&self) -> bool {
        self.from.is_some()
    }

    /// What comes next; nothing at the end. May be dropped at any time.
    async fn next(&mut self) -> Bytes {
        let from = self.from.as_mut().expect("it is open");
        self.buffer.reserve(64 * 1024);
        if let Ok(0) | Err(_) = from.read_buf(&mut self.buffer).await {
            self.from = None;
        }
        self.buffer.split().freeze()
    }
}

/// Counts the VMs it gives and takes.
#[derive(Default)]
pub(crate) struct Provider {
    pub(crate) given: Mutex<Vec<String>>,
    pub(crate) taken: Mutex<Vec<String>>,
}

#[async_trait]
impl VmProvider for Provider {
    async fn allocate(&self, vm_type: &str) -> Result<(String, Duration)> {
        let mut given = self.given.lock().unwrap();
        let id = format!("vm-{}-{vm_type}", given.len());
        given.push(id.clone());
        Ok((id, Duration::ZERO))
    }

    async fn release(&self, vm_id: &str) -> Result<()> {
        self.taken.lock().unwrap().push(vm_id.to_owned());
        Ok(())
    }
}
