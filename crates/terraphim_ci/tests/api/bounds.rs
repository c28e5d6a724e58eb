//! What holds under load, at the edges, and when the server ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::{User, refused, server, server::Server, user};

/// All that still comes on a connection, which the server has to close.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_quota_holds_when_many_ask_at_once() {
    let server = Server::start();
    let alice = user(&server, "alice");
    let made: Vec<u16> = std::thread::scope(|scope| {
        let ask = || alice.post("/api/vms", &json!({})).status;
        let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |status| made.iter().filter(|made| **made == status).count();
    assert_eq!((count(200), count(429)), (2, 6), "{made:?}");
    let list = alice.get("/api/vms").body;
    assert_eq!((&list["total"], &list["usage"]["max_vms"]), (&json!(2), &json!(2)));
    // It is a quota of each user's own.
    assert_eq!(user(&server, "bob").post("/api/vms", &json!({})).status, 200);
}

#[test]
fn a_user_s_tokens_are_taken_back_together() {
    let server = Server::start();
    let tokens = [server.token("alice"), server.token("alice")];
    let bob = server.token("bob");
    let status = |token: &str| server.call("GET", "/api/vms", Some(token), None).status;
    assert!(tokens.iter().chain([&bob]).all(|token| status(token) == 200));
    server.tci(&["token", "revoke", "--user", "alice"]);
    assert!(tokens.iter().all(|token| [401, 403].contains(&status(token))));
    assert_eq!(status(&bob), 200);
}

#[test]
fn every_answer_names_its_request() {
    let server = Server::start();
    let id = |header: &str| {
        let head = server.head("/health", header);
        let line = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        line.unwrap_or_else(|| panic!("no id in {head}")).to_owned()
    };
    assert_eq!(id("X-Request-Id: run-42"), "run-42");
    // What could be misread in a log is replaced.
    let long = format!("X-Request-Id: {}", "a".repeat(65));
    for bad in ["X-Request-Id: a b;c", long.as_str(), "X-Nothing: 1"] {
        assert_eq!(id(bad).len(), 36, "{bad}");
    }
    assert_ne!(id("X-Nothing: 1"), id("X-Nothing: 1"));
}

#[test]
fn an_end_on_request_lets_answers_leave_and_a_kill_loses_no_output() {
    let mut server = Server::start();
    let token = server.token("alice");
    let alice = User { server: &server, token: token.clone() };
    let vm = alice.vm();
    assert_eq!(alice.output(&vm, "true"), "");
    // 4000 lines before the kill and 4000 after it.
    let lines = "for i in 1 2; do seq 1 4000; while [ $i = 1 -a ! -e /tmp/go ]; do sleep 0.05; done; done";
    let long = alice.begin(&vm, lines, 600);
    let waits = "touch /tmp/begun; until [ -e /tmp/leave ]; do sleep 0.05; done; echo done";
    let body = json!({"code": waits, "vm_id": vm}).to_string();
    let stream = server.send("POST", "/api/llm/execute", Some(&token), Some(&body));
    assert_eq!(alice.output(&vm, "until [ -e /tmp/begun ]; do sleep 0.05; done"), "");
    server.ask_to_end();
    // The server takes no new calls; VMs are there without it.
    server.tci(&["vm", "exec", &vm, "--", "touch", "/tmp/leave"]);
    let answer = server::answer(stream);
    assert_eq!((answer.status, &answer.body["stdout"]), (200, &json!("done\n")), "{}", answer.body);
    assert_eq!(server.terminate(), 0);
    server.restart();
    server.kill_and_restart();
    let alice = User { server: &server, token: token.clone() };
    assert_eq!(alice.output(&vm, "touch /tmp/go"), "");
    let ended = server.ended(&vm, &long, &token);
    let wanted: String = (0..2).flat_map(|_| 1..=4000).map(|n| format!("{n}\n")).collect();
    assert!(
        ended["stdout"].as_str() == Some(wanted.as_str()),
        "{} bytes",
        ended["stdout"].as_str().unwrap().len()
    );
    assert_eq!(ended["exit_code"], 0);
    // One that was told to end by a server that is killed then: the next one still knows why it ended.
    let stubborn = alice.begin(&vm, "trap '' TERM; while :; do sleep 1; done", 1);
    let note = server.data().join("vms").join(&vm).join("calls").join(format!("{stubborn}.json"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !std::fs::read_to_string(&note).unwrap().contains("\"stopped\":\"timeout\"") {
        assert!(std::time::Instant::now() < deadline, "its time limit is not kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.kill_and_restart();
    assert_eq!(server.ended(&vm, &stubborn, &token)["exit_code"], 124);
}

#[test]
fn a_request_that_does_not_go_on_is_given_up() {
    let server = Server::start_with("client-timeout-seconds = 2\n");
    let token = server.token("alice");
    let head = |length: usize| {
        format!(
            "POST /api/vms HTTP/1.1\r\nHost: tci\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let heads = ["", "GET /health HTTP/1.1\r\nHost: t"].map(|text| server.open(text));
    let stalled = server.open(&format!("{}{{\"vm_type\"", head(1000)));
    let body = json!({"vm_type": "no such type"}).to_string();
    let mut slow = server.open(&head(body.len()));
    // Longer than the limit, and never silent for so long.
    for piece in body.as_bytes().chunks(body.len().div_ceil(4)) {
        std::thread::sleep(Duration::from_millis(700));
        slow.write_all(piece).unwrap();
    }
    for head in heads {
        assert_eq!(rest(head), "");
    }
    let answer = server::answer(stalled);
    refused(&answer, 408, "nothing of the request's body came for 2s");
    assert!(answer.head.contains("connection: close") && answer.head.contains("x-request-id: "));
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 400");
    let rest = rest(slow);
    assert!(rest.contains("there is no VM type `no such type`"), "{rest}");
}

#[test]
fn an_end_on_request_waits_for_no_connection_without_a_request() {
    let mut server = Server::start();
    let mut answered = server.open("GET /health HTTP/1.1\r\nHost: tci\r\n\r\n");
    let mut first = [0; 12];
    answered.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let _open = ["", "GET /health HTTP/1.1\r\nHost: t"].map(|text| server.open(text));
    // Answers come in the order of connections: these were taken before.
    assert_eq!(server.call("GET", "/health", None, None).status, 200);
    assert_eq!(server.terminate(), 0);
    let said = server.said();
    assert!(said.contains("leaving: ") && !said.contains("waiting") && !said.contains("requests"), "{said}");
}

#[test]
fn an_end_on_request_says_what_it_waits_for() {
    let mut server = Server::start();
    // Its head is not whole: nobody waits for it.
    let _begun =
        server.open("POST /api/vms HTTP/1.1\r\nHost: tci\r\nContent-Length: 10\r\nAuthorization: Bearer ");
    // The body of this one never comes.
    let token = server.token("alice");
    let mut asked = server.open(&format!(
        "POST /api/vms HTTP/1.1\r\nHost: tci\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    ));
    let mut first = [0; 12];
    asked.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100", "it reads the body: the request is in progress");
    assert_eq!(server.terminate(), 0);
    let said = server.said();
    assert!(said.contains("waiting up to 5s for requests in progress: 1\n"), "{said}");
    assert!(said.contains("requests without an answer: 1"), "{said}");
}
