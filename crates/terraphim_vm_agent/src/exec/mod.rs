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
mod returned;
mod spawn;

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::Response;
use terraphim_vm_protocol::{
    frame::Tag,
    message::{ExecExited, ExecFailed, ExecFailure, ExecRequest, ExecStarted, ExitStatus},
};
use tokio::sync::watch;

use crate::{
    agent::Agent,
    body::{self, BodyWriter, Gone, Refusal},
    view::Namespace,
};
use input::{Input, InputEnd};
use spawn::Process;

/// A failure before the process ran.
fn failed(reason: ExecFailure, message: impl Into<String>) -> ExecFailed {
    ExecFailed { reason, message: message.into() }
}

/// How long the head of the answer waits for the first frame, so that both are one message: each one interrupts the
/// host and costs an emulated guest what a dozen system calls do. A start that takes longer is waiting for a disk.
const HEAD_WAITS: Duration = Duration::from_secs(1);

/// Answers one call.
pub(crate) async fn exec(agent: Rc<Agent>, body: RecvStream, respond: SendResponse<Bytes>) {
    let mut input = Input::new(body);
    let request = match input.request().await {
        Ok(request) => request,
        Err(refusal) => return body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    };
    let view = match find_view(&agent, &request) {
        Ok(view) => view,
        Err(failure) => return send_failure(head(respond), failure).await,
    };
    let return_files = (request.return_files.clone(), request.user.clone(), view.clone());
    match start(&agent, request, view, respond).await {
        (Ok(process), writer) => {
            let tree = process.tree.clone();
            run_and_answer(&agent, process, &mut input, writer, return_files).await;
            // What this execution leaves is put away, and what the next one needs is made, after the answer.
            let groups = agent.groups.clone();
            let tidied = agent.workers.start(move |_| {
                drop(tree);
                if let Some(groups) = groups {
                    groups.make_spare();
                }
            });
            // Without a thread the next execution makes its group itself.
            drop(tidied);
        }
        (Err(failure), writer) => send_failure(writer, failure).await,
    }
}

/// Sends the head of the answer. Without a host there is nobody to answer.
fn head(mut respond: SendResponse<Bytes>) -> Option<BodyWriter> {
    respond.send_response(Response::new(()), false).ok().map(BodyWriter::new)
}

type ReturnFiles = (Vec<String>, Option<String>, Option<Namespace>);

async fn run_and_answer(
    agent: &Agent,
    process: Process,
    input: &mut Input,
    writer: Option<BodyWriter>,
    files: ReturnFiles,
) {
    let Some(mut writer) = writer else {
        process.tree.kill();
        // However it ended: nobody asks any more.
        let _ = process.wait().await;
        return;
    };
    if let Ok(exited) = run(process, input, &mut writer).await {
        // A host that left does not get it.
        let _ = finish(agent, writer, files, exited).await;
    } else if input.is_malformed() {
        writer.abort(Reason::PROTOCOL_ERROR);
    }
}

fn find_view(agent: &Agent, request: &ExecRequest) -> Result<Option<Namespace>, ExecFailed> {
    let Some(name) = &request.view else { return Ok(None) };
    match agent.views.get(name) {
        Some(view) => Ok(Some(view)),
        None => Err(failed(ExecFailure::BadRequest, format!("there is no view `{name}`"))),
    }
}

async fn send_failure(writer: Option<BodyWriter>, failure: ExecFailed) {
    if let Some(writer) = writer {
        // A host that left does not get it.
        let _ = writer.send_last_json(Tag::Failed, &failure).await;
    }
}

/// Starts the process, and the answer when there is something to say.
async fn start(
    agent: &Agent,
    request: ExecRequest,
    view: Option<Namespace>,
    respond: SendResponse<Bytes>,
) -> (Result<Process, ExecFailed>, Option<BodyWriter>) {
    let groups = agent.groups.clone();
    let reaper = agent.reaper.clone();
    let work = agent.workers.run(move |seat| spawn::start(seat, &request, view, groups.as_deref(), &reaper));
    tokio::pin!(work);
    let (spawned, writer) = tokio::select! {
        biased;
        spawned = &mut work => (spawned, head(respond)),
        () = tokio::time::sleep(HEAD_WAITS) => {
            let writer = head(respond);
            (work.await, writer)
        }
    };
    let refused = |refusal: Refusal| failed(ExecFailure::Resources, refusal.message);
    (spawned.map_err(refused).and_then(|started| started), writer)
}

/// From `Started` until the process and everything it started has ended and all output is sent.
async fn run(mut process: Process, input: &mut Input, writer: &mut BodyWriter) -> Result<ExecExited, Gone> {
    let tree = process.tree.clone();
    let started = ExecStarted { pid: process.pid, spawn_us: process.spawn_us };
    let has_host = writer.send_json(Tag::Started, &started).await.is_ok();
    let (ended_sender, ended) = watch::channel(false);
    let mut outputs = std::mem::take(&mut process.outputs);
    let mut stdin = process.stdin.take();
    let terminal = process.terminal.take();

    let wait = async {
        let exited = process.wait().await;
        ended_sender.send_replace(true);
        exited
    };
    let pump = async {
        let pumped = if has_host { output::pump(&mut outputs, writer, ended).await } else { Err(Gone) };
        if pumped.is_err() {
            tree.kill();
        }
        pumped
    };
    let work = async { tokio::join!(wait, pump) };
    let control = input.control(&mut stdin, terminal.as_ref(), &tree);
    tokio::pin!(work, control);
    let (exited, pumped) = tokio::select! {
        both = &mut work => both,
        InputEnd = &mut control => {
            tree.kill();
            // However it ended: nobody asks any more.
            let _ = work.await;
            return Err(Gone);
        }
    };
    pumped.and(exited.map_err(|_| Gone))
}

async fn finish(
    agent: &Agent,
    mut writer: BodyWriter,
    (paths, user, view): ReturnFiles,
    exited: ExecExited,
) -> Result<(), Gone> {
    if !paths.is_empty() {
        returned::send(&agent.workers, &mut writer, paths, user, view).await?;
    }
    writer.send_last_json(Tag::Exited, &exited).await
}

/// The status in the words of the protocol.
fn exit_status(status: &rustix::process::WaitIdStatus) -> Option<ExitStatus> {
    status.exit_status().map(ExitStatus::Code).or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
