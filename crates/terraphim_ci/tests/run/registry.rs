//! A registry of images on loopback that asks for a password (Debian's `docker-registry`), and ports of a guest that lead to
//! this machine.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::host::{LIMIT, World};

/// Who may use the registry.
pub(crate) const USER: &str = "bot";
/// With this password.
pub(crate) const PASSWORD: &str = "correct-horse-battery";
/// The same as `htpasswd -B` writes it: the registry knows no other form.
const ENTRY: &str = "bot:$2y$05$abcdefghijklmnopqrstuuSnF5tLPqPFqc0z9CY0HcSLFbSRlL67u\n";

/// A registry with the image `private:1`. It ends when it is dropped.
pub(crate) struct Registry {
    server: Child,
    pub(crate) port: u16,
    directory: TempDir,
}

impl Registry {
    /// Starts it, with an image that the script `image.sh` makes of programs of this machine.
    pub(crate) fn start(script: &Path) -> Registry {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("users"), ENTRY).unwrap();
        let config = json!({
            "version": 0.1,
            "log": {"accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": file("images")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "tests", "path": file("users")}},
        });
        // JSON is YAML.
        fs::write(file("config.yml"), config.to_string()).unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(file("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let server = server.expect("the Debian package docker-registry is installed: `make soak` does that");
        let mut registry = Registry { server, port: 0, directory };
        registry.port = port_of(&mut registry.server);
        registry.add_image(script);
        registry
    }

    /// Makes the image, whose one layer is an archive, and puts it there by the registry's protocol: blobs, then what names
    /// them.
    fn add_image(&self, script: &Path) {
        let archive = Command::new("sh").arg(script).arg("-").output().unwrap();
        assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
        let layer = self.directory.path().join("layer.tar");
        fs::write(&layer, &archive.stdout).unwrap();
        let packed = Command::new("gzip").args(["-1", "-n", "-c"]).arg(&layer).output().unwrap().stdout;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&archive.stdout)]},
        });
        let kind = |name: &str| format!("application/vnd.docker.{name}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind("distribution.manifest.v2+json"),
            "config": self.add_blob(config.to_string().as_bytes(), &kind("container.image.v1+json")),
            "layers": [self.add_blob(&packed, &kind("image.rootfs.diff.tar.gzip"))],
        });
        let kind = format!("Content-Type: {}", kind("distribution.manifest.v2+json"));
        let body = self.body(manifest.to_string().as_bytes());
        self.ask("PUT", "/v2/private/manifests/1", &["-H", &kind, "--data-binary", &body]);
    }

    /// Puts bytes there, and gives what names them.
    fn add_blob(&self, bytes: &[u8], kind: &str) -> Value {
        let headers = self.ask("POST", "/v2/private/blobs/uploads/", &[]);
        let place = headers.lines().find_map(|line| line.strip_prefix("Location: "));
        let place = place.unwrap_or_else(|| panic!("no place in {headers}")).trim();
        let path = &place[place.find("/v2/").unwrap()..];
        let kind_of_body =
            ["-H", "Content-Type: application/octet-stream", "--data-binary", &self.body(bytes)];
        self.ask("PUT", &format!("{path}&digest={}", digest(bytes)), &kind_of_body);
        json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)})
    }

    /// What makes curl send bytes.
    fn body(&self, bytes: &[u8]) -> String {
        let file = self.directory.path().join("body");
        fs::write(&file, bytes).unwrap();
        format!("@{}", file.display())
    }

    /// Sends a request and gives the headers of the answer.
    fn ask(&self, method: &str, path: &str, args: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-D", "-", "-u", &format!("{USER}:{PASSWORD}"), "-X", method])
            .args(args)
            .arg(format!("http://127.0.0.1:{}{path}", self.port))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{method} {path}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself, which the test that used it has noticed.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits until a registry says its port.
fn port_of(server: &mut Child) -> u16 {
    let (sender, port) = channel();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    // It reads on to the end: a server that nobody listens to would wait.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let said = line.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest.to_owned());
            let digits = |text: String| text.chars().take_while(char::is_ascii_digit).collect::<String>();
            if let Some(port) = said.and_then(|rest| digits(rest).parse::<u16>().ok()) {
                // The test may have given up.
                let _ = sender.send(port);
            }
        }
    });
    port.recv_timeout(LIMIT).expect("the registry says where it listens")
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A port of a guest's loopback interface that leads to one of this machine, until it is dropped.
pub(crate) struct Forward(Child);

impl Forward {
    /// Opens it in a VM that runs. There is no command for that: the supervisor is asked.
    pub(crate) fn open(world: &World, vm: &str, guest: u16, host: u16) -> Forward {
        let socket = world.control_socket(vm);
        let body = json!({"port": guest, "target": {"tcp": format!("127.0.0.1:{host}")}});
        let mut curl = Command::new("curl")
            .args(["-sSN", "--fail", "--unix-socket", socket.to_str().unwrap(), "-d", &body.to_string()])
            .arg("http://vm/v1/forwards")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(curl.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(&guest.to_string()), "the supervisor says {line:?}");
        Forward(curl)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It ends with the VM, too.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
