//! Takes the output of a step as it comes: lines, workflow commands, masking, then the observer.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use indexmap::IndexMap;
use terraphim_actions::mask::{MaskError, MaskStream};

use super::commands::{Interpreter, Request, may_hold_command};
use super::event::{Annotation, AnnotationLevel, JobKey, RunEvent, RunObserver};
use super::lines::{Block, Lines};
use super::masks::Masks;
use crate::error::Result;
use crate::workflow::{OutputSink, Stream};

/// GitHub keeps this many messages of each kind and step.
const MAX_ANNOTATIONS: usize = 10;
/// GitHub cuts messages to this many characters.
const MAX_MESSAGE: usize = 4096;

/// Where output comes from.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The job; absent for setup and cleanup.
    pub(super) job: Option<JobKey>,
    /// The number of the step or command.
    pub(super) step: usize,
    /// The workspace, which the files of messages are relative to.
    pub(super) workspace: String,
}

/// What the commands of a step asked for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) outputs: IndexMap<String, String>,
    pub(super) state: IndexMap<String, String>,
    pub(super) env: IndexMap<String, String>,
    pub(super) paths: Vec<String>,
    pub(super) annotations: Vec<Annotation>,
    /// A command could not be carried out.
    pub(super) has_failed: bool,
}

/// One of the two outputs of a process.
#[derive(Debug, Default)]
struct Source {
    lines: Lines,
    /// What of a line that is too long to be held may be the beginning of a secret.
    mask: MaskStream,
}

/// The output of one step.
pub(super) struct StepOutput<'a> {
    place: Place,
    observer: &'a dyn RunObserver,
    masks: Masks,
    /// Absent where commands mean nothing.
    interpreter: Option<Interpreter>,
    shows_debug: bool,
    stdout: Source,
    stderr: Source,
    /// Masked text that was not handed on yet. Empty between two writes.
    ready: BytesMut,
    pub(super) requests: Requests,
}

impl<'a> StepOutput<'a> {
    pub(super) fn new(
        place: Place,
        observer: &'a dyn RunObserver,
        masks: Masks,
        interpreter: Option<Interpreter>,
    ) -> StepOutput<'a> {
        StepOutput {
            place,
            observer,
            masks,
            interpreter,
            shows_debug: false,
            stdout: Source::default(),
            stderr: Source::default(),
            ready: BytesMut::new(),
            requests: Requests::default(),
        }
    }

    /// Shows what `::debug::` says.
    pub(super) fn with_debug(mut self, shows_debug: bool) -> Self {
        self.shows_debug = shows_debug;
        self
    }

    /// Hands on what is left: the stream has ended.
    pub(super) async fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(block) = self.source(stream).lines.finish() {
                self.block(stream, block).await;
            }
            self.end_line(stream);
        }
        self.flush().await;
    }

    /// The same, and gives what the commands asked for.
    pub(super) async fn finish(mut self) -> Requests {
        self.drain().await;
        self.requests
    }

    fn source(&mut self, stream: Stream) -> &mut Source {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    async fn block(&mut self, stream: Stream, block: Block) {
        match block {
            Block::Piece(text) => {
                let ends = text.ends_with(b"\n");
                let Self { masks, stdout, stderr, ready, .. } = self;
                let source = if stream == Stream::Stdout { stdout } else { stderr };
                ready.extend_from_slice(&source.mask.push(&masks.read(), &text));
                if ends {
                    self.end_line(stream);
                }
            }
            Block::Lines(lines) if self.interpreter.is_some() && may_hold_command(&lines) => {
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    self.line(line).await;
                }
            }
            Block::Lines(lines) => self.show(&lines),
        }
    }

    /// A line that came in pieces has ended: what was held back of it is no beginning of a secret.
    fn end_line(&mut self, stream: Stream) {
        let Self { masks, stdout, stderr, ready, .. } = self;
        let source = if stream == Stream::Stdout { stdout } else { stderr };
        ready.extend_from_slice(&source.mask.finish(&masks.read()));
        source.mask = MaskStream::new();
    }

    async fn line(&mut self, line: &[u8]) {
        let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        let text = String::from_utf8_lossy(&line[..end]);
        let interpreted = self.interpreter.as_mut().and_then(|interpreter| interpreter.line(&text));
        let Some(interpreted) = interpreted else { return self.show(line) };
        if interpreted.is_shown {
            self.show(line);
        }
        for request in interpreted.requests {
            self.request(request).await;
        }
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Mask(value) => self.mask(&value).await,
            Request::Output(name, value) => drop(self.requests.outputs.insert(name, value)),
            Request::State(name, value) => drop(self.requests.state.insert(name, value)),
            Request::Env(name, value) => drop(self.requests.env.insert(name, value)),
            Request::Path(path) => self.requests.paths.push(path),
            Request::Debug(text) if self.shows_debug => self.show(format!("##[debug]{text}\n").as_bytes()),
            Request::Debug(_) => {}
            Request::Annotate(annotation) => self.annotate(annotation).await,
            Request::Group(name) => {
                let name = self.masks.mask(&name);
                self.send(|job, step| RunEvent::GroupStart { job, step, name, at: Utc::now() }).await;
            }
            Request::EndGroup => {
                self.send(|job, step| RunEvent::GroupEnd { job, step, at: Utc::now() }).await;
            }
            Request::Refuse(text) => {
                self.requests.has_failed = true;
                self.annotate(Annotation::new(AnnotationLevel::Error, text)).await;
            }
        }
    }

    /// Keeps a message as far as there is room for it; without room it is only shown.
    pub(super) async fn annotate(&mut self, annotation: Annotation) {
        let annotation = self.masked(annotation);
        let level = annotation.level;
        let so_far = self.requests.annotations.iter().filter(|known| known.level == level).count();
        if so_far >= MAX_ANNOTATIONS {
            let name = format!("{level:?}").to_lowercase();
            self.ready.extend_from_slice(format!("##[{name}]{}\n", annotation.message).as_bytes());
            return;
        }
        self.requests.annotations.push(annotation.clone());
        self.send(|job, step| RunEvent::Annotation { job, step: Some(step), annotation, at: Utc::now() })
            .await;
    }

    fn masked(&self, annotation: Annotation) -> Annotation {
        let mask = |text: &str| self.masks.mask(text);
        let mut message = mask(&annotation.message);
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(end);
        }
        let inside = format!("{}/", self.place.workspace);
        Annotation {
            message,
            title: annotation.title.as_deref().map(mask),
            file: annotation.file.map(|file| mask(file.strip_prefix(&inside).unwrap_or(&file))),
            ..annotation
        }
    }

    /// Hides a value from now on. What cannot be hidden fails the step.
    async fn mask(&mut self, value: &str) {
        let (level, text) = match self.masks.add(value) {
            Ok(()) => return,
            Err(error @ MaskError::Empty) => (AnnotationLevel::Warning, error.to_string()),
            Err(error) => {
                self.requests.has_failed = true;
                (AnnotationLevel::Error, error.to_string())
            }
        };
        self.annotate(Annotation::new(level, text)).await;
    }

    /// Masks whole lines and keeps them for the next flush.
    fn show(&mut self, lines: &[u8]) {
        let masker = self.masks.read();
        if masker.is_empty() {
            return self.ready.extend_from_slice(lines);
        }
        let mut stream = MaskStream::new();
        self.ready.extend_from_slice(&stream.push(&masker, lines));
        self.ready.extend_from_slice(&stream.finish(&masker));
    }

    async fn send(&mut self, event: impl FnOnce(JobKey, usize) -> RunEvent) {
        self.flush().await;
        if let Some(job) = self.place.job.clone() {
            self.observer.observe(&event(job, self.place.step)).await;
        }
    }

    async fn flush(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let text = self.ready.split().freeze();
        let (job, step) = (self.place.job.clone(), self.place.step);
        self.observer.observe(&RunEvent::Output { job, step, text, at: Utc::now() }).await;
    }
}

#[async_trait]
impl OutputSink for StepOutput<'_> {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        for block in self.source(stream).lines.push(bytes) {
            self.block(stream, block).await;
        }
        self.flush().await;
        Ok(())
    }
}
