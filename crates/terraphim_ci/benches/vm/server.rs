//! One command through the host API of `tci serve`, as an HTTP client sees it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    World,
    guest::run,
    measure::{milliseconds, tci},
    table::{Row, Table, ms},
};

const COUNT: usize = 200;

struct Server {
    child: Child,
    address: String,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn measure(table: &mut Table, world: &World) {
    table.group("tci serve (a VM of the default type)");
    let server = serve(world);
    let made = server.call("POST", "/api/vms", Some(&json!({"vm_type": "default", "name": "api"})));
    let Some(id) = made["id"].as_str().map(str::to_owned) else {
        return table.absent(ms("one command", "", ""), &made.to_string());
    };
    let execute = |code: &str| json!({"agent_id": "bench", "language": "bash", "code": code, "vm_id": id});
    // The first one waits for the guest.
    let first = server.call("POST", "/api/llm/execute", Some(&execute("true")));
    assert_eq!(first["exit_code"], 0, "{first}");
    let vm = world.host.find(&id).expect("the VM");
    let client = world.host.client(&vm.id).expect("a client");
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        let begun = Instant::now();
        let answer = server.call("POST", "/api/llm/execute", Some(&execute("true")));
        whole.push(milliseconds(begun));
        assert_eq!(answer["exit_code"], 0, "{answer}");
    }
    for _ in 0..20 {
        own.push(own_shell(&client).await);
    }
    let health: Vec<f64> = (0..COUNT)
        .map(|_| {
            let begun = Instant::now();
            server.call("GET", "/health", None);
            milliseconds(begun)
        })
        .collect();
    table.samples(ms("GET /health (connect, ask, answer)", "", "-"), health);
    let row = Row {
        what: "POST /api/llm/execute of true, whole",
        unit: "ms",
        baseline: "100-150 (N4)",
        wanted: "-",
    };
    table.samples(row, whole);
    table.samples(ms("of it the guest's own start of a shell", "", "-"), own);
    server.call("DELETE", &format!("/api/vms/{id}"), None);
}

/// What the guest needs for the shell of one command when nobody outside is asked, in milliseconds.
async fn own_shell(client: &terraphim_vm::VmClient) -> f64 {
    let shell = "bash -c true || exit 1";
    let loops = async |count: u32| {
        let script = format!("i=0; while [ $i -lt {count} ]; do {shell}; i=$((i+1)); done");
        run(client, &["sh", "-c", &script]).await.1
    };
    (loops(15).await - loops(5).await) / 10.0 / 1000.0
}

fn serve(world: &World) -> Server {
    let data = world.data();
    let token = tci(data, &["token", "create", "bench"]).stdout(Stdio::piped()).output().expect("a token");
    assert!(token.status.success(), "tci token create fails");
    let mut command = tci(data, &["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("tci serve starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
    let address = line.trim().strip_prefix("listening on http://").expect("its address").to_owned();
    Server { child, address, token: String::from_utf8_lossy(&token.stdout).trim().to_owned() }
}

impl Server {
    /// One call on a connection of its own.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: tci\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}
