use chrono::Utc;

use super::*;
use crate::error::chain;
use crate::http::testing::{Reply, Server};
use crate::models::SessionId;
use crate::session::SessionState;

fn session() -> Session {
    Session {
        id: SessionId::new(),
        vm_id: "vm-1".to_owned(),
        vm_type: "focal".to_owned(),
        started_at: Utc::now(),
        state: SessionState::Active,
        snapshots: vec![],
        last_activity: Utc::now(),
    }
}

fn done(exit_code: i32) -> Value {
    json!({
        "execution_id": "e", "vm_id": "vm-1", "exit_code": exit_code, "stdout": "out", "stderr": "err",
        "duration_ms": 12, "started_at": "x", "completed_at": "y", "error": null,
    })
}

async fn execute(server: &Server) -> Result<CommandResult> {
    let executor = VmCommandExecutor::with_auth(server.url.clone(), "jwt");
    executor.execute(&session(), "echo 1", Duration::from_secs(30), "/workspace").await
}

async fn refused(body: Value) -> String {
    let server = Server::start([Reply::Json(200, body)]).await;
    let error = execute(&server).await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Http(HttpError::Malformed { .. })), "{error:?}");
    assert_eq!(server.lines().len(), 1, "it may have run, so it is not repeated");
    chain(&error)
}

#[tokio::test]
async fn a_command_is_sent_whole_and_its_result_read() {
    let server = Server::start([Reply::Json(200, done(3))]).await;
    let result = execute(&server).await.unwrap();
    assert_eq!(
        result,
        CommandResult {
            exit_code: 3,
            stdout: "out".into(),
            stderr: "err".into(),
            duration: Duration::from_millis(12)
        }
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /api/llm/execute");
    assert_eq!(seen.authorization.as_deref(), Some("Bearer jwt"));
    assert_eq!(
        seen.body,
        json!({
            "agent_id": "terraphim-github-runner", "language": "bash", "code": "echo 1", "vm_id": "vm-1",
            "working_dir": "/workspace", "timeout_seconds": 30,
        })
    );
}

#[tokio::test]
async fn a_broken_second_is_sent_in_milliseconds() {
    let server = Server::start([Reply::Json(200, done(0))]).await;
    let executor = VmCommandExecutor::new(server.url.clone());
    executor.execute(&session(), "true", Duration::from_millis(1500), "/").await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!((&seen.body["timeout_ms"], &seen.body["timeout_seconds"]), (&json!(1500), &Value::Null));
    assert_eq!(seen.authorization, None);
}

#[tokio::test]
async fn without_an_exit_code_nothing_succeeded() {
    let mut body = done(0);
    body["exit_code"] = Value::Null;
    assert!(refused(body.clone()).await.ends_with("the answer has no exit code"));
    body["error"] = json!("guest is gone");
    assert!(refused(body.clone()).await.ends_with("the answer has no exit code (guest is gone)"));
    body.as_object_mut().unwrap().remove("exit_code");
    refused(body).await;
    refused(json!({})).await;
    refused(json!({"exit_code": "0"})).await;
    refused(json!({"exit_code": 0.5})).await;
}

#[tokio::test]
async fn contradictions_are_errors() {
    let mut other = done(0);
    other["vm_id"] = json!("vm-2");
    assert!(refused(other).await.contains("ran in VM vm-2 and not in vm-1"));
    let mut odd = done(0);
    odd["error"] = json!("connection to the guest lost");
    assert!(refused(odd).await.contains("connection to the guest lost"));
}

#[tokio::test]
async fn the_reason_of_a_failed_command_is_kept() {
    let mut body = done(137);
    body["error"] = json!("timed out");
    let server = Server::start([Reply::Json(200, body)]).await;
    let result = execute(&server).await.unwrap();
    assert_eq!((result.exit_code, result.stderr.as_str()), (137, "err\ntimed out"));
}

#[tokio::test]
async fn what_surely_did_not_run_is_tried_again() {
    let busy = Reply::Json(429, json!({"error": "busy"}));
    let server = Server::start([busy.clone(), busy, Reply::Json(200, done(0))]).await;
    assert!(execute(&server).await.unwrap().success());
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn what_may_have_run_is_not_tried_again() {
    let broken = [Reply::Close, Reply::Raw(200, "{"), Reply::Raw(200, "")];
    let statuses = [400, 401, 403, 404, 409, 413, 500, 502, 503]
        .map(|status| Reply::Json(status, json!({"error": "x"})));
    for reply in broken.into_iter().chain(statuses) {
        let server = Server::start([reply.clone(), Reply::Json(200, done(0))]).await;
        let error = execute(&server).await.unwrap_err();
        assert!(matches!(error, GitHubRunnerError::Http(_)), "{reply:?}: {error:?}");
        assert_eq!(server.lines().len(), 1, "{reply:?}");
    }
}

#[tokio::test]
async fn a_host_that_comes_up_late_is_reached() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let executor = VmCommandExecutor::new(format!("http://{address}"));
    let session = session();
    let error = executor.execute(&session, "true", Duration::from_secs(1), "/").await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Http(HttpError::Connect { .. })), "{error:?}");
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
}

#[tokio::test]
async fn a_silent_host_ends_with_the_command_s_time_and_a_margin() {
    let server = Server::start([Reply::Silence]).await;
    let margin = Duration::from_millis(30);
    let executor = VmCommandExecutor { answer_margin: margin, ..VmCommandExecutor::new(server.url.clone()) };
    let limit = Duration::from_millis(50);
    let error = executor.execute(&session(), "true", limit, "/").await.unwrap_err();
    let GitHubRunnerError::Http(HttpError::TimedOut { after, .. }) = error else { panic!("{error:?}") };
    assert_eq!(after, limit + margin);
    assert_eq!(server.lines().len(), 1, "it may have run, so it is not repeated");
}

#[tokio::test]
async fn snapshots_are_taken_and_rolled_back_to() {
    let server = Server::start([
        Reply::Json(201, json!({"snapshot_id": "s/1"})),
        Reply::Json(200, json!({"message": "ok", "vm_id": "vm-1", "snapshot_id": "s/1"})),
        Reply::Json(200, json!({"message": "ok"})),
    ])
    .await;
    let executor = VmCommandExecutor::new(server.url.clone());
    let snapshot = executor.create_snapshot(&session(), "after build").await.unwrap();
    executor.rollback(&session(), &snapshot).await.unwrap();
    assert_eq!(server.lines(), ["POST /api/vms/vm-1/snapshots", "POST /api/vms/vm-1/rollback/s%2F1"]);
    assert_eq!(server.seen()[0].body, json!({"name": "after build"}));
    let error = executor.create_snapshot(&session(), "x").await.unwrap_err();
    assert!(chain(&error).ends_with("no snapshot_id"), "{}", chain(&error));
}
