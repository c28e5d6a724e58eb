use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::error::{GitHubRunnerError, chain};
use crate::http::Token;
use crate::http::testing::{Reply, Server};

fn proposal() -> Value {
    json!({
        "name": "CI", "trigger": "push",
        "environment": [{ "name": "A", "value": "1" }],
        "setup_commands": ["apt-get update"],
        "steps": [{
            "name": "Build", "command": "make\nmake test", "working_dir": "/workspace",
            "continue_on_error": false, "timeout_seconds": 600,
        }],
        "cleanup_commands": [], "cache_paths": ["target"],
    })
}

fn says(content: &str, finish_reason: &str) -> Value {
    json!({ "choices": [{ "message": { "role": "assistant", "content": content }, "finish_reason": finish_reason }] })
}

async fn ask(replies: impl Into<Vec<Reply>>) -> (Result<ParsedWorkflow>, Server) {
    let server = Server::start(replies).await;
    let config = LlmConfig { timeout: Duration::from_secs(20), ..LlmConfig::new(&server.url, "model-1") };
    let config = LlmConfig { api_key: Some(Token::new("key")), ..config };
    (WorkflowParser::with_llm(config).parse("build it").await, server)
}

async fn refused(content: &str) -> String {
    let (result, _server) = ask([Reply::Json(200, says(content, "stop"))]).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error, GitHubRunnerError::Llm(_) | GitHubRunnerError::InvalidWorkflow(_)),
        "{content}: {error:?}"
    );
    chain(&error)
}

#[tokio::test]
async fn a_good_proposal_becomes_a_workflow() {
    let (result, server) = ask([Reply::Json(200, says(&proposal().to_string(), "stop"))]).await;
    let workflow = result.unwrap();
    assert_eq!(workflow.steps[0].command, "make\nmake test");
    assert_eq!(workflow.environment["A"], "1");
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /chat/completions");
    assert_eq!(seen.authorization.as_deref(), Some("Bearer key"));
    assert_eq!(
        (&seen.body["model"], &seen.body["messages"][1]["content"]),
        (&json!("model-1"), &json!("build it"))
    );
    assert_eq!(seen.body["response_format"]["json_schema"]["strict"], true);

    let fenced = format!("```json\n{}\n```", proposal());
    let (result, _server) = ask([Reply::Json(200, says(&fenced, "stop"))]).await;
    assert_eq!(result.unwrap(), workflow);
}

#[tokio::test]
async fn what_a_model_proposes_is_checked() {
    let changes: Vec<(&str, Value)> = vec![
        ("/steps", json!([])),
        ("/trigger", json!("whenever")),
        ("/steps/0/timeout_seconds", json!(0)),
        ("/steps/0/timeout_seconds", json!(1_000_000)),
        ("/steps/0/timeout_seconds", json!(-1)),
        ("/steps/0/working_dir", json!("workspace")),
        ("/steps/0/working_dir", json!("/workspace/../etc")),
        ("/steps/0/command", json!("echo safe\r\u{1b}[2Krm -rf /")),
        ("/steps/0/command", json!("x".repeat(20_000))),
        ("/steps/0/command", json!("  ")),
        ("/steps/0/command", json!(["make"])),
        ("/steps/0/name", json!("two\nlines")),
        ("/environment/0/name", json!("A=1; id #")),
        ("/environment/0/value", json!("a\u{0}b")),
        ("/setup_commands", json!(vec!["true"; 101])),
        ("/cache_paths", json!(["a\nb"])),
    ];
    for (place, value) in changes {
        let mut proposal = proposal();
        *proposal.pointer_mut(place).unwrap() = value;
        refused(&proposal.to_string()).await;
    }
    let mut more = proposal();
    more["run_as_root"] = json!(true);
    assert!(refused(&more.to_string()).await.contains("unknown field"));
    let mut less = proposal();
    less.as_object_mut().unwrap().remove("steps");
    assert!(refused(&less.to_string()).await.contains("missing field"));
    for text in ["Sure! Here is your workflow: {}", "{", "null", "[]", "\"make\""] {
        refused(text).await;
    }
}

#[tokio::test]
async fn a_model_that_fails_is_an_error_and_no_pattern_steps_in() {
    for (reply, expected) in [
        (Reply::Json(401, json!({"error": {"message": "bad key"}})), "bad key"),
        (Reply::Json(200, says("{", "length")), "longer than 4096 tokens"),
        (Reply::Json(200, says("", "stop")), "no content"),
        (Reply::Json(200, json!({"choices": []})), "no content"),
        (Reply::Json(200, json!({})), "no content"),
        (Reply::Raw(200, "<html>"), "does not fit its API"),
    ] {
        let (result, _server) = ask([reply.clone()]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, GitHubRunnerError::Llm(_)), "{reply:?}: {error:?}");
        assert!(chain(&error).contains(expected), "{reply:?}: {}", chain(&error));
    }
}

#[tokio::test]
async fn a_busy_model_is_asked_again() {
    let replies = [
        Reply::Json(429, json!({"error": "slow down"})),
        Reply::Json(503, json!({"error": "loading"})),
        Reply::Json(200, says(&proposal().to_string(), "stop")),
    ];
    let (result, server) = ask(replies).await;
    result.unwrap();
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn without_a_model_patterns_decide() {
    let workflow = WorkflowParser::new().parse("run `make`").await.unwrap();
    assert_eq!(workflow.steps[0].command, "make");
    let file = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ run: make }]\n";
    let workflow = WorkflowParser::new().parse(file).await.unwrap();
    assert_eq!(workflow.steps[0].command, "set -e\nmake");
    let error = WorkflowParser::new().parse("surprise me").await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Llm(LlmError::NotUnderstood { .. })), "{error:?}");
}

#[tokio::test]
async fn too_little_and_too_much_are_refused() {
    for text in ["", " \n", &"x".repeat(DESCRIPTION_LIMIT_BYTES + 1)] {
        let error = WorkflowParser::new().parse(text).await.unwrap_err();
        assert!(matches!(error, GitHubRunnerError::Llm(LlmError::Length { .. })), "{error:?}");
    }
}

#[test]
fn services_are_addressed_as_they_are_documented() {
    let key = |name: &str| (name == "OPENROUTER_API_KEY").then(|| "sk".to_owned());
    let config = LlmConfig::from_variables(key).unwrap();
    assert_eq!(config, LlmConfig::open_router("sk"));
    assert_eq!(config.base_url, "https://openrouter.ai/api/v1");
    assert!(!format!("{config:?}").contains("sk\""));
    assert_eq!(LlmConfig::from_variables(|_| None), None);
    assert_eq!(LlmConfig::from_variables(|_| Some(String::new())), None);
    assert_eq!(LlmConfig::ollama("http://127.0.0.1:11434/", "m").base_url, "http://127.0.0.1:11434/v1");
}
