use serde_json::json;

use super::*;
use crate::http::testing::{Reply, Server};

async fn get(client: &HttpClient, limit: Duration) -> Result<Value, HttpError> {
    client.json(&Call { method: Method::GET, path: "/x", body: None, limit }).await
}

async fn answer(reply: Reply) -> Result<Value, HttpError> {
    let server = Server::start([reply]).await;
    get(&HttpClient::new(&server.url, None), Duration::from_secs(20)).await
}

#[tokio::test]
async fn it_sends_the_token_and_reads_json() {
    let server = Server::start([Reply::Json(200, json!({"a": 1}))]).await;
    let client = HttpClient::new(format!("{}/", server.url), Some(Token::new("jwt")));
    assert_eq!(get(&client, Duration::from_secs(20)).await.unwrap(), json!({"a": 1}));
    assert_eq!(server.lines(), ["GET /x"]);
    assert_eq!(server.seen()[0].authorization.as_deref(), Some("Bearer jwt"));
    assert!(!format!("{client:?}").contains("jwt"));
}

#[tokio::test]
async fn an_error_answer_keeps_its_words() {
    let error =
        answer(Reply::With(429, "Retry-After: 7", json!({"error": "too many\nVMs"}))).await.unwrap_err();
    let HttpError::Status { status, message, retry_after, .. } = &error else { panic!("{error:?}") };
    assert_eq!((status.as_u16(), message.as_str()), (429, "too many VMs"));
    assert_eq!(*retry_after, Some(Duration::from_secs(7)));
    assert!(error.surely_did_not_start() && error.is_transient());

    let error = answer(Reply::Json(400, json!({"error": {"message": "no"}}))).await.unwrap_err();
    assert!(error.to_string().ends_with("answered 400 Bad Request: no"), "{error}");
    assert!(!error.surely_did_not_start() && !error.is_transient());

    let error = answer(Reply::Raw(503, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("no explanation"), "{error}");
    assert!(!error.surely_did_not_start() && error.is_transient());
}

#[tokio::test]
async fn what_is_no_json_is_malformed() {
    assert!(matches!(answer(Reply::Raw(200, "<html>")).await, Err(HttpError::Malformed { .. })));
    assert_eq!(answer(Reply::Raw(200, "")).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_refused_connection_sent_nothing_and_a_broken_one_may_have() {
    let refused = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        HttpClient::new(format!("http://{}", listener.local_addr().unwrap()), None)
    };
    let error = get(&refused, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
    assert!(error.surely_did_not_start());

    let error = answer(Reply::Close).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error:?}");
    assert!(!error.surely_did_not_start() && error.is_transient());
}

#[tokio::test]
async fn silence_ends_at_the_limit() {
    let server = Server::start([Reply::Silence]).await;
    let limit = Duration::from_millis(50);
    let error = get(&HttpClient::new(&server.url, None), limit).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { after, .. } if after == limit), "{error:?}");
    assert!(!error.surely_did_not_start());
}

#[tokio::test]
async fn bad_addresses_and_tokens_are_named() {
    for bad in ["", "127.0.0.1:8080", "ftp://host", "http://", "unix:/x", "http://a b"] {
        let error = get(&HttpClient::new(bad, None), Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, HttpError::Address { .. }), "{bad}: {error:?}");
    }
    let client = HttpClient::new("http://127.0.0.1:1", Some(Token::new("a\nb")));
    let error = get(&client, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, HttpError::Token { .. }), "{error:?}");
    assert!(!error.to_string().contains("a\nb"));
}

#[tokio::test]
async fn https_speaks_tls() {
    let server = Server::start([Reply::Json(200, json!({}))]).await;
    let client = HttpClient::new(server.url.replace("http:", "https:"), Some(Token::new("jwt")));
    // The plain server waits for the end of a request that it cannot read.
    let error = get(&client, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. } | HttpError::TimedOut { .. }), "{error:?}");
    assert!(server.seen().is_empty(), "nothing readable was sent");
}
