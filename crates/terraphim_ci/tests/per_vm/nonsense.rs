//! Nonsense on the control socket.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use terraphim_vm::VmState;

use crate::host::TestHost;

/// Xorshift (Marsaglia 2003). A failure says with which seed it began.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn bytes(&mut self, at_most: usize) -> Vec<u8> {
        (0..self.below(at_most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Sometimes nearly a request, sometimes nothing like one. Never one to stop.
    fn nonsense(&mut self) -> Vec<u8> {
        let method = self.one_of(&["GET", "POST", "PUT", "DELETE", "PATCH", "get", "\u{0}"]);
        let path = self.one_of(&[
            "/v1/ping",
            "/v1/status",
            "/v1/agent",
            "/v1/qmp",
            "/v1/exec",
            "/v1/exec/x/output?offset=99999999999999999999",
            "/v1/exec/../../x/output",
            "/v1/exec/x/signal",
            "/v1/snapshots",
            "/v1/rollback",
            "/v1/views",
            "/v1/views/%00",
            "/v1/files?path=",
            "/v1/files?path=%2Fetc",
            "/v1/forwards",
            "/v2",
            "*",
            "//",
            "http://[",
            "/%ff%fe",
        ]);
        let body: Vec<u8> = match self.below(6) {
            0 => self.bytes(4096),
            1 => b"{\"execute\": 1}".to_vec(),
            2 => b"{\"argv\": []}".to_vec(),
            3 => [b"[".repeat(5000), b"]".repeat(5000)].concat(),
            4 => b"{\"argv\":[\"x\"],\"env\":{\"a\":{\"b\":[null,1e999]}}}".to_vec(),
            _ => Vec::new(),
        };
        let headers = match self.below(6) {
            0 => format!("Content-Length: {}\r\n", body.len()),
            1 => format!("Content-Length: {}\r\n", body.len() + 1000),
            2 => "Content-Length: -1\r\n".to_owned(),
            3 => "Transfer-Encoding: chunked\r\n".to_owned(),
            4 => format!("X-Long: {}\r\n", "x".repeat(self.below(600_000))),
            _ => "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        };
        match self.below(5) {
            0 => self.bytes(4096),
            1 => format!("{method} {path}").into_bytes(),
            _ => {
                [format!("{method} {path} HTTP/1.1\r\nHost: vm\r\n{headers}\r\n").into_bytes(), body].concat()
            }
        }
    }
}

#[tokio::test]
async fn nonsense_on_the_control_socket_harms_nothing() {
    let test = TestHost::new();
    let vm = test.running().await;
    let (socket, supervisor) = (vm.socket.clone().unwrap(), vm.supervisor.as_ref().unwrap().pid);
    let client = test.host.client(&vm.id).unwrap();
    client.wait_agent().await.unwrap();
    let descriptors = || fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count();
    let before = descriptors();
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut random = Random(u64::from(seed) | 1);
    for _ in 0..300 {
        let sent = random.nonsense();
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // Refused in the middle, or not read to its end: both are answers.
        let _ = stream.write_all(&sent);
        if random.below(2) == 0 {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 512]);
        }
    }
    client.ping().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    test.until("the end of all connections", || descriptors() <= before).await;
    let row = test.row(&vm).unwrap();
    assert_eq!((row.state, row.supervisor), (VmState::Running, vm.supervisor.clone()), "seed {seed}");
    client.wait_agent().await.unwrap();
    // What is wrong in the eyes of the guest is wrong for the caller, and was never begun.
    let known = test.host.executions(&vm.id).unwrap();
    for wrong in [r#"{"argv":["true"],"env":5}"#, r#"{"argv":[5]}"#, r#"{"arg":["true"]}"#] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = wrong.len();
        let head = format!(
            "POST /v1/exec HTTP/1.1\r\nHost: vm\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), wrong.as_bytes()].concat()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("at line 1 column"), "{said}");
    }
    assert_eq!(test.host.executions(&vm.id).unwrap(), known);
    test.host.stop(&vm.id, &crate::host::NOW).await.unwrap();
}
