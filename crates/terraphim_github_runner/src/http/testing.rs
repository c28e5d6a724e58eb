//! A scripted HTTP server for the tests of this crate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers.
    Json(u16, Value),
    /// Answers with an extra header line.
    With(u16, &'static str, Value),
    /// Answers with bytes that may be no JSON.
    Raw(u16, &'static str),
    /// Answers with server-sent events.
    Events(String),
    /// Answers with these events, and so long a pause between them.
    Slowly(Vec<String>, Duration),
    /// Sends these events and breaks the connection within the body.
    Cut(String),
    /// Sends these events and no more.
    Stall(String),
    /// Sends this event again and again.
    Endless(String),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Silence,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// Answers request after request with the replies given, the last one for ever.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(replies: impl Into<Vec<Reply>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (replies, log) = (replies.into(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                connections.spawn(serve(stream, replies.clone(), Arc::clone(&log)));
            }
        });
        Server { url, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD /path` of every request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, one request: `Connection: close` keeps the order of replies certain.
async fn serve(mut stream: TcpStream, replies: Vec<Reply>, log: Arc<Mutex<Vec<Seen>>>) {
    let Some(seen) = read_request(&mut stream).await else { return };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(seen);
        log.len() - 1
    };
    let (status, header, body) = match replies[number.min(replies.len() - 1)].clone() {
        Reply::Json(status, body) => (status, "", body.to_string()),
        Reply::With(status, header, body) => (status, header, body.to_string()),
        Reply::Raw(status, body) => (status, "", body.to_owned()),
        Reply::Events(text) => return events(&mut stream, &text, true).await,
        Reply::Slowly(texts, pause) => {
            events(&mut stream, &texts[0], false).await;
            for text in &texts[1..] {
                tokio::time::sleep(pause).await;
                let _ = stream.write_all(&chunk(text)).await;
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
            let _ = stream.shutdown().await;
            return;
        }
        Reply::Cut(text) => return events(&mut stream, &text, false).await,
        Reply::Stall(text) => {
            events(&mut stream, &text, false).await;
            return std::future::pending().await;
        }
        Reply::Endless(text) => {
            let text = text.repeat(100);
            events(&mut stream, &text, false).await;
            // Ends when the client has gone away.
            while stream.write_all(&chunk(&text)).await.is_ok() {}
            return;
        }
        Reply::Close => return,
        Reply::Silence => return std::future::pending().await,
    };
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// A body of chunks, with its end or without.
async fn events(stream: &mut TcpStream, text: &str, ends: bool) {
    let head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&chunk(text)).await;
    if ends {
        let _ = stream.write_all(b"0\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let header = |name: &str| {
        let found = text.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")));
        found.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    let length: usize = header("content-length").map_or(0, |v| v.parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let line = text.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let body = serde_json::from_slice(&bytes[head..]).unwrap_or(Value::Null);
    Some(Seen { line, authorization: header("authorization"), body })
}
