//! A server of its own for every test, and the little HTTP that it takes to talk to it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use terraphim_vm::{Host, Paths};

/// Far more than anything here takes; reached only when something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

const CONFIG: &str = "[vm-types.default]\nimage = 'busybox'\ncpus = 1\nmemory-mib = 128\ndisk-mib = 256\n\
                      network = 'none'\n[serve]\nvms-per-user = 2\n";

/// Where a server's standard error goes.
const SAID: &str = "serve.stderr";

pub(crate) struct Server {
    directory: TempDir,
    child: Child,
    address: String,
}

/// Status, body, and whether there was a request id.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) head: String,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_with("")
    }

    /// With more lines in `[serve]`.
    pub(crate) fn start_with(settings: &str) -> Server {
        let images = env::var_os("TCI_TEST_IMAGES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tci-test"),
            PathBuf::from,
        );
        assert!(images.join("images").is_dir(), "no guest images: run `make test` once, it builds them");
        let directory = tempfile::Builder::new().prefix("tci-api-").tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).unwrap();
            symlink(fs::canonicalize(images.join(name)).unwrap(), data.join(name)).unwrap();
        }
        fs::create_dir_all(directory.path().join("tci")).unwrap();
        fs::write(directory.path().join("tci/config.toml"), format!("{CONFIG}{settings}")).unwrap();
        let (child, address) = spawn(directory.path());
        Server { directory, child, address }
    }

    /// As a crash of the server: no farewell.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.address) = spawn(self.directory.path());
    }

    /// As an operator would end it; does not wait.
    pub(crate) fn ask_to_end(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// The same, to its end.
    pub(crate) fn terminate(&mut self) -> i32 {
        self.ask_to_end();
        self.child.wait().unwrap().code().unwrap()
    }

    pub(crate) fn restart(&mut self) {
        (self.child, self.address) = spawn(self.directory.path());
    }

    /// What it has said on standard error, and the servers before it.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join(SAID)).unwrap()
    }

    /// A connection on which this was sent.
    pub(crate) fn open(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// The program's own command line with the data of this server.
    pub(crate) fn tci(&self, args: &[&str]) -> String {
        let output = command(self.directory.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn token(&self, user: &str) -> String {
        self.tci(&["token", "create", user])
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One call. `body` is JSON, sent as it is.
    pub(crate) fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        answer(self.send(method, path, token, body))
    }

    /// The head of the answer to a call with one more header.
    pub(crate) fn head(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n{header}\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().0.to_owned()
    }

    /// Sends a call and leaves the answer on the stream.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: tci\r\nConnection: close\r\n");
        if let Some(token) = token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        // A body over the limit is refused before it was read whole.
        let _ = (&stream).write_all(request.as_bytes());
        stream
    }

    /// A call whose bodies are bytes: status and body.
    pub(crate) fn call_bytes(&self, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // Version 1.0: the answer comes as it is and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), answer.split_off(end + 4))
    }

    /// The JSON lines of a streaming call, as they come.
    pub(crate) fn stream(&self, path: &str, token: &str) -> impl Iterator<Item = Value> + use<> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().contains(" 200 "));
        let lines = lines.skip_while(|line| !line.is_empty()).skip(1);
        lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Asks until an execution has ended: the API has no event for that.
    pub(crate) fn ended(&self, vm: &str, execution: &str, token: &str) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer =
                self.call("GET", &format!("/api/vms/{vm}/executions/{execution}"), Some(token), None);
            assert_eq!(answer.status, 200, "{}", answer.body);
            if !answer.body["completed_at"].is_null() {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "execution {execution} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads an answer to its end.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    Answer { status, body, head: head.to_owned() }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tci"));
    command.env("XDG_CONFIG_HOME", directory).env("TCI_DATA_DIR", directory.join("data"));
    command.env_remove("TCI_JWT_SECRET").env_remove("RUST_LOG");
    command
}

fn spawn(directory: &Path) -> (Child, String) {
    let said = fs::File::options().create(true).append(true).open(directory.join(SAID)).unwrap();
    let mut child = command(directory)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(said)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
    (child, address)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let paths = Paths::new(&self.data()).unwrap();
        let host = Host::open(paths.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for record in host.list().unwrap_or_default() {
            let _ = runtime.block_on(host.remove(&record.id, true));
        }
        let _ = fs::remove_dir_all(paths.runtime());
    }
}
