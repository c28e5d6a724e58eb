//! `POST /v1/exec`: one process from its request to its last frame.
//!
//! ```text
//! request -> start -> Started -> { outputs -> Stdout/Stderr | input -> stdin, signals | wait } -> files -> Exited
//!               `-> Failed
//! ```
//!
//! The three things in braces run side by side. The host leaving, or a frame that makes no sense, kills the tree; the
//! process then ends like any other and is cleaned up the same way.

mod input;
mod output;
mod plan;
mod returned;
mod spawn;

use std::rc::Rc;

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
    body::{self, BodyWriter, Gone},
    view::{Namespace, on_own_thread},
};
use input::{Input, InputEnd};
use spawn::Process;

/// A failure before the process ran.
fn failed(reason: ExecFailure, message: impl Into<String>) -> ExecFailed {
    ExecFailed { reason, message: message.into() }
}

/// Answers one call.
pub(crate) async fn exec(agent: Rc<Agent>, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut input = Input::new(body);
    let request = match input.request().await {
        Ok(request) => request,
        Err(refusal) => return body::answer(respond, refusal.status, refusal.message.into_bytes()).await,
    };
    let Ok(stream) = respond.send_response(Response::new(()), false) else { return };
    let mut writer = BodyWriter::new(stream);
    let view = match find_view(&agent, &request) {
        Ok(view) => view,
        Err(failure) => return send_failure(writer, failure).await,
    };
    let return_files = (request.return_files.clone(), request.user.clone(), view.clone());
    match start(&agent, request, view).await {
        Ok(process) => {
            if let Ok(exited) = run(process, &mut input, &mut writer).await {
                let (paths, user, view) = return_files;
                let sent = finish(&mut writer, paths, user, view, exited).await;
                return if sent.is_ok() { writer.finish() } else { drop(writer) };
            }
            if input.is_malformed() {
                writer.abort(Reason::PROTOCOL_ERROR);
            }
        }
        Err(failure) => send_failure(writer, failure).await,
    }
}

fn find_view(agent: &Agent, request: &ExecRequest) -> Result<Option<Namespace>, ExecFailed> {
    let Some(name) = &request.view else { return Ok(None) };
    match agent.views.get(name) {
        Some(view) => Ok(Some(view)),
        None => Err(failed(ExecFailure::BadRequest, format!("there is no view `{name}`"))),
    }
}

async fn send_failure(mut writer: BodyWriter, failure: ExecFailed) {
    if writer.send_json(Tag::Failed, &failure).await.is_ok() {
        writer.finish();
    }
}

async fn start(agent: &Agent, request: ExecRequest, view: Option<Namespace>) -> Result<Process, ExecFailed> {
    let groups = agent.groups.clone();
    let reaper = agent.reaper.clone();
    let number = agent.next_number();
    let spawned =
        on_own_thread(move || spawn::start(&request, view, groups.as_deref(), &reaper, number)).await;
    spawned.map_err(|refusal| failed(ExecFailure::Resources, refusal.message))?
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
    writer: &mut BodyWriter,
    paths: Vec<String>,
    user: Option<String>,
    view: Option<Namespace>,
    exited: ExecExited,
) -> Result<(), Gone> {
    if !paths.is_empty() {
        returned::send(writer, paths, user, view).await?;
    }
    writer.send_json(Tag::Exited, &exited).await
}

/// The status in the words of the protocol.
fn exit_status(status: &rustix::process::WaitIdStatus) -> Option<ExitStatus> {
    status.exit_status().map(ExitStatus::Code).or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
