//! `POST /api/llm/execute`: one command.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use terraphim_vm::{
    VmId,
    protocol::message::{ExecFailed, ExecFailure, ExecRequest, ExitStatus},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Api,
    auth::User,
    body::Body,
    calls::{Call, CallEnd, now_ms, time_text},
    error::ApiError,
    running::{self, Ending, Output, Stopped},
    state::{Entered, Running},
    vms,
};

/// What `timeout(1)` ends with.
const TIMEOUT_CODE: i32 = 124;
/// What a shell ends with after Ctrl-C.
const CANCELLED_CODE: i32 = 130;
/// The most code of a call.
const MOST_CODE: usize = 128 * 1024;
/// Linux takes at most 128 KiB as one argument, of which the last byte is a NUL (execve(2), `MAX_ARG_STRLEN`).
const MOST_ARGUMENT: usize = 128 * 1024 - 1;

/// The request.
#[derive(Debug, Deserialize)]
pub(super) struct Execute {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    language: Option<String>,
    code: String,
    #[serde(default)]
    vm_id: Option<String>,
    #[serde(default)]
    vm_type: Option<String>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// `false` answers as soon as the command was noted down.
    #[serde(default)]
    wait: Option<bool>,
}

pub(super) async fn execute(
    State(api): State<Arc<Api>>,
    user: User,
    Body(request): Body<Execute>,
) -> Result<Response, ApiError> {
    let timeout = timeout(&request, api.settings.default_timeout(), api.settings.max_timeout())?;
    let language = language(request.language.as_deref())?;
    if request.code.len() > MOST_CODE {
        let message = format!("code: {} bytes, at most {MOST_CODE} are possible", request.code.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    if request.code.contains('\0') {
        return Err(ApiError::bad_request("code: it contains a NUL character"));
    }
    let vm = match &request.vm_id {
        Some(wanted) => vms::running(&api.host, &user, wanted)?,
        None => vms::provision(&api, &user, request.vm_type.as_deref().unwrap_or("default"), None).await?.id,
    };
    let id = Uuid::now_v7().simple().to_string();
    let call = Call {
        execution_id: id.clone(),
        exec: id,
        user_id: user.id,
        agent_id: request.agent_id,
        language: language.to_owned(),
        code: request.code,
        working_dir: request.working_dir,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        started_at_ms: now_ms(),
        stopped: None,
        end: None,
    };
    call.save(api.host.paths(), &vm)?;
    let entered = Running::enter(&api, &vm, &call.execution_id);
    let stop = entered.stop.clone();
    let accepted =
        json!({"execution_id": call.execution_id, "vm_id": vm, "started_at": time_text(call.started_at_ms)});
    let task = api.tasks.spawn(run(Arc::clone(&api), vm.clone(), call, timeout, entered));
    if request.wait == Some(false) {
        return Ok((StatusCode::ACCEPTED, Json(accepted)).into_response());
    }
    // A client that goes away gives its command up; a server that goes away does not.
    let mut abandoned = Abandoned { api: Arc::clone(&api), stop: Some(stop) };
    let done = task.await;
    abandoned.stop = None;
    let (call, output) =
        done.map_err(|error| ApiError::unavailable(format!("the call ended early: {error}")))??;
    Ok(Json(answer(&vm, &call, &output)).into_response())
}

struct Abandoned {
    api: Arc<Api>,
    stop: Option<tokio_util::sync::CancellationToken>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take().filter(|_| !self.api.leaving.is_cancelled()) {
            stop.cancel();
        }
    }
}

fn timeout(request: &Execute, default: Duration, most: Duration) -> Result<Duration, ApiError> {
    let timeout = match (request.timeout_seconds, request.timeout_ms) {
        (Some(seconds), Some(ms)) if seconds.checked_mul(1000) != Some(ms) => {
            return Err(ApiError::bad_request("timeout_seconds and timeout_ms are given and differ"));
        }
        (_, Some(ms)) => Duration::from_millis(ms),
        (Some(seconds), None) => Duration::from_secs(seconds),
        (None, None) => default,
    };
    if timeout.is_zero() || timeout > most {
        return Err(ApiError::bad_request(format!("timeout: give more than 0 and at most {most:?}")));
    }
    Ok(timeout)
}

fn language(name: Option<&str>) -> Result<&'static str, ApiError> {
    match name.unwrap_or("bash") {
        "bash" | "shell" => Ok("bash"),
        "sh" => Ok("sh"),
        "python" | "python3" => Ok("python"),
        other => Err(ApiError::bad_request(format!("language `{other}`: use bash, sh or python"))),
    }
}

/// The programs that understand a language, the best first: a small guest has `sh` only.
fn programs(language: &str) -> &'static [&'static str] {
    match language {
        "python" => &["python3"],
        "sh" => &["sh"],
        _ => &["bash", "sh"],
    }
}

/// The command that runs code. Code that is too long for one argument comes in two, which are put together where it runs.
fn command(program: &str, language: &str, code: &str) -> Vec<String> {
    const SHELL: &str = "TCI_CODE=$1$2; shift 2; eval \"unset TCI_CODE;$TCI_CODE\"";
    const PYTHON: &str = "import sys; exec(sys.argv.pop(1) + sys.argv.pop(1))";
    if code.len() <= MOST_ARGUMENT {
        return [program, "-c", code].map(str::to_owned).into();
    }
    let (first, second) = code.split_at(code.floor_char_boundary(code.len() / 2));
    let argv = match language {
        "python" => vec![program, "-c", PYTHON, first, second],
        _ => vec![program, "-c", SHELL, program, first, second],
    };
    argv.into_iter().map(str::to_owned).collect()
}

/// Starts a call that is noted down and follows it to its end, whoever waits.
async fn run(
    api: Arc<Api>,
    vm: VmId,
    mut call: Call,
    timeout: Duration,
    entered: Entered,
) -> Result<(Call, Output), ApiError> {
    let result = attempts(&api, &vm, &mut call, timeout, &entered).await;
    if let Err(error) = &result
        && call.end.is_none()
    {
        finish(&mut call, None, None, Some(error.message.clone()));
    }
    call.save(api.host.paths(), &vm)?;
    result.map(|output| (call, output))
}

async fn attempts(
    api: &Api,
    vm: &VmId,
    call: &mut Call,
    timeout: Duration,
    entered: &Entered,
) -> Result<Output, ApiError> {
    let client = api.host.client(vm)?;
    // The boot of a fresh VM is not the command's time. Asking the guest itself would be a round trip for each command.
    if client.status().await?.agent == "booting" {
        client.wait_agent().await?;
    }
    call.started_at_ms = now_ms();
    let deadline = Instant::now() + timeout;
    let record = api.host.find(vm.as_str())?;
    let user =
        api.host.images()?.resolve(&record.spec.image).map_err(terraphim_vm::VmError::from)?.default_user;
    let programs = programs(&call.language);
    for (number, program) in programs.iter().enumerate() {
        let request = ExecRequest {
            argv: command(program, &call.language, &call.code),
            inherit_env: true,
            cwd: call.working_dir.clone(),
            user: Some(user.clone()),
            ..ExecRequest::default()
        };
        if number > 0 {
            call.exec = Uuid::now_v7().simple().to_string();
        }
        call.save(api.host.paths(), vm)?;
        let id = Uuid::try_parse(&call.exec).expect("made from one above");
        let mut exec = client.exec_as(id, &request).await?;
        let save = |call: &Call| call.save_or_log(api.host.paths(), vm);
        let (ending, output) = running::follow(&mut exec, deadline, entered, call, save).await?;
        let is_missing = matches!(&ending, Ending::Failed(failed) if failed.reason == ExecFailure::NotFound);
        if is_missing && number + 1 < programs.len() {
            continue;
        }
        conclude(call, ending)?;
        return Ok(output);
    }
    Err(ApiError::bad_request(format!("language `{}` has no program", call.language)))
}

/// Writes the end into the call. What is no answer of the command is an error.
pub(super) fn conclude(call: &mut Call, ending: Ending) -> Result<(), ApiError> {
    match ending {
        Ending::Exited(exited) => {
            let (code, error) = exit_of(call, exited.status);
            finish(call, Some(code), Some(exited.duration_us / 1000), error);
            Ok(())
        }
        Ending::Failed(failed) => {
            finish(call, None, None, Some(failed.message.clone()));
            Err(refusal(&failed))
        }
        Ending::Lost(why) => {
            finish(call, None, None, Some(why.clone()));
            Err(ApiError::unavailable(format!("execution {} was lost: {why}", call.execution_id)))
        }
    }
}

/// The exit code of a call whose command ended so, and what else there is to say.
pub(super) fn exit_of(call: &Call, status: ExitStatus) -> (i32, Option<String>) {
    let limit = Duration::from_millis(call.timeout_ms);
    match call.stopped {
        // It may have caught the signal and left with 0: that is no success.
        Some(Stopped::Timeout) => (TIMEOUT_CODE, Some(format!("timed out after {limit:?} and was stopped"))),
        Some(Stopped::Cancelled) => (CANCELLED_CODE, Some("cancelled and stopped".to_owned())),
        None => (status.shell_code(), None),
    }
}

fn refusal(failed: &ExecFailed) -> ApiError {
    let status = match failed.reason {
        ExecFailure::BadRequest | ExecFailure::WorkingDirectory | ExecFailure::NotFound => {
            StatusCode::BAD_REQUEST
        }
        ExecFailure::NotExecutable | ExecFailure::WriteFile | ExecFailure::Resources => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    ApiError::new(status, failed.message.clone())
}

pub(super) fn finish(
    call: &mut Call,
    exit_code: Option<i32>,
    duration_ms: Option<u64>,
    error: Option<String>,
) {
    let now = now_ms();
    let elapsed = now.saturating_sub(call.started_at_ms);
    call.end =
        Some(CallEnd { exit_code, duration_ms: duration_ms.unwrap_or(elapsed), completed_at_ms: now, error });
}

/// What the client gets.
pub(super) fn answer(vm: &VmId, call: &Call, output: &Output) -> Value {
    let end = call.end.as_ref();
    json!({
        "execution_id": call.execution_id,
        "vm_id": vm,
        "exit_code": end.and_then(|end| end.exit_code),
        "stdout": output.stdout.text(),
        "stderr": output.stderr.text(),
        "truncated": output.stdout.is_cut || output.stderr.is_cut,
        "duration_ms": end.map(|end| end.duration_ms),
        "started_at": time_text(call.started_at_ms),
        "completed_at": end.map(|end| time_text(end.completed_at_ms)),
        "error": end.and_then(|end| end.error.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: Value) -> Execute {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn two_time_limits_must_agree() {
        let limit = |json| timeout(&request(json), Duration::from_secs(300), Duration::from_secs(600));
        assert_eq!(
            limit(json!({"code": "", "timeout_seconds": 2, "timeout_ms": 2000})).unwrap().as_secs(),
            2
        );
        assert_eq!(limit(json!({"code": ""})).unwrap().as_secs(), 300);
        assert_eq!(limit(json!({"code": "", "timeout_ms": 1500})).unwrap().as_millis(), 1500);
        for bad in [
            json!({"code": "", "timeout_seconds": 2, "timeout_ms": 2001}),
            json!({"code": "", "timeout_seconds": u64::MAX, "timeout_ms": 1}),
            json!({"code": "", "timeout_seconds": 0}),
            json!({"code": "", "timeout_seconds": 601}),
        ] {
            assert_eq!(limit(bad).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn code_of_the_most_bytes_runs_as_shorter_code_does() {
        let run = |program: &str, language: &str, code: &str| {
            let argv = command(program, language, code);
            assert!(argv.iter().all(|argument| argument.len() <= MOST_ARGUMENT));
            let output = std::process::Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        // Code of an odd length: the middle of the text is within a character of two bytes.
        let fill = |code: &str| {
            let rest = MOST_CODE - code.len() - 2;
            format!("{code}\n#{}{}", "ü".repeat(rest / 2), "x".repeat(rest % 2))
        };
        let shell = "echo \"$0 $# ${TCI_CODE-unset}\"; (exit 7) ";
        let long = fill(shell);
        assert_eq!(long.len(), MOST_CODE);
        assert_eq!(run("sh", "sh", &long), (Some(7), "sh 0 unset\n".to_owned()));
        assert_eq!(run("sh", "sh", &long), run("sh", "sh", shell));
        let python = "import sys; print(len(sys.argv)); sys.exit(7) ";
        let long = fill(python);
        assert_eq!(long.len(), MOST_CODE);
        assert_eq!(run("python3", "python", &long), run("python3", "python", python));
    }

    #[test]
    fn a_stopped_command_is_never_a_success() {
        let exited = || {
            let json = json!({"status": {"code": 0}, "duration_us": 5000, "orphans_killed": 0});
            Ending::Exited(serde_json::from_value(json).unwrap())
        };
        let call = || Call {
            execution_id: "1".into(),
            exec: "1".into(),
            user_id: "a".into(),
            agent_id: None,
            language: "bash".into(),
            code: String::new(),
            working_dir: None,
            timeout_ms: 1,
            started_at_ms: 0,
            stopped: None,
            end: None,
        };
        for (stopped, want) in [(None, 0), (Some(Stopped::Timeout), 124), (Some(Stopped::Cancelled), 130)] {
            let mut call = Call { stopped, ..call() };
            conclude(&mut call, exited()).unwrap();
            let end = call.end.unwrap();
            assert_eq!((end.exit_code, end.error.is_some()), (Some(want), stopped.is_some()));
        }
        let mut lost = call();
        assert_eq!(conclude(&mut lost, Ending::Lost("x".into())).unwrap_err().status, 503);
        assert!(lost.has_failed());
    }
}
