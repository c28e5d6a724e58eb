//! `POST /v1/exec`: one process from its request to its last frame.
//!
//! ```text
//! request -> start -> Started -> { outputs -> Stdout/Stderr | input -> stdin, signals | wait } -> files -> Exited
//!               `-> Failed
//! ```
//!
//! The three things in braces run side by side. The host leaving, or a frame that makes no sense, kills the tree; the
//! process then ends like any other and is cleaned up the same way.

mod child;
mod input;
mod output;
mod plan;
mod reply;
mod returned;
mod spawn;
mod texts;
mod written;

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use terraphim_vm_protocol::{
    frame::Tag,
    message::{ExecExited, ExecFailed, ExecFailure, ExecRequest, ExecStarted, ExitStatus},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    agent::Agent,
    body::{self, Gone},
    view::Namespace,
};
use input::{Input, InputEnd};
use reply::Reply;
use returned::Wanted;
use spawn::{Process, Remains};

/// A failure before the process ran.
fn failed(reason: ExecFailure, message: impl Into<String>) -> ExecFailed {
    ExecFailed { reason, message: message.into() }
}

/// How long the answer of a process that says nothing waits for its end, see [`reply`]: most commands of a job are that
/// short, and nobody needs to know sooner that they run.
const STARTED_WAITS: Duration = Duration::from_millis(50);
/// The same for one that somebody may write to as soon as it is known.
const STARTED_WAITS_FOR_INPUT: Duration = Duration::from_millis(5);
/// How long what a process left running may still say something, once the process has ended: GitHub's runner waits as long for
/// the end of the outputs (`ProcessInvoker` in actions/runner).
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the head of the answer waits for the process. A start that takes longer is waiting for a disk.
const HEAD_WAITS: Duration = Duration::from_secs(1);

/// Answers one call.
pub(crate) async fn exec(agent: Rc<Agent>, body: RecvStream, respond: SendResponse<Bytes>) {
    let mut input = Input::new(body);
    let request = match input.request().await {
        Ok(request) => request,
        Err(refusal) => return body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    };
    let mut reply = Reply::new(respond);
    let view = match find_view(&agent, &request) {
        Ok(view) => view,
        Err(failure) => return reply.finish(Tag::Failed, &failure).await,
    };
    let (return_files, keep_left) = (request.return_files.clone(), request.keep_left.clone());
    let patience = match request.stdin || request.terminal.is_some() {
        true => STARTED_WAITS_FOR_INPUT,
        false => STARTED_WAITS,
    };
    let mut process = match start(&agent, request, view.clone(), &mut reply).await {
        Ok(process) => process,
        Err(failure) => return reply.finish(Tag::Failed, &failure).await,
    };
    let wanted =
        Wanted { paths: return_files, user: process.user.clone(), view, blank: process.blank.take() };
    let (exited, remains) = run(process, &mut input, &mut reply, (patience, keep_left.is_some())).await;
    match exited {
        Ok(exited) => finish(&agent, reply, wanted, exited).await,
        Err(Gone) if input.is_malformed() => reply.abort(Reason::PROTOCOL_ERROR),
        Err(Gone) => {}
    }
    // The connection's own task writes the answer; only after that there is time for the rest.
    tokio::task::yield_now().await;
    if let Some((tree, outputs)) = remains.put_away(agent.groups.as_deref()) {
        for output in outputs {
            tokio::task::spawn_local(output::drain(output));
        }
        agent.left.keep(keep_left.unwrap_or_default(), tree);
    }
}

fn find_view(agent: &Agent, request: &ExecRequest) -> Result<Option<Namespace>, ExecFailed> {
    let Some(name) = &request.view else { return Ok(None) };
    match agent.views.get(name) {
        Some(view) => Ok(Some(view)),
        None => Err(failed(ExecFailure::BadRequest, format!("there is no view `{name}`"))),
    }
}

/// Starts the process; tells the host nothing yet unless that takes long.
async fn start(
    agent: &Agent,
    request: ExecRequest,
    view: Option<Namespace>,
    reply: &mut Reply,
) -> Result<Process, ExecFailed> {
    let groups = agent.groups.clone();
    let reaper = agent.reaper.clone();
    let work = agent.workers.run(move |seat| spawn::start(seat, &request, view, groups.as_deref(), &reaper));
    tokio::pin!(work);
    let spawned = tokio::select! {
        biased;
        spawned = &mut work => spawned,
        () = tokio::time::sleep(HEAD_WAITS) => {
            // A host that left is noticed when there is a process to end.
            let _ = reply.writer().await;
            work.await
        }
    };
    spawned.map_err(|refusal| failed(ExecFailure::Resources, refusal.message))?
}

/// Whether a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It runs.
    NotYet,
    /// It has, and nothing is left of it: what it said is all there is.
    All,
    /// It has, and something goes on that may say more; nobody listens after this moment.
    LeftSome(Instant),
}

/// From `Started` until the process and everything it started has ended, or is to go on without it, and all output is sent.
async fn run(
    mut process: Process,
    input: &mut Input,
    reply: &mut Reply,
    (patience, keeps): (Duration, bool),
) -> (Result<ExecExited, Gone>, Remains) {
    let tree = process.tree.clone();
    reply.hold_json(Tag::Started, &ExecStarted { pid: process.pid, spawn_us: process.spawn_us });
    let (ended_sender, ended) = watch::channel(End::NotYet);
    let sources = std::mem::take(&mut process.outputs);
    let mut outputs = Vec::new();
    let mut stdin = process.stdin.take();
    let terminal = process.terminal.take();

    let wait = async {
        let (exited, remains) = process.wait(keeps).await;
        let left_some = remains.goes_on.then(|| End::LeftSome(Instant::now() + LAST_WORDS));
        ended_sender.send_replace(left_some.unwrap_or(End::All));
        (exited, remains)
    };
    let pump = async {
        let pumped = output::pump(sources, &mut outputs, reply, (ended, patience)).await;
        if pumped.is_err() {
            tree.kill();
        }
        pumped
    };
    let (exited, mut remains) = {
        let work = async { tokio::join!(wait, pump) };
        let control = input.control(&mut stdin, terminal.as_ref(), &tree);
        tokio::pin!(work, control);
        tokio::select! {
            ((exited, remains), pumped) = &mut work => (pumped.and(exited.map_err(|_| Gone)), remains),
            InputEnd = &mut control => {
                tree.kill();
                // However it ended: nobody asks any more.
                let ((_, remains), _) = work.await;
                (Err(Gone), remains)
            }
        }
    };
    remains.outputs = outputs;
    (exited, remains)
}

async fn finish(agent: &Agent, mut reply: Reply, wanted: Wanted, exited: ExecExited) {
    if returned::send(&agent.workers, &mut reply, wanted).await.is_ok() {
        reply.finish(Tag::Exited, &exited).await;
    }
}

/// The status in the words of the protocol.
fn exit_status(status: &rustix::process::WaitIdStatus) -> Option<ExitStatus> {
    status.exit_status().map(ExitStatus::Code).or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
