//! The HTTP API of a VM host against real servers and real VMs.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod server;

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use server::{Answer, Server};

/// A user of a server.
struct User<'a> {
    server: &'a Server,
    token: String,
}

impl User<'_> {
    fn get(&self, path: &str) -> Answer {
        self.server.call("GET", path, Some(&self.token), None)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.server.call("POST", path, Some(&self.token), Some(&body.to_string()))
    }

    fn delete(&self, path: &str) -> Answer {
        self.server.call("DELETE", path, Some(&self.token), None)
    }

    fn vm(&self) -> String {
        let made = self.post("/api/vms", &json!({"vm_type": "bionic-test"}));
        assert_eq!(made.status, 200, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }

    fn run(&self, vm: &str, code: &str) -> Answer {
        self.post("/api/llm/execute", &json!({"language": "bash", "code": code, "vm_id": vm}))
    }

    /// Standard output of a command that succeeds.
    fn output(&self, vm: &str, code: &str) -> String {
        let answer = self.run(vm, code);
        assert_eq!((answer.status, &answer.body["exit_code"]), (200, &json!(0)), "{}", answer.body);
        answer.body["stdout"].as_str().unwrap().to_owned()
    }

    /// Starts a command and does not wait.
    fn begin(&self, vm: &str, code: &str, seconds: u64) -> String {
        let body = json!({"code": code, "vm_id": vm, "wait": false, "timeout_seconds": seconds});
        let answer = self.post("/api/llm/execute", &body);
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["execution_id"].as_str().unwrap().to_owned()
    }
}

fn user<'a>(server: &'a Server, name: &str) -> User<'a> {
    User { server, token: server.token(name) }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let error = answer.body["error"].as_str().unwrap();
    assert!(error.contains(words), "{error}");
    assert_eq!(answer.body.as_object().unwrap().len(), 1, "an error says nothing else");
}

#[test]
fn every_call_of_the_document_wants_a_token() {
    let server = Server::start();
    let health = server.call("GET", "/health", None, None);
    assert_eq!((health.status, &health.body["status"]), (200, &json!("healthy")));
    assert!(health.body["timestamp"].is_string() && health.body["service"].is_string());
    assert!(health.head.contains("x-request-id: "), "{}", health.head);
    let document = server.call("GET", "/openapi.json", None, None).body;
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            if path.starts_with("/api") {
                let answer = server.call(&method.to_uppercase(), path, None, Some("{}"));
                refused(&answer, 401, "no token");
                count += 1;
            }
        }
    }
    assert_eq!(count, 16);
    refused(&server.call("GET", "/nowhere", None, None), 404, "there is no call");
    // Nobody has said under which address the issuer of identity tokens can be reached.
    for path in ["/.well-known/openid-configuration", "/.well-known/jwks"] {
        refused(&server.call("GET", path, None, None), 404, "services.issuer");
    }
    refused(&server.call("PUT", "/api/vms", None, None), 405, "cannot be");
}

#[test]
fn tokens_are_checked_and_can_be_taken_back() {
    let mut server = Server::start();
    let alice = server.token("alice");
    let list = |server: &Server, token: &str| server.call("GET", "/api/vms", Some(token), None);
    let answer = list(&server, &alice);
    assert_eq!(
        (answer.status, &answer.body["user"], &answer.body["total"]),
        (200, &json!("alice"), &json!(0))
    );
    let mode = fs::metadata(server.data().join("api/jwt-secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    refused(&list(&server, "nonsense"), 401, "cannot be understood");
    refused(&list(&server, &format!("{alice}x")), 401, "signature");
    let tokens: Value = serde_json::from_str(&server.tci(&["token", "ls", "--json"])).unwrap();
    assert_eq!(tokens[0]["user_id"], "alice");
    server.tci(&["token", "revoke", tokens[0]["id"].as_str().unwrap()]);
    refused(&list(&server, &alice), 401, "revoked");
    // Another secret, and the same after a restart.
    let bob = server.token("bob");
    fs::write(server.data().join("api/jwt-secret"), "another secret of more than 32 bytes").unwrap();
    assert_eq!(list(&server, &bob).status, 200);
    assert_eq!(server.terminate(), 0);
    server.restart();
    refused(&list(&server, &bob), 401, "another secret");
}

#[test]
fn a_damaged_token_shuts_out_nobody_else() {
    let server = Server::start();
    let (alice, bob) = (server.token("alice"), server.token("bob"));
    let tokens: Value = serde_json::from_str(&server.tci(&["token", "ls", "--json"])).unwrap();
    let of_bob = tokens.as_array().unwrap().iter().find(|token| token["user_id"] == "bob").unwrap();
    let id = of_bob["id"].as_str().unwrap();
    fs::write(server.data().join(format!("api/tokens/{id}.json")), "{").unwrap();
    let list = |token: &str| server.call("GET", "/api/vms", Some(token), None);
    assert_eq!(list(&alice).status, 200);
    refused(&list(&bob), 503, "is damaged");
    server.tci(&["token", "revoke", id]);
    refused(&list(&bob), 401, "revoked");
    assert_eq!(list(&alice).status, 200);
}

#[test]
fn a_vm_from_creation_to_deletion() {
    let server = Server::start();
    let (alice, bob) = (user(&server, "alice"), user(&server, "bob"));
    let made = alice.post("/api/vms", &json!({"vm_type": "focal", "vm_name": "mine"}));
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!((&made.body["name"], &made.body["vm_type"]), (&json!("mine"), &json!("focal")));
    let vm = made.body["id"].as_str().unwrap();
    refused(&alice.post("/api/vms", &json!({"vm_type": "huge"})), 400, "there is no VM type `huge`");
    refused(&alice.post("/api/vms", &json!({"name": "../x"})), 400, "name");
    refused(&alice.post("/api/vms", &json!({"name": "a", "vm_name": "b"})), 400, "differ");
    refused(&bob.post("/api/vms", &json!({"name": "mine"})), 409, "already a VM named");
    // The quota of the configuration is two.
    let second = alice.vm();
    refused(&alice.post("/api/vms", &json!({})), 429, "2 are allowed");
    assert_eq!(alice.delete(&format!("/api/vms/{second}")).status, 200);
    refused(&alice.delete(&format!("/api/vms/{second}")), 404, "there is no VM");

    commands(&alice, vm);

    let got = alice.get(&format!("/api/vms/{vm}")).body;
    assert_eq!((&got["id"], &got["vm_id"], &got["status"]), (&json!(vm), &json!(vm), &json!("running")));
    let list = alice.get("/api/vms").body;
    assert_eq!((&list["total"], &list["vms"][0]["id"]), (&json!(1), &json!(vm)));
    refused(&bob.get(&format!("/api/vms/{vm}")), 403, "somebody else");
    refused(&bob.run(vm, "true"), 403, "somebody else");
    refused(&bob.delete(&format!("/api/vms/{vm}")), 403, "somebody else");
    assert_eq!(bob.get("/api/vms").body["total"], 0);
    let stopped = alice.post(&format!("/api/vms/{vm}/stop"), &json!({}));
    assert_eq!(stopped.status, 200, "{}", stopped.body);
    refused(&alice.run(vm, "true"), 409, "stopped");
    assert!(alice.get(&format!("/api/vms/{vm}/history")).body["total"].as_u64().unwrap() > 3, "it is kept");
    assert_eq!(alice.delete(&format!("/api/vms/{vm}")).status, 200);
    assert_eq!(alice.get("/api/vms").body["total"], 0);
}

fn commands(user: &User<'_>, vm: &str) {
    let failed = user.run(vm, "echo out; echo err >&2; exit 3");
    assert_eq!(failed.status, 200);
    let body = &failed.body;
    assert_eq!(
        (&body["exit_code"], &body["stdout"], &body["stderr"]),
        (&json!(3), &json!("out\n"), &json!("err\n"))
    );
    assert_eq!((&body["vm_id"], &body["error"]), (&json!(vm), &Value::Null));
    for field in ["execution_id", "started_at", "completed_at"] {
        assert!(body[field].is_string(), "{field}");
    }
    assert!(body["duration_ms"].is_u64());
    let mut request = json!({"code": "pwd", "vm_id": vm, "working_dir": "/var", "timeout_seconds": 60});
    assert_eq!(user.post("/api/llm/execute", &request).body["stdout"], "/var\n");
    request["timeout_ms"] = json!(60_001);
    refused(&user.post("/api/llm/execute", &request), 400, "differ");
    request["timeout_ms"] = json!(60_000);
    assert_eq!(user.post("/api/llm/execute", &request).status, 200);
    request["working_dir"] = json!("/nowhere");
    refused(&user.post("/api/llm/execute", &request), 400, "/nowhere");
    refused(
        &user.post("/api/llm/execute", &json!({"code": "1", "language": "cobol", "vm_id": vm})),
        400,
        "cobol",
    );
    refused(&user.post("/api/llm/execute", &json!({"vm_id": vm})), 400, "code");
    for array in ["[]", "[\"bash\", null, \"true\"]"] {
        let answer = user.server.call("POST", "/api/llm/execute", Some(&user.token), Some(array));
        refused(&answer, 400, "expected a JSON object");
        refused(&user.server.call("POST", "/api/vms", Some(&user.token), Some(array)), 400, "JSON object");
    }
    refused(&user.run("0123456789ab", "true"), 404, "there is no VM");
    let fits = format!("echo fits; exit 5\n#{}", "x".repeat(128 * 1024 - 19));
    assert_eq!(fits.len(), 128 * 1024);
    let answer = user.run(vm, &fits).body;
    assert_eq!((&answer["exit_code"], &answer["stdout"]), (&json!(5), &json!("fits\n")), "{answer}");
    refused(&user.run(vm, &format!("{fits}x")), 413, "at most 131072");
    refused(&user.run(vm, &"x".repeat(200_000)), 413, "code");
    refused(&user.run(vm, &"x".repeat(2_000_000)), 413, "length limit");
    // A command that leaves with 0 when it is told to stop did not succeed.
    let body =
        json!({"code": "trap 'exit 0' TERM; while :; do sleep 0.05; done", "vm_id": vm, "timeout_ms": 500});
    let answer = user.post("/api/llm/execute", &body);
    assert_eq!((answer.status, &answer.body["exit_code"]), (200, &json!(124)), "{}", answer.body);
    assert!(answer.body["error"].as_str().unwrap().contains("timed out"));
    let running = user.begin(vm, "echo out; printf '\\377' >&2; exec sleep 1000", 600);
    let path = format!("/api/vms/{vm}/executions/{running}");
    let mut lines = user.server.stream(&format!("{path}/stream"), &user.token);
    assert_eq!(lines.next().unwrap()["stdout"], "out\n");
    let second = lines.next().unwrap();
    assert_eq!(second["stderr_base64"], "/w==");
    assert_eq!(user.get(&path).body["exit_code"], Value::Null);
    assert_eq!(user.post(&format!("{path}/cancel"), &json!({})).status, 200);
    assert_eq!(user.server.ended(vm, &running, &user.token)["exit_code"], 130);
    let last = lines.next().unwrap();
    assert_eq!(last["exit_code"], 130);
    assert!(lines.next().is_none());
    let end = format!("{path}/stream?offset={}", last["offset"]);
    assert_eq!(user.server.stream(&end, &user.token).count(), 0, "there is nothing behind the end");
    let rest = format!("{path}/stream?offset={}", second["offset"]);
    assert_eq!(user.server.stream(&rest, &user.token).count(), 1);
    for words in ["begins at offset 2", "the `offset` of a line", "0 for all of it"] {
        refused(&user.get(&format!("{path}/stream?offset=2")), 400, words);
    }
    refused(&user.post(&format!("{path}/cancel"), &json!({})), 409, "has ended");
    let all = user.get(&format!("/api/vms/{vm}/history")).body;
    assert_eq!(all["history"][0]["execution_id"], json!(running), "the newest is first");
    let failures = user.get(&format!("/api/vms/{vm}/history?limit=2&failures_only=true")).body;
    assert_eq!(failures["history"].as_array().unwrap().len(), 2);
    assert!(failures["history"].as_array().unwrap().iter().all(|entry| entry["exit_code"] != 0));
    assert!(failures["total"].as_u64() < all["total"].as_u64());
    refused(&user.get(&format!("/api/vms/{vm}/history?limit=many")), 400, "limit");
}

#[test]
fn a_vm_that_is_deleted_under_a_command_leaves_nothing() {
    let mut server = Server::start();
    let token = server.token("alice");
    {
        let alice = User { server: &server, token: token.clone() };
        let vm = alice.vm();
        let body = json!({"code": "touch /tmp/begun; exec sleep 1000", "vm_id": vm}).to_string();
        let running = server.send("POST", "/api/llm/execute", Some(&token), Some(&body));
        assert_eq!(alice.output(&vm, "until [ -e /tmp/begun ]; do sleep 0.05; done"), "");
        assert_eq!(alice.delete(&format!("/api/vms/{vm}")).status, 200);
        refused(&server::answer(running), 503, "");
        assert!(!server.data().join("vms").join(&vm).exists());
    }
    assert_eq!(server.terminate(), 0);
}

#[test]
fn files_go_in_and_come_out() {
    let server = Server::start();
    let alice = user(&server, "alice");
    let vm = alice.vm();
    let mut tar = tar::Builder::new(Vec::new());
    let content = vec![7; 3 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "in/file", content.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let path = format!("/api/vms/{vm}/files?path=/workspace");
    let answer = server.call_bytes("PUT", &path, &alice.token, &tar);
    assert_eq!(answer.0, 200, "{}", String::from_utf8_lossy(&answer.1));
    assert_eq!(alice.output(&vm, "wc -c < /workspace/in/file"), format!("{}\n", content.len()));
    let (status, body) = server.call_bytes("GET", &format!("{path}/in"), &alice.token, &[]);
    assert_eq!(status, 200);
    let mut archive = tar::Archive::new(body.as_slice());
    let sizes: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
    assert!(sizes.contains(&(content.len() as u64)), "{sizes:?}");
    for bad in [&tar[..tar.len() / 2], &[b'x'; 2048][..]] {
        let (status, body) = server.call_bytes("PUT", &path, &alice.token, bad);
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    }
    assert_eq!(server.call_bytes("PUT", &format!("{path}&owner=nobody-here"), &alice.token, &tar).0, 400);
    refused(&alice.get(&format!("/api/vms/{vm}/files?path=relative")), 400, "absolute");
    refused(&alice.get(&format!("/api/vms/{vm}/files?path=/nowhere")), 404, "nowhere");
}

#[test]
fn without_a_vm_one_is_made_and_stays() {
    let server = Server::start();
    let alice = user(&server, "alice");
    let answer =
        alice.post("/api/llm/execute", &json!({"language": "bash", "code": "echo fresh > /tmp/file"}));
    assert_eq!((answer.status, &answer.body["exit_code"]), (200, &json!(0)), "{}", answer.body);
    assert_eq!(alice.output(answer.body["vm_id"].as_str().unwrap(), "cat /tmp/file"), "fresh\n");
    assert_eq!(alice.get("/api/vms").body["total"], 1);
}

#[test]
fn commands_outlive_a_killed_server() {
    let mut server = Server::start();
    let token = server.token("alice");
    let (vm, waits, hangs) = {
        let alice = User { server: &server, token: token.clone() };
        let vm = alice.vm();
        let waits = "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 7";
        (vm.clone(), alice.begin(&vm, waits, 600), alice.begin(&vm, "touch /tmp/hangs; exec sleep 1000", 5))
    };
    // Both run: the supervisor has their output files.
    {
        let alice = User { server: &server, token: token.clone() };
        assert_eq!(alice.output(&vm, "until [ -e /tmp/hangs ]; do sleep 0.05; done"), "");
    }
    server.kill_and_restart();
    let alice = User { server: &server, token: token.clone() };
    assert_eq!(alice.output(&vm, "touch /tmp/go"), "");
    let ended = server.ended(&vm, &waits, &token);
    assert_eq!((&ended["exit_code"], &ended["stdout"]), (&json!(7), &json!("one\ntwo\n")));
    // The time limit was set by the server that was killed.
    assert_eq!(server.ended(&vm, &hangs, &token)["exit_code"], 124);
}

#[test]
fn a_client_that_goes_away_stops_its_command() {
    let server = Server::start();
    let alice = user(&server, "alice");
    let vm = alice.vm();
    let body = json!({"code": "touch /tmp/begun; exec sleep 1000", "vm_id": vm}).to_string();
    let stream = server.send("POST", "/api/llm/execute", Some(&alice.token), Some(&body));
    assert_eq!(alice.output(&vm, "until [ -e /tmp/begun ]; do sleep 0.05; done"), "");
    drop(stream);
    let history = alice.get(&format!("/api/vms/{vm}/history")).body;
    let is_ours = |entry: &&Value| entry["command"].as_str().unwrap().starts_with("touch");
    let entry = history["history"].as_array().unwrap().iter().find(is_ours).unwrap();
    let execution = entry["execution_id"].as_str().unwrap();
    assert_eq!(server.ended(&vm, execution, &alice.token)["exit_code"], 130);
}

#[test]
fn a_rollback_brings_memory_and_disk_back() {
    let server = Server::start();
    let alice = user(&server, "alice");
    let vm = alice.vm();
    // /dev/shm is memory, /workspace is on the disk, the host name is in the kernel.
    let read = "cat /dev/shm/memory /workspace/disk; hostname";
    alice.output(&vm, "echo old > /dev/shm/memory; echo old > /workspace/disk; sync; hostname old");
    // One that runs and prints all the while, so that the snapshot cuts the connection where it will.
    let before = alice.begin(&vm, "while :; do echo before; done", 600);
    let taken =
        alice.post(&format!("/api/vms/{vm}/snapshots"), &json!({"name": "clean", "description": "first"}));
    assert_eq!(taken.status, 200, "{}", taken.body);
    let snapshot = taken.body["snapshot_id"].as_str().unwrap();
    alice.post(&format!("/api/vms/{vm}/executions/{before}/cancel"), &json!({}));
    server.ended(&vm, &before, &alice.token);
    alice.output(&vm, "echo new > /dev/shm/memory; rm /workspace/disk; sync; hostname new");
    let running = alice.begin(&vm, "touch /tmp/begun; exec sleep 1000", 600);
    alice.output(&vm, "until [ -e /tmp/begun ]; do sleep 0.05; done");
    for _ in 0..2 {
        let back = alice.post(&format!("/api/vms/{vm}/rollback/{snapshot}"), &json!({}));
        assert_eq!((back.status, &back.body["snapshot_id"]), (200, &json!(snapshot)), "{}", back.body);
        assert_eq!(back.body["vm_id"], json!(vm));
        assert_eq!(alice.output(&vm, read), "old\nold\nold\n");
    }
    // What ran is lost, and nobody says that it succeeded.
    let lost = server.ended(&vm, &running, &alice.token);
    assert_eq!((&lost["exit_code"], &lost["error"]), (&Value::Null, &json!("rolled back")));
    // Nor what the guest was asked for and had not yet answered: it stands still.
    server.tci(&["vm", "qmp", &vm, "stop"]);
    let asked = alice.begin(&vm, "exec sleep 1000", 600);
    let is_asked = |entry: &Value| entry["argv"].to_string().contains("exec sleep 1000");
    let executions = || -> Vec<Value> {
        serde_json::from_str(&server.tci(&["vm", "exec", "--list", &vm, "--json"])).unwrap()
    };
    let deadline = std::time::Instant::now() + server::LIMIT;
    while !executions().iter().any(is_asked) {
        assert!(std::time::Instant::now() < deadline, "it is never asked for: {:?}", executions());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(alice.post(&format!("/api/vms/{vm}/rollback/{snapshot}"), &json!({})).status, 200);
    assert_eq!(server.ended(&vm, &asked, &alice.token)["error"], json!("rolled back"));
    assert!(executions().iter().all(|entry| !entry["end"].is_null()), "{:?}", executions());
    let guest: i64 = alice.output(&vm, "date +%s").trim().parse().unwrap();
    let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((host.cast_signed() - guest).abs() < 20, "the clock was set: {guest}, here {host}");
    let none = uuid::Uuid::new_v4();
    refused(&alice.post(&format!("/api/vms/{vm}/rollback/{none}"), &json!({})), 404, "there is no snapshot");
    refused(&alice.post(&format!("/api/vms/{vm}/rollback/x%20y"), &json!({})), 404, "there is no snapshot");
    refused(&alice.post(&format!("/api/vms/{vm}/snapshots"), &json!({"name": ""})), 400, "name");
    let list = alice.get(&format!("/api/vms/{vm}/snapshots")).body;
    assert_eq!((&list["total"], &list["snapshots"][0]["name"]), (&json!(1), &json!("clean")));
}
