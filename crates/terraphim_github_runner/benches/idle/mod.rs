//! An executor whose processes take no time, and an observer that looks at the clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use terraphim_github_runner::engine::{RunEvent, RunObserver};
use terraphim_github_runner::{
    Capabilities, CommandExecutor, CommandResult, Exit, Mount, OutputSink, ProcessOutcome, ProcessSpec,
    Result, ReturnedFile, Session, Stream,
};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

/// The supervisor hands on what the guest sends in frames of this size.
const CHUNK: usize = 64 * 1024;

/// A matrix has 256 jobs at most.
pub(crate) const MATRICES: usize = 4;
pub(crate) const MATRIX_JOBS: usize = 250;

/// A workflow of 1,000 jobs of matrices with one step each.
pub(crate) fn thousand_jobs() -> String {
    let values = (0..MATRIX_JOBS).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let job = |n: usize| {
        format!(
            "  j{n}:\n    runs-on: ubuntu-latest\n    strategy: {{matrix: {{n: [{values}]}}}}\n    \
             steps: [run: 'true']\n"
        )
    };
    format!("on: push\njobs:\n{}", (0..MATRICES).map(job).collect::<String>())
}

/// Its processes write the same text again and again, and end.
pub(crate) struct Idle {
    text: Bytes,
    total: usize,
}

impl Idle {
    /// Each process writes `total` bytes of `text`, repeated.
    pub(crate) fn writing(text: &[u8], total: usize) -> Idle {
        Idle { text: Bytes::copy_from_slice(text), total }
    }
}

/// Lines like those of a compiler; one of a hundred has a secret in it.
pub(crate) fn log_text(secrets: &[String]) -> Vec<u8> {
    let mut text = String::new();
    let mut n = 0;
    while text.len() < 4 << 20 {
        let line = match n % 100 {
            0 => format!(
                "Authorization: bearer {} sent to https://example.org/v1\n",
                secrets[n / 100 % secrets.len()]
            ),
            1..50 => format!(
                "   Compiling some-crate-{n} v0.{}.{} (/workspace/rocket/crates/{n})\n",
                n % 17,
                n % 9
            ),
            _ => format!("test module::of::tests::case_number_{n} ... ok <0.{:03}s>\n", n % 999),
        };
        text += &line;
        n += 1;
    }
    text.into_bytes()
}

#[async_trait]
impl CommandExecutor for Idle {
    async fn execute(&self, _: &Session, _: &str, _: Duration, _: &str) -> Result<CommandResult> {
        unreachable!("the engine runs processes")
    }

    async fn run_process(
        &self,
        _: &Session,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        _: &CancellationToken,
    ) -> Result<ProcessOutcome> {
        let begun = Instant::now();
        let mut left = self.total;
        while left > 0 {
            let mut rest = self.text.slice(..self.text.len().min(left));
            left -= rest.len();
            while !rest.is_empty() {
                output.write(Stream::Stdout, rest.split_to(rest.len().min(CHUNK))).await?;
            }
        }
        let file = |path: &String| ReturnedFile { path: path.clone(), content: None };
        let files = spec.return_files.iter().map(file).collect();
        Ok(ProcessOutcome { exit: Exit::Code(0), stopped: None, files, duration: begun.elapsed() })
    }

    async fn upload(&self, _: &Session, _: &str, _: Box<dyn AsyncRead + Send + Unpin>) -> Result<()> {
        Ok(())
    }

    async fn create_view(&self, _: &Session, _: &str, _: &[Mount]) -> Result<()> {
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { files: true, views: true, streaming: true, snapshots: false }
    }
}

/// The longest time so far: between two events, or of those added.
#[derive(Default)]
pub(crate) struct Longest(Mutex<(Option<Instant>, Duration)>);

impl Longest {
    fn note(&self) {
        let mut state = self.0.lock().expect("nobody panicked with it");
        let now = Instant::now();
        if let Some(last) = state.0.replace(now) {
            state.1 = state.1.max(now - last);
        }
    }

    /// A time that was measured elsewhere.
    pub(crate) fn add(&self, time: Duration) {
        let mut state = self.0.lock().expect("nobody panicked with it");
        state.1 = state.1.max(time);
    }

    pub(crate) fn get(&self) -> Duration {
        self.0.lock().expect("nobody panicked with it").1
    }
}

/// Looks at the clock and hands on.
pub(crate) struct Watched<O> {
    pub(crate) of: Arc<O>,
    pub(crate) longest: Arc<Longest>,
}

#[async_trait]
impl<O: RunObserver> RunObserver for Watched<O> {
    async fn observe(&self, event: &RunEvent) {
        self.longest.note();
        self.of.observe(event).await;
    }
}
