//! The services by their documented wire formats. None of them can be asked in a test, so the server is a double that
//! says what their documentation shows; llama.cpp itself is asked by `crates/terraphim_ci/tests/cli/real_model.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use terraphim_actions::mask::Masker;

use super::tests::{GOOD, ask_with, limits};
use super::workflow::{WorkflowProposal, WorkflowRequest, propose};
use super::*;
use crate::error::chain;
use crate::http::testing::{Reply, Server};
use crate::words::RepositoryFacts;

fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}

/// The answer, in two pieces.
fn halves() -> (String, String) {
    let text = json!({ "workflow": GOOD }).to_string();
    let (first, second) = text.split_at(20);
    (first.to_owned(), second.to_owned())
}

async fn ask(replies: impl Into<Vec<Reply>>) -> (Result<WorkflowProposal, LlmError>, Server) {
    ask_with(replies, limits(), None).await
}

/// OpenRouter, "Streaming" and "Usage Accounting": comments while it waits for a provider, fields of its own in every
/// chunk, the cost in the last one.
fn open_router() -> Vec<String> {
    let (first, second) = halves();
    let chunk = |delta: Value, finish: Value| {
        let choice =
            json!({ "index": 0, "delta": delta, "finish_reason": finish, "native_finish_reason": finish });
        data(
            &json!({ "id": "gen-1", "provider": "Acme", "model": "acme/coder", "object": "chat.completion.chunk",
            "created": 1, "choices": [choice] }),
        )
    };
    let usage = json!({ "prompt_tokens": 194, "completion_tokens": 40, "total_tokens": 234, "cost": 0.00125,
        "is_byok": false, "prompt_tokens_details": { "cached_tokens": 0 }, "cost_details": { "upstream_inference_cost": null },
        "completion_tokens_details": { "reasoning_tokens": 3 } });
    let last = json!({ "id": "gen-1", "provider": "Acme", "model": "acme/coder", "object": "chat.completion.chunk",
        "created": 1, "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }],
        "usage": usage });
    vec![
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        chunk(json!({ "role": "assistant", "content": "", "reasoning": "Hm." }), Value::Null),
        chunk(json!({ "role": "assistant", "content": first }), Value::Null),
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        chunk(json!({ "role": "assistant", "content": second }), json!("stop")),
        data(&last),
        "data: [DONE]\n\n".to_owned(),
    ]
}

#[tokio::test]
async fn openrouter_answers_with_comments_and_says_what_it_cost() {
    // Its own word counts, whatever price is configured.
    let price = Some(Price { input: 1e6, output: 1e6 });
    let (made, server) =
        ask_with([Reply::Events(open_router().concat())], LlmLimits { price, ..limits() }, None).await;
    let usage = made.unwrap().usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cost), (194, 40, Some(0.00125)));
    let body = &server.seen()[0].body;
    let format = &body["response_format"];
    assert_eq!((&format["type"], &format["json_schema"]["strict"]), (&json!("json_schema"), &json!(true)));
    assert!(
        format["json_schema"]["name"].is_string() && format["json_schema"]["schema"].is_object(),
        "{format}"
    );
    // Which program asked, and the key for no other address.
    let config = LlmConfig::open_router("sk-or-1");
    assert_eq!(
        (config.base_url.as_str(), config.model.as_str()),
        ("https://openrouter.ai/api/v1", "openrouter/auto")
    );
}

#[tokio::test]
async fn a_service_that_sends_comments_is_not_silent() {
    let silence = Duration::from_secs(3);
    let comment = || ": OPENROUTER PROCESSING\n\n".to_owned();
    let events = [(0..8).map(|_| comment()).collect(), open_router()].concat();
    // Eight pauses are longer than the silence that is allowed.
    let slowly = Reply::Slowly(events, Duration::from_millis(500));
    let (made, _server) = ask_with([slowly], LlmLimits { silence, ..limits() }, None).await;
    assert!(made.is_ok(), "{made:?}");
}

#[tokio::test]
async fn openrouter_s_errors_have_the_words_of_the_provider() {
    let (first, _) = halves();
    let begun = data(&json!({ "choices": [{ "delta": { "content": first }, "finish_reason": null }] }));
    let broken = json!({ "id": "gen-1", "object": "chat.completion.chunk", "provider": "Acme",
        "error": { "code": 502, "message": "Provider disconnected" },
        "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }] });
    let of_choice = json!({ "choices": [{ "message": { "content": "" }, "finish_reason": "error",
        "error": { "code": 502, "message": "Upstream overloaded" } }] });
    let provider = |raw: &str| {
        json!({ "error": { "code": 400, "message": "Provider returned error",
        "metadata": { "provider_name": "Acme", "raw": raw } } })
    };
    for (reply, words) in [
        (Reply::Events(begun.clone() + &data(&broken)), "Provider disconnected"),
        (Reply::Json(200, of_choice), "Upstream overloaded"),
        (Reply::Json(200, json!({ "error": { "code": 503, "message": "No provider" } })), "No provider"),
        (
            Reply::Json(402, json!({ "error": { "code": 402, "message": "Insufficient credits" } })),
            "402 Payment Required: Insufficient credits",
        ),
        (
            Reply::Json(400, provider("{\"error\": {\"message\": \"context is full\"}}")),
            "Provider returned error (Acme: context is full)",
        ),
    ] {
        let (made, server) = ask([reply]).await;
        let error = chain(&made.unwrap_err());
        assert!(error.contains(words), "{error}");
        assert_eq!(server.lines().len(), 1, "{words}");
    }
    // A provider without schemas says so in its own words, and is asked without.
    let refusal = provider("{\"error\": {\"message\": \"response_format is not supported by this model\"}}");
    let (made, server) = ask([Reply::Json(400, refusal), Reply::Events(open_router().concat())]).await;
    assert!(made.unwrap().notes[0].contains("response_format"));
    assert!(server.seen()[1].body.get("response_format").is_none());
}

/// Ollama, "OpenAI compatibility": below `/v1`, no key, usage in a chunk without choices.
#[tokio::test]
async fn ollama_is_asked_below_v1_and_without_a_key() {
    let (first, second) = halves();
    let chunk = |content: &str, finish: Value, more: Value| {
        let choice = json!({ "index": 0, "delta": { "role": "assistant", "content": content }, "finish_reason": finish });
        let mut chunk = json!({ "id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1,
            "model": "qwen2.5-coder:7b", "system_fingerprint": "fp_ollama", "choices": [choice] });
        if !more.is_null() {
            chunk["choices"] = json!([]);
            chunk["usage"] = more;
        }
        data(&chunk)
    };
    let usage = json!({ "prompt_tokens": 26, "completion_tokens": 30, "total_tokens": 56 });
    let events = [
        chunk(&first, Value::Null, Value::Null),
        chunk(&second, Value::Null, Value::Null),
        chunk("", json!("stop"), Value::Null),
        chunk("", Value::Null, usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    let missing = json!({ "error": { "message": "model \"qwen2.5-coder:7b\" not found, try pulling it first",
        "type": "api_error", "param": null, "code": null } });
    let server = Server::start([Reply::Events(events.concat()), Reply::Json(404, missing)]).await;
    let config = LlmConfig::ollama(&format!("{}/", server.url), "qwen2.5-coder:7b");
    let client = LlmClient::new(config, limits(), Masker::new());
    let facts = RepositoryFacts::default();
    let request = WorkflowRequest { sentence: "run make", facts: &facts, readme: None };
    let usage = propose(&client, &request, &|_| ()).await.unwrap().usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cost), (26, 30, None));
    let error = chain(&propose(&client, &request, &|_| ()).await.unwrap_err());
    assert!(error.contains("404 Not Found: model \"qwen2.5-coder:7b\" not found"), "{error}");
    let seen = &server.seen()[0];
    assert_eq!((seen.line.as_str(), &seen.authorization), ("POST /v1/chat/completions", &None));
    assert_eq!((&seen.body["model"], &seen.body["temperature"]), (&json!("qwen2.5-coder:7b"), &json!(0)));
}

/// vLLM, "OpenAI-Compatible Server": a key by `--api-key`, thoughts in a field of their own, `usage` null until the
/// end.
#[tokio::test]
async fn vllm_answers_with_thoughts_and_says_when_the_context_is_too_short() {
    let (first, second) = halves();
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish, "stop_reason": null });
        data(&json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [choice], "usage": null }))
    };
    let usage = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [],
        "usage": { "prompt_tokens": 300, "total_tokens": 350, "completion_tokens": 50 } });
    let events = [
        chunk(json!({ "role": "assistant", "content": "" }), Value::Null),
        chunk(json!({ "reasoning_content": "They want make." }), Value::Null),
        chunk(json!({ "content": first }), Value::Null),
        chunk(json!({ "content": second }), json!("stop")),
        data(&usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    let (made, server) = ask([Reply::Events(events.concat())]).await;
    let usage = made.unwrap().usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (300, 50));
    assert_eq!(server.seen()[0].authorization.as_deref(), Some("Bearer sk-very-secret"));

    let words = "This model's maximum context length is 4096 tokens. However, you requested 4996 tokens";
    for body in [
        json!({ "object": "error", "message": words, "type": "BadRequestError", "param": null, "code": 400 }),
        json!({ "error": { "message": words, "type": "BadRequestError", "param": null, "code": 400 } }),
    ] {
        let (made, server) = ask([Reply::Json(400, body)]).await;
        let error = chain(&made.unwrap_err());
        assert!(error.contains("400 Bad Request: This model's maximum context length"), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
    let broken = [
        chunk(json!({ "content": "{" }), Value::Null),
        data(&json!({ "object": "error", "message": "engine died" })),
    ];
    let (made, _server) = ask([Reply::Events(broken.concat())]).await;
    assert!(chain(&made.unwrap_err()).contains("engine died"));
}
