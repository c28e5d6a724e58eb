//! QEMU's machine protocol: JSON lines over a stream (<https://www.qemu.org/docs/master/interop/qmp-spec.html>).

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};

/// A QMP command failed.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU answered with an error.
    #[error("QEMU refused `{command}`: {class}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// No answer within the time limit.
    #[error("QEMU did not answer `{command}` within {limit:?}")]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection ended.
    #[error("QEMU closed its control connection before it answered `{command}`")]
    Closed {
        /// The command.
        command: String,
    },
    /// The connection failed.
    #[error("cannot send `{command}` to QEMU")]
    Io {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Something that QEMU reports unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpEvent {
    /// Its name, for instance `SHUTDOWN`.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// Who waits for which answer: a value, or QEMU's error class and words.
type Waiters = HashMap<u64, oneshot::Sender<Result<Value, (String, String)>>>;
type Waiting = Mutex<Waiters>;

/// A connection in command mode. Any number of commands may be under way; a slow one delays no other.
#[derive(Clone, Debug)]
pub struct Qmp {
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
    waiting: Arc<Waiting>,
    next_id: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

/// QEMU's first answer comes when its main loop runs: 40 ms on a quiet machine, seconds on a busy one.
const GREETING_LIMIT: Duration = Duration::from_secs(30);

impl Qmp {
    /// Takes the greeting and enters command mode. Events go to `events`; those that find it full are dropped, because
    /// a guest can cause any number of them and the one that decides (the process ended) comes from the kernel.
    ///
    /// # Errors
    /// The connection ends or QEMU does not answer.
    pub async fn connect(stream: UnixStream, events: mpsc::Sender<QmpEvent>) -> Result<Qmp, QmpError> {
        let (read, write) = stream.into_split();
        let waiting = Arc::new(Waiting::default());
        let qmp = Qmp {
            writer: Arc::new(AsyncMutex::new(write)),
            waiting: Arc::clone(&waiting),
            next_id: Arc::new(AtomicU64::new(1)),
        };
        tokio::spawn(read_messages(BufReader::new(read), waiting, events));
        qmp.execute("qmp_capabilities", None, GREETING_LIMIT).await?;
        Ok(qmp)
    }

    /// Executes a command and returns what QEMU returned.
    ///
    /// # Errors
    /// QEMU refuses, does not answer within `limit`, or ends.
    pub async fn execute(
        &self,
        command: &str,
        arguments: Option<Value>,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let closed = || QmpError::Closed { command: command.to_owned() };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut line = json!({"execute": command, "id": id});
        if let Some(arguments) = arguments {
            line["arguments"] = arguments;
        }
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id, sender);
        let exchange = async {
            self.writer
                .lock()
                .await
                .write_all(format!("{line}\n").as_bytes())
                .await
                .map_err(|source| QmpError::Io { command: command.to_owned(), source })?;
            receiver.await.map_err(|_| closed())
        };
        let answer = timeout(limit, exchange).await;
        self.lock().remove(&id);
        match answer {
            Err(_) => Err(QmpError::Timeout { command: command.to_owned(), limit }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err((class, description)))) => {
                Err(QmpError::Refused { command: command.to_owned(), class, description })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_messages(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Waiting>,
    events: mpsc::Sender<QmpEvent>,
) {
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        // The greeting has none of these fields and passes as a message that is for nobody.
        if let Ok(message) = serde_json::from_slice::<Message>(&line) {
            if let Some(name) = message.event {
                let _ = events.try_send(QmpEvent { name, data: message.data });
            } else if let Some(id) = message.id
                && let Some(sender) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
            {
                let answer = match message.error {
                    Some(refusal) => Err((refusal.class, refusal.desc)),
                    None => Ok(message.value.unwrap_or(Value::Null)),
                };
                let _ = sender.send(answer);
            }
        }
        line.clear();
    }
    // Whoever still waits learns that no answer will come.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
