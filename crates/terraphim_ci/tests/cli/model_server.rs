//! A model whose answers a test chooses, which a real one does not let it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// Answers every request with the next of its answers, the last one for ever. Its thread ends with the test's process.
pub(crate) struct Model {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Model {
    pub(crate) fn start(answers: Vec<(u16, String)>) -> Model {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &answers, &log);
            }
        });
        Model { url, seen }
    }

    pub(crate) fn says(files: &[&str]) -> Model {
        let answer = |file: &&str| {
            let content = json!({ "workflow": file }).to_string();
            let chunk = json!({ "choices": [{ "delta": { "content": content }, "finish_reason": "stop" }] });
            (200, format!("data: {chunk}\n\ndata: [DONE]\n\n"))
        };
        Model::start(files.iter().map(answer).collect())
    }

    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, answers: &[(u16, String)], log: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let number = {
        let mut log = log.lock().unwrap();
        log.push((head, serde_json::from_slice(&body).unwrap()));
        log.len() - 1
    };
    let (status, text) = &answers[number.min(answers.len() - 1)];
    let kind = if text.starts_with("data:") { "text/event-stream" } else { "application/json" };
    let length = text.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    );
}
