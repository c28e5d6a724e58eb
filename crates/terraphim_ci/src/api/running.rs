//! Following one execution to its end: output kept up to a limit, time limit enforced, stopped on request.

use std::{
    fs::File,
    io::{self, Read as _},
    time::Duration,
};

use terraphim_vm::{
    Exec, ExecEvent, Paths, VmError, VmId,
    protocol::{
        frame::{Decoder, Tag},
        message::{ExecExited, ExecFailed},
    },
};
use tokio::time::{Instant, sleep_until};

use serde::{Deserialize, Serialize};

use super::{calls::Call, state::Entered};

/// The most that an answer carries of each output. The rest is with the supervisor and can be streamed.
const MOST_OUTPUT: usize = 4 << 20;
/// Between `SIGTERM` and `SIGKILL`: clients wait fifteen seconds longer than the time limit they ask for.
const GRACE: Duration = Duration::from_secs(5);
/// How long the end of a killed process may take to arrive.
const KILL_LIMIT: Duration = Duration::from_secs(8);

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// One output, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    pub(super) is_cut: bool,
}

impl Kept {
    fn push(&mut self, more: &[u8]) {
        let room = MOST_OUTPUT - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.is_cut |= more.len() > room;
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Both outputs.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
}

/// Why we stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stopped {
    Timeout,
    Cancelled,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ending {
    Exited(ExecExited),
    /// It could not be started.
    Failed(ExecFailed),
    /// Nobody knows how it ended.
    Lost(String),
}

/// Follows `exec` to its end; a stop and `deadline` end it. Why it is stopped is noted in `call` and saved before it gets
/// the signal: whoever takes it up after a crash of ours must not think that it ended by itself.
///
/// # Errors
/// The supervisor cannot be reached any more.
pub(super) async fn follow(
    exec: &mut Exec,
    deadline: Instant,
    entered: &Entered,
    call: &mut Call,
    save: impl Fn(&Call),
) -> Result<(Ending, Output), VmError> {
    let mut output = Output::default();
    // A server before us has sent it the first signal.
    let mut next_step = if call.stopped.is_some() { Instant::now() + GRACE } else { deadline };
    let mut is_killed = false;
    loop {
        let event = tokio::select! {
            event = exec.next() => event?,
            () = entered.stop.cancelled(), if call.stopped.is_none() => {
                call.stopped = Some(Stopped::Cancelled);
                save(call);
                next_step = send(exec, SIGTERM, GRACE).await;
                continue;
            }
            () = sleep_until(next_step) => {
                if is_killed {
                    let why = "it does not end although it was killed".to_owned();
                    return Ok((Ending::Lost(why), output));
                }
                is_killed = call.stopped.is_some();
                if !is_killed {
                    call.stopped = Some(Stopped::Timeout);
                    save(call);
                }
                let (signal, patience) = if is_killed { (SIGKILL, KILL_LIMIT) } else { (SIGTERM, GRACE) };
                next_step = send(exec, signal, patience).await;
                continue;
            }
        };
        match event {
            Some(ExecEvent::Stdout(bytes)) => output.stdout.push(&bytes),
            Some(ExecEvent::Stderr(bytes)) => output.stderr.push(&bytes),
            Some(ExecEvent::Exited(exited)) => return Ok((Ending::Exited(exited), output)),
            Some(ExecEvent::Failed(failed)) => return Ok((Ending::Failed(failed), output)),
            Some(ExecEvent::Lost(why)) => return Ok((Ending::Lost(why), output)),
            Some(ExecEvent::Started(_)) => entered.begun.cancel(),
            Some(ExecEvent::File(_) | ExecEvent::FileData(_)) => {}
            None => return Ok((Ending::Lost("its output ended early".to_owned()), output)),
        }
    }
}

/// Sends a signal; when to try the next step. A process that has just ended takes none, which its last event tells.
async fn send(exec: &Exec, signal: i32, patience: Duration) -> Instant {
    if let Err(error) = exec.signal(signal).await {
        tracing::debug!("signal {signal} for execution {}: {error}", exec.id());
    }
    Instant::now() + patience
}

/// What the supervisor has written so far about an execution; the ending is absent while it runs.
pub(super) fn stored(paths: &Paths, vm: &VmId, exec: &str) -> io::Result<(Option<Ending>, Output)> {
    let (mut output, mut ending) = (Output::default(), None);
    let mut file = match File::open(paths.exec_output(vm, exec)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, output)),
        Err(error) => return Err(error),
    };
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; 256 * 1024]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((ending, output));
        }
        decoder.push(&buffer[..count]);
        while let Some((tag, payload)) = decoder.next().map_err(io::Error::other)? {
            match tag {
                Tag::Stdout => output.stdout.push(payload),
                Tag::Stderr => output.stderr.push(payload),
                Tag::Exited => ending = Some(Ending::Exited(serde_json::from_slice(payload)?)),
                Tag::Failed => ending = Some(Ending::Failed(serde_json::from_slice(payload)?)),
                Tag::Lost => ending = Some(Ending::Lost(String::from_utf8_lossy(payload).into_owned())),
                _ => {}
            }
        }
    }
}
