//! Takes the output of a step as it comes: lines, workflow commands, masking, then the observer.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use indexmap::IndexMap;
use terraphim_actions::env_file;
use terraphim_actions::mask::{MaskError, MaskStream};

use super::commands::{Interpreter, Request, may_be_command, may_hold_command};
use super::event::{Annotation, AnnotationLevel, JobKey, RunEvent, RunObserver};
use super::lines::{Block, Lines, runner_lines};
use super::masks::Masks;
use super::matchers::StepMatchers;
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
    matchers: Option<StepMatchers>,
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
            matchers: None,
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

    /// Looks for messages of tools.
    pub(super) fn with_matchers(mut self, matchers: StepMatchers) -> Self {
        self.matchers = Some(matchers);
        self
    }

    /// Hands on what is left: the stream has ended.
    pub(super) async fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for block in self.source(stream).lines.finish() {
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
                let ends = text.ends_with(b"\n") || text.ends_with(b"\r");
                let Self { masks, stdout, stderr, ready, .. } = self;
                let source = if stream == Stream::Stdout { stdout } else { stderr };
                ready.extend_from_slice(&source.mask.push(&masks.read(), &text));
                if ends {
                    self.end_line(stream);
                }
            }
            Block::Lines(lines) if self.must_look_at(&lines) => self.lines(&lines).await,
            Block::Lines(lines) => self.show(&lines),
        }
    }

    /// Looks at lines that may be commands or messages of tools one by one. Those between them are masked together, before
    /// the next command, which may hide more from then on.
    async fn lines(&mut self, lines: &[u8]) {
        let (mut shown, mut at) = (0, 0);
        for line in runner_lines(lines) {
            let next = at + line.len();
            if self.has_matchers() || may_be_command(line) {
                self.show(&lines[shown..at]);
                self.line(line).await;
                shown = next;
            }
            at = next;
        }
        self.show(&lines[shown..]);
    }

    fn has_matchers(&self) -> bool {
        self.matchers.as_ref().is_some_and(|matchers| !matchers.is_empty())
    }

    /// Whether the block must be looked at line by line.
    fn must_look_at(&self, lines: &[u8]) -> bool {
        self.has_matchers() || (self.interpreter.is_some() && may_hold_command(lines))
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
        let Some(interpreted) = interpreted else {
            self.show(line);
            return self.look(&text).await;
        };
        if interpreted.is_shown {
            self.show(line);
        }
        for request in interpreted.requests {
            self.request(request).await;
        }
    }

    /// Looks for the message of a tool in a line.
    async fn look(&mut self, line: &str) {
        let Some(matchers) = self.matchers.as_mut().filter(|matchers| !matchers.is_empty()) else { return };
        let seen = matchers.look(line);
        for warning in seen.warnings {
            self.annotate(Annotation::new(AnnotationLevel::Warning, warning)).await;
        }
        if let Some(annotation) = seen.annotation {
            self.annotate(annotation).await;
        }
    }

    async fn change_matchers(&mut self, request: Request) {
        let Some(matchers) = &mut self.matchers else { return };
        let changed = match &request {
            Request::AddMatcher(path) => matchers.add(path).await,
            Request::RemoveMatchers(path) => matchers.remove_file(path).await,
            Request::RemoveOwner(owner) => {
                matchers.remove_owner(owner);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(text) = changed {
            self.requests.has_failed = true;
            self.annotate(Annotation::new(AnnotationLevel::Error, text)).await;
        }
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Mask(value) => self.mask(&value).await,
            Request::Output(name, value) => drop(self.requests.outputs.insert(name, value)),
            Request::State(name, value) => drop(self.requests.state.insert(name, value)),
            // GitHub: an error is said, and the step goes on.
            Request::Env(name, _) if !env_file::may_set_env(&name) => {
                let text = "Can't update NODE_OPTIONS environment variable using ::set-env:: command.";
                self.annotate(Annotation::new(AnnotationLevel::Error, text)).await;
            }
            Request::Env(name, value) => drop(self.requests.env.insert(name, value)),
            Request::Path(path) => self.requests.paths.push(path),
            Request::AddMatcher(_) | Request::RemoveOwner(_) | Request::RemoveMatchers(_) => {
                self.change_matchers(request).await;
            }
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
        let Self { masks, ready, .. } = self;
        masks.read().mask_bytes(lines, |part| ready.extend_from_slice(part));
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;
    use terraphim_actions::mask::Masker;

    use super::*;
    use crate::secret_texts::{self, forbidden, text};

    #[derive(Default)]
    struct Heard(Mutex<Vec<RunEvent>>);

    #[async_trait]
    impl RunObserver for Heard {
        async fn observe(&self, event: &RunEvent) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    /// What a secret may stand behind.
    const BEFORE: [&str; 10] = [
        "",
        "word ",
        "::notice title=",
        "::error file=a,line=3::",
        "::group::",
        "\n",
        "::debug::",
        "##[warning]",
        "\r",
        "50 %\r::notice::",
    ];

    fn secret() -> impl Strategy<Value = String> {
        secret_texts::secret(r#"A-Za-z0-9+/=&<>%"'\\ \-"#, "!-~")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_secret_shows_wherever_and_however_it_is_written(
            secrets in proptest::collection::vec(secret(), 1..4),
            late in secret(),
            pieces in proptest::collection::vec((0usize..9, 0usize..6, 0usize..10), 1..12),
            cuts in proptest::collection::vec(1usize..40, 1..40),
        ) {
            let mut masker = Masker::new();
            masker.add_all(secrets.iter().map(String::as_str)).unwrap();
            let place = Place { job: Some(JobKey::new("j", None)), step: 1, workspace: "/w".to_owned() };
            let heard = Heard::default();
            let mut all = secrets.clone();
            all.push(late.clone());
            let escaped = late.replace('%', "%25").replace('\n', "%0A");
            let written = format!("::add-mask::{escaped}\n{}", text(&all, &pieces, &BEFORE));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let requests = runtime.block_on(async {
                let mut output = StepOutput::new(place, &heard, Masks::new(masker), Some(Interpreter::new(false)))
                    .with_debug(true);
                let mut rest = written.as_bytes();
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (piece, more) = rest.split_at((*cut).min(rest.len()));
                    rest = more;
                    output.write(Stream::Stdout, Bytes::copy_from_slice(piece)).await.unwrap();
                }
                output.finish().await
            });
            let events = heard.0.lock().unwrap();
            let mut shown = String::new();
            for event in events.iter() {
                match event {
                    RunEvent::Output { text, .. } => shown += &String::from_utf8_lossy(text),
                    RunEvent::GroupStart { name, .. } => shown += name,
                    _ => {}
                }
                shown += "\n";
            }
            for annotation in &requests.annotations {
                for text in [Some(&annotation.message), annotation.title.as_ref(), annotation.file.as_ref()] {
                    shown += text.map_or("", String::as_str);
                    shown += "\n";
                }
            }
            for secret in &all {
                for part in forbidden(secret) {
                    prop_assert!(!shown.contains(&part), "{part:?} shows in {shown:?}");
                }
            }
        }
    }
}
