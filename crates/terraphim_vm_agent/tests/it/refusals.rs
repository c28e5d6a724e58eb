//! Requests that make no sense are refused, and the agent goes on.

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    agent::AgentError,
    protocol::{
        GENERATION, call,
        frame::{self, Tag},
        handshake::{HELLO, LENGTH, message},
        message::{Configure, View},
    },
    support::{Agent, gone, shell},
};

/// A connection on which anything can be said.
async fn raw() -> (Agent, SendRequest<Bytes>) {
    let (agent, mut socket) = Agent::pair();
    socket.write_all(&message(HELLO, GENERATION, &[5; 16])).await.unwrap();
    let mut answer = [0; LENGTH];
    socket.read_exact(&mut answer).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    (agent, requests)
}

async fn say(
    requests: &SendRequest<Bytes>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(format!("http://agent{path}")).body(()).unwrap();
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, mut sender) = requests.send_request(request, false).unwrap();
    sender.send_data(body.into(), true).unwrap();
    let response = response.await.unwrap();
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(chunk) = body.data().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    (status, String::from_utf8(text).unwrap())
}

fn frame(tag: Tag, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(tag, payload, &mut bytes);
    bytes
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let (agent, requests) = raw().await;
    let files = |query: &str| format!("{}?{query}", call::FILES);
    let exec = |body: Vec<u8>| (Method::POST, call::EXEC.to_owned(), body, StatusCode::BAD_REQUEST);
    let cases = [
        exec(Vec::new()),
        exec(frame(Tag::Request, b"{")),
        exec(frame(Tag::Stdin, b"x")),
        exec(vec![99, 0, 0, 0, 0]),
        exec(vec![1, 0xff, 0, 0, 0]),
        exec(frame(Tag::Request, b"{\"argv\":[\"true\"]}")[..10].to_vec()),
        (Method::POST, call::VIEWS.to_owned(), b"[]".to_vec(), StatusCode::BAD_REQUEST),
        (Method::POST, call::CONFIGURE.to_owned(), b"nonsense".to_vec(), StatusCode::BAD_REQUEST),
        (Method::POST, call::CONFIGURE.to_owned(), vec![b' '; 3 << 20], StatusCode::PAYLOAD_TOO_LARGE),
        (Method::POST, call::SHUTDOWN.to_owned(), b"{}".to_vec(), StatusCode::BAD_REQUEST),
        (Method::PUT, files("path=relative"), Vec::new(), StatusCode::BAD_REQUEST),
        (Method::GET, files("nothing"), Vec::new(), StatusCode::BAD_REQUEST),
        (Method::GET, files("path=/no/such/file"), Vec::new(), StatusCode::NOT_FOUND),
        (Method::GET, files("path=/&view=none"), Vec::new(), StatusCode::NOT_FOUND),
        (Method::POST, call::FORWARDS.to_owned(), b"{\"port\":70000}".to_vec(), StatusCode::BAD_REQUEST),
        (Method::POST, "/v1/forwards/x".to_owned(), Vec::new(), StatusCode::NOT_FOUND),
        (Method::DELETE, "/v1/views/none".to_owned(), Vec::new(), StatusCode::NOT_FOUND),
        (Method::GET, "/v2/ping".to_owned(), Vec::new(), StatusCode::NOT_FOUND),
    ];
    for (method, path, body, status) in cases {
        let (found, reason) = say(&requests, method, &path, body).await;
        assert_eq!(found, status, "{path}: {reason}");
        assert!(!reason.is_empty(), "{path}");
    }
    assert_eq!(say(&requests, Method::GET, call::PING, Vec::new()).await, (StatusCode::OK, String::new()));
    drop(requests);
    agent.ended().await;
}

#[tokio::test]
async fn an_unknown_frame_ends_the_process() {
    let (agent, requests) = raw().await;
    let request = Request::builder().method(Method::POST).uri("http://agent/v1/exec").body(()).unwrap();
    let mut ready = requests.clone().ready().await.unwrap();
    let (response, mut sender) = ready.send_request(request, false).unwrap();
    let json = serde_json::to_vec(&shell("echo $$; exec sleep 1000")).unwrap();
    sender.send_data(frame(Tag::Request, &json).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut decoder = frame::Decoder::new();
    let pid = loop {
        decoder.push(&body.data().await.unwrap().unwrap());
        let mut found = None;
        while let Some((tag, payload)) = decoder.next().unwrap() {
            if tag == Tag::Stdout {
                found = Some(String::from_utf8(payload.to_vec()).unwrap().trim().parse().unwrap());
            }
        }
        if let Some(pid) = found {
            break pid;
        }
    };
    sender.send_data(vec![77, 0, 0, 0, 0].into(), false).unwrap();
    let error = loop {
        match body.data().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the body looks complete"),
        }
    };
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    gone(pid).await;
    drop((sender, requests, body, ready));
    agent.ended().await;
}

#[tokio::test]
async fn an_agent_that_is_not_pid_1_leaves_the_machine_alone() {
    let (agent, client) = Agent::connected().await;
    let settings = Configure { hostname: Some("changed".into()), ..Configure::default() };
    let refused = client.configure(&settings).await.unwrap_err();
    assert!(matches!(refused, AgentError::Refused { status: 403, .. }), "{refused:?}");
    let view = View { name: "../x".into(), mounts: Vec::new() };
    let refused = client.create_view(&view).await.unwrap_err();
    assert!(matches!(refused, AgentError::Refused { status: 400, .. }), "{refused:?}");
    drop(client);
    agent.ended().await;
}
