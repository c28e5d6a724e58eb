//! A git server on loopback: git's own `http-backend` behind HTTP, and repositories that are made from directories.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server does differently from GitHub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// Every request needs this `Authorization`.
    pub(crate) authorization: Option<String>,
    /// It knows only the protocol of old, in which no commit can be asked for by its name.
    pub(crate) is_old: bool,
}

/// A git server. It ends when it is dropped.
pub(crate) struct GitServer {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// The paths that were asked for.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitServer {
    /// Serves the repositories below a directory.
    pub(crate) async fn start(root: &Path, habits: Habits) -> GitServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (root, noted) = (root.to_owned(), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (root, noted, habits) = (root.clone(), Arc::clone(&noted), habits.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        noted.lock().unwrap().push(request_line(&request));
                        answer(root.clone(), habits.clone(), request)
                    });
                    // A client that goes away in the middle is its own affair.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        GitServer { url, requests, task }
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn request_line(request: &Request<Incoming>) -> String {
    format!("{} {}", request.method(), request.uri())
}

async fn answer(
    root: PathBuf,
    habits: Habits,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| {
        request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    if habits.authorization.as_ref().is_some_and(|wanted| header("authorization") != *wanted) {
        let response = Response::builder().status(401).header("www-authenticate", "Basic realm=git");
        return Ok(response.body(Full::default()).unwrap());
    }
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("REMOTE_ADDR", "127.0.0.1");
    if !habits.is_old {
        command.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    command.env("CONTENT_LENGTH", body.len().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It need not read a body that it does not want.
    let _ = stdin.write_all(&body).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap().stdout;
    Ok(response(&output))
}

/// The response that a CGI program wrote.
fn response(output: &[u8]) -> Response<Full<Bytes>> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap().parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Full::new(Bytes::copy_from_slice(&output[end + 4..]))).unwrap()
}

/// Runs git in a directory, with an identity and times of its own, and gives what it says.
#[track_caller]
pub(crate) fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
        .args(args)
        .env("GIT_AUTHOR_NAME", "T")
        .env("GIT_AUTHOR_EMAIL", "t@example.org")
        .env("GIT_COMMITTER_NAME", "T")
        .env("GIT_COMMITTER_EMAIL", "t@example.org")
        .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
        .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes repositories out of `from/OWNER/REPOSITORY/TAG/...`: a commit and a tag for each tag, in their order.
pub(crate) fn make_repositories(from: &Path, to: &Path) {
    for owner in sorted(from) {
        for repository in sorted(&owner) {
            let target = to.join(repository.strip_prefix(from).unwrap());
            std::fs::create_dir_all(&target).unwrap();
            git(&target, &["init", "--quiet"]);
            for tag in sorted(&repository) {
                for entry in sorted(&target).iter().filter(|path| !path.ends_with(".git")) {
                    Command::new("rm").arg("-rf").arg(entry).status().unwrap();
                }
                let source = format!("{}/.", tag.display());
                assert!(Command::new("cp").args(["-a", &source]).arg(&target).status().unwrap().success());
                // Files of the same size and second look unchanged to it.
                let _ = std::fs::remove_file(target.join(".git/index"));
                commit(&target, &tag.file_name().unwrap().to_string_lossy());
            }
        }
    }
}

/// Commits everything in a repository and tags it.
pub(crate) fn commit(repository: &Path, tag: &str) -> String {
    git(repository, &["add", "--all"]);
    git(repository, &["commit", "--quiet", "--allow-empty", "-m", tag]);
    git(repository, &["tag", tag]);
    git(repository, &["rev-parse", "HEAD"])
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
