//! Starting the agent, and reading what an execution sends.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt},
    },
    process::{Child, Command},
    time::Duration,
};

use tokio::net::UnixStream;

use crate::{
    agent::{AgentClient, AgentExec},
    protocol::{
        frame::{Decoder, Tag},
        message::{ExecExited, ExecFailed, ExecRequest, ExecStarted, ExitStatus, FileHeader},
    },
};

/// A wait that takes this long is a failure, whatever else the machine does.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A running agent. It ends by itself when the last connection does.
pub(crate) struct Agent(pub(crate) Child);

impl Agent {
    /// Starts the agent with its end of a socket.
    pub(crate) fn start(socket: OwnedFd) -> Agent {
        let number = socket.as_raw_fd();
        let mut command = Command::new(env!("CARGO_BIN_EXE_terraphim_vm_agent"));
        command.args(["serve", "--fd", &number.to_string()]);
        // SAFETY: fcntl(2) is a system call; only the child's copy of the descriptor changes.
        unsafe {
            command.pre_exec(move || match libc::fcntl(number, libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        Agent(command.spawn().unwrap())
    }

    /// An agent and the host's end of its socket.
    pub(crate) fn pair() -> (Agent, UnixStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        (Agent::start(theirs.into()), stream(ours))
    }

    /// An agent and a client.
    pub(crate) async fn connected() -> (Agent, AgentClient) {
        let (agent, stream) = Agent::pair();
        (agent, AgentClient::connect(stream, LIMIT).await.unwrap())
    }

    /// Waits for the end that the last connection's end causes.
    pub(crate) async fn ended(mut self) {
        let waited = tokio::task::spawn_blocking(move || self.0.wait().unwrap());
        let status = tokio::time::timeout(LIMIT, waited).await.expect("the agent ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

pub(crate) fn stream(stream: StdStream) -> UnixStream {
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

pub(crate) fn command(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: argv.iter().map(|text| (*text).to_owned()).collect(),
        inherit_env: true,
        cwd: Some("/".to_owned()),
        ..ExecRequest::default()
    }
}

pub(crate) fn shell(script: &str) -> ExecRequest {
    command(&["sh", "-c", script])
}

/// Frames one by one.
pub(crate) struct Frames {
    exec: AgentExec,
    decoder: Decoder,
}

impl Frames {
    pub(crate) fn new(exec: AgentExec) -> Frames {
        Frames { exec, decoder: Decoder::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<(Tag, Vec<u8>)> {
        loop {
            if let Some((tag, payload)) = self.decoder.next().unwrap() {
                return Some((tag, payload.to_vec()));
            }
            let chunk = tokio::time::timeout(LIMIT, self.exec.next_chunk()).await.expect("a frame");
            match chunk.unwrap() {
                Some(bytes) => self.decoder.push(&bytes),
                None => {
                    assert!(self.decoder.is_at_boundary());
                    return None;
                }
            }
        }
    }

    /// The next output frames until they hold a line.
    pub(crate) async fn line(&mut self) -> (Tag, String) {
        let (tag, mut text) = self.next().await.unwrap();
        while !text.ends_with(b"\n") {
            let (next, more) = self.next().await.unwrap();
            assert_eq!(next, tag);
            text.extend(more);
        }
        (tag, String::from_utf8(text).unwrap().trim_end().to_owned())
    }

    pub(crate) async fn started(&mut self) -> ExecStarted {
        let (tag, json) = self.next().await.unwrap();
        assert_eq!(tag, Tag::Started, "{}", String::from_utf8_lossy(&json));
        serde_json::from_slice(&json).unwrap()
    }

    /// Everything from here to the end.
    pub(crate) async fn rest(mut self) -> Output {
        let mut output = Output::default();
        while let Some((tag, payload)) = self.next().await {
            assert!(output.exited.is_none() && output.failed.is_none(), "{tag:?} after the last frame");
            match tag {
                Tag::Started => {}
                Tag::Stdout => output.stdout.extend(payload),
                Tag::Stderr => output.stderr.extend(payload),
                Tag::File => output.files.push((serde_json::from_slice(&payload).unwrap(), Vec::new())),
                Tag::FileData => output.files.last_mut().unwrap().1.extend(payload),
                Tag::Exited => output.exited = Some(serde_json::from_slice(&payload).unwrap()),
                Tag::Failed => output.failed = Some(serde_json::from_slice(&payload).unwrap()),
                other => panic!("unexpected {other:?}"),
            }
        }
        output
    }
}

/// All that an execution sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) files: Vec<(FileHeader, Vec<u8>)>,
    pub(crate) exited: Option<ExecExited>,
    pub(crate) failed: Option<ExecFailed>,
}

impl Output {
    pub(crate) fn status(&self) -> ExitStatus {
        self.exited.unwrap_or_else(|| panic!("{self:?}")).status
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Runs a command to its end.
pub(crate) async fn run(client: &AgentClient, request: &ExecRequest) -> Output {
    let (exec, _input) = client.exec(request).await.unwrap();
    Frames::new(exec).rest().await
}

/// Waits until a process that is not a child has ended.
pub(crate) async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let waited = tokio::task::spawn_blocking(move || {
        let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return true;
        };
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0
    });
    assert!(waited.await.unwrap(), "process {pid:?} lives");
}
