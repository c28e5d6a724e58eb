//! Following one execution.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use crate::{
    VmClient, VmError,
    client::Answer,
    protocol::{
        frame::{Decoder, FrameError, HEADER, Tag},
        message::{ExecExited, ExecFailed, ExecStarted, FileHeader, TerminalSize},
    },
};

/// What happens to a process in the guest, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// It runs.
    Started(ExecStarted),
    /// Its standard output, or its terminal's.
    Stdout(Bytes),
    /// Its standard error.
    Stderr(Bytes),
    /// A file that was to be returned.
    File(FileHeader),
    /// Part of that file's content.
    FileData(Bytes),
    /// It ended. The last event.
    Exited(ExecExited),
    /// It could not be started. The last event.
    Failed(ExecFailed),
    /// The VM ended first; how the process would have ended is unknown. The last event.
    Lost(String),
}

impl ExecEvent {
    /// Whether no event follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, ExecEvent::Exited(_) | ExecEvent::Failed(_) | ExecEvent::Lost(_))
    }
}

/// One execution, followed from an offset on. Dropping it does not stop the process.
pub struct Exec {
    client: VmClient,
    id: String,
    /// Where following began.
    start: u64,
    offset: u64,
    answer: Option<Answer>,
    decoder: Decoder,
    finished: bool,
}

/// What reading on has come to.
enum Read {
    /// Perhaps there is another event now.
    Some,
    /// All was read before.
    End,
    /// Nothing more will come, and how the process ended was not said.
    Lost,
}

impl Exec {
    pub(crate) fn new(client: VmClient, id: String, offset: u64, answer: Answer) -> Exec {
        let (start, decoder) = (offset, Decoder::new());
        Exec { client, id, start, offset, answer: Some(answer), decoder, finished: false }
    }

    /// One whose supervisor is gone: only what it wrote is left.
    pub(crate) fn recorded(client: VmClient, id: String, offset: u64) -> Exec {
        let (start, decoder) = (offset, Decoder::new());
        Exec { client, id, start, offset, answer: None, decoder, finished: false }
    }

    /// Its id, for [`VmClient::attach`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes of output behind the last event that [`Exec::next`] returned; attaching there continues with the next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event; `None` after the last one, and at once for an offset behind it.
    ///
    /// # Errors
    /// The output cannot be read any further. [`VmError::Offset`]: following began ahead of what was written then, and no event
    /// came to begin there. A supervisor that died is no error but [`ExecEvent::Lost`]: everything that arrived before is
    /// still delivered.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, VmError> {
        while !self.finished {
            if let Some(event) = self.decode()? {
                self.finished = event.is_last();
                if self.finished
                    && let Some(answer) = self.answer.take()
                {
                    answer.done();
                }
                return Ok(Some(event));
            }
            match self.read().await? {
                Read::Some => {}
                Read::End => self.finished = true,
                Read::Lost => {
                    self.finished = true;
                    return Ok(Some(ExecEvent::Lost("the VM ended and its supervisor with it".to_owned())));
                }
            }
        }
        Ok(None)
    }

    fn decode(&mut self) -> Result<Option<ExecEvent>, VmError> {
        let client = &self.client;
        // The first event is where the caller said; all others follow one that was understood.
        let is_callers = self.offset == self.start && self.start > 0;
        let no_event = |error: FrameError| {
            if is_callers {
                VmError::Offset { exec: self.id.clone(), offset: self.start }
            } else {
                client.broken("exec", error)
            }
        };
        let Some((tag, payload)) = self.decoder.next().map_err(no_event)? else {
            return Ok(None);
        };
        self.offset += (HEADER + payload.len()) as u64;
        let bytes = || Bytes::copy_from_slice(payload);
        Ok(Some(match tag {
            Tag::Stdout => ExecEvent::Stdout(bytes()),
            Tag::Stderr => ExecEvent::Stderr(bytes()),
            Tag::FileData => ExecEvent::FileData(bytes()),
            Tag::Started => ExecEvent::Started(json(client, payload)?),
            Tag::File => ExecEvent::File(json(client, payload)?),
            Tag::Exited => ExecEvent::Exited(json(client, payload)?),
            Tag::Failed => ExecEvent::Failed(json(client, payload)?),
            Tag::Lost => ExecEvent::Lost(String::from_utf8_lossy(payload).into_owned()),
            Tag::Request | Tag::Stdin | Tag::StdinEnd | Tag::Signal | Tag::Resize => {
                return Err(client.broken("exec", format!("a {tag:?} frame came from the guest")));
            }
        }))
    }

    /// Reads on. When the connection breaks, the supervisor is asked again, and when it is gone, what it had written is read
    /// from the file.
    async fn read(&mut self) -> Result<Read, VmError> {
        if let Some(answer) = &mut self.answer {
            match answer.response.body_mut().frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                    return Ok(Read::Some);
                }
                // The supervisor ends it after the last frame only.
                None if self.decoder.is_at_boundary() => return Ok(Read::End),
                None | Some(Err(_)) => {}
            }
            self.answer = None;
            // A partial frame is read again: attaching starts at a frame.
            self.decoder = Decoder::new();
            if let Ok(answer) = self.client.output(&self.id, self.offset).await {
                self.answer = Some(answer);
                return Ok(Read::Some);
            }
        }
        let has_more = self.read_file().map_err(|source| VmError::Io {
            operation: "read",
            path: self.client.exec_output(&self.id),
            source,
        })?;
        Ok(if has_more { Read::Some } else { Read::Lost })
    }

    /// Called when the decoder is empty or holds a frame that will never be whole.
    fn read_file(&mut self) -> io::Result<bool> {
        let mut file = match std::fs::File::open(self.client.exec_output(&self.id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        self.decoder = Decoder::new();
        file.seek(SeekFrom::Start(self.offset))?;
        // Room for one whole frame of the largest size.
        let mut buffer = Vec::new();
        let limit = crate::protocol::frame::MAX_PAYLOAD + HEADER;
        file.take(limit as u64).read_to_end(&mut buffer)?;
        self.decoder.push(&buffer);
        let whole = crate::protocol::frame::parse_header(&buffer)
            .is_ok_and(|head| head.is_some_and(|(_, length)| buffer.len() >= HEADER + length));
        Ok(whole)
    }

    /// Sends a signal to the process group.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn signal(&self, signal: i32) -> Result<(), VmError> {
        self.client.signal(&self.id, signal).await
    }

    /// Appends to standard input.
    ///
    /// # Errors
    /// The supervisor cannot be reached, or the process takes no input.
    pub async fn write_stdin(&self, bytes: Bytes) -> Result<(), VmError> {
        self.client.stdin(&self.id, bytes, false).await
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// As [`Exec::write_stdin`].
    pub async fn close_stdin(&self) -> Result<(), VmError> {
        self.client.stdin(&self.id, Bytes::new(), true).await
    }

    /// Changes the terminal's size.
    ///
    /// # Errors
    /// The supervisor cannot be reached, or the process has no terminal.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), VmError> {
        self.client.resize(&self.id, size).await
    }
}

fn json<T: DeserializeOwned>(client: &VmClient, payload: &[u8]) -> Result<T, VmError> {
    serde_json::from_slice(payload).map_err(|error| client.broken("exec", error))
}
