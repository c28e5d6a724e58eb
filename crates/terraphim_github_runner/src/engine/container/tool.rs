//! Commands of the engine's client, run as root of the VM.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::launch::words;
use crate::engine::event::Conclusion;
use crate::engine::job::Job;
use crate::engine::level::Holder;
use crate::engine::output::StepOutput;
use crate::error::Result;
use crate::workflow::{FileToWrite, OutputSink, ProcessSpec, StopReason, Stream};

/// The most that is kept of what a command says, in bytes: the description of a container has some KiB.
const MAX_KEPT: usize = 1 << 20;

/// A command.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Call {
    pub(in crate::engine) argv: Vec<String>,
    pub(in crate::engine) files: Vec<FileToWrite>,
    pub(in crate::engine) env: Vec<(String, String)>,
}

impl Call {
    pub(in crate::engine) fn new(argv: &[&str]) -> Call {
        Call::of(words(argv))
    }

    pub(in crate::engine) fn of(argv: Vec<String>) -> Call {
        Call { argv, ..Call::default() }
    }
}

/// What a command said.
#[derive(Debug)]
pub(in crate::engine) struct Answer {
    pub(in crate::engine) conclusion: Conclusion,
    pub(in crate::engine) code: i32,
    pub(in crate::engine) stdout: String,
    pub(in crate::engine) stderr: String,
}

impl Job {
    /// Runs a command and keeps what it says.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn ask(&mut self, call: Call, holder: &Holder) -> Result<Answer> {
        let mut kept = Kept::default();
        let (conclusion, code) = self.call(call, &mut kept, holder).await?;
        Ok(kept.answer(conclusion, code))
    }

    /// Runs a command and shows it and what it says.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn call_aloud(
        &mut self,
        call: Call,
        output: &mut StepOutput<'_>,
        holder: &Holder,
    ) -> Result<(Conclusion, i32)> {
        say(output, &format!("[command]{}\n", call.argv.join(" "))).await?;
        let ended = self.call(call, output, holder).await;
        output.drain().await;
        ended
    }

    async fn call(
        &mut self,
        call: Call,
        output: &mut (dyn OutputSink + Send),
        holder: &Holder,
    ) -> Result<(Conclusion, i32)> {
        let limit =
            holder.deadline.map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
        let mut spec = self.root_spec(call);
        spec.timeout = limit.unwrap_or(spec.timeout);
        let (result, why) = self.watch(&spec, output, holder).await;
        if let Some(why) = why {
            self.interrupt(why).await;
        }
        let outcome = result?;
        let conclusion = match outcome.stopped {
            Some(StopReason::Cancelled) => Conclusion::Cancelled,
            None if outcome.exit.is_success() => Conclusion::Success,
            _ => Conclusion::Failure,
        };
        Ok((conclusion, outcome.exit.shell_code()))
    }

    /// Runs a command whatever became of the job.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(in crate::engine) async fn ask_at_the_end(&self, call: Call) -> Result<Answer> {
        let mut kept = Kept::default();
        let mut spec = self.root_spec(call);
        // Removing takes seconds, and twenty times as long where the VM is emulated and busy.
        spec.timeout = spec.timeout.max(self.shared.inputs.timing.minute * 2);
        let never = CancellationToken::new();
        let ran = self.shared.executor.run_process(self.place.session(), &spec, &mut kept, &never).await;
        let outcome = ran?;
        let is_success = outcome.is_success();
        let conclusion = if is_success { Conclusion::Success } else { Conclusion::Failure };
        Ok(kept.answer(conclusion, outcome.exit.shell_code()))
    }

    fn root_spec(&self, call: Call) -> ProcessSpec {
        ProcessSpec {
            argv: call.argv,
            env: call.env,
            cwd: "/".to_owned(),
            user: Some("root".to_owned()),
            view: self.view.clone(),
            write_files: call.files,
            return_files: Vec::new(),
            timeout: self.clock.rest() + self.shared.inputs.timing.minute,
            stop: self.shared.inputs.timing.stop,
        }
    }
}

/// Shows a text of the engine.
pub(in crate::engine) async fn say(output: &mut StepOutput<'_>, text: &str) -> Result<()> {
    output.write(Stream::Stdout, Bytes::copy_from_slice(text.as_bytes())).await
}

/// The beginning of what a command says.
#[derive(Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Kept {
    fn answer(self, conclusion: Conclusion, code: i32) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Answer { conclusion, code, stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

#[async_trait::async_trait]
impl OutputSink for Kept {
    async fn write(&mut self, stream: Stream, bytes: Bytes) -> Result<()> {
        let kept = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        let room = MAX_KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        Ok(())
    }
}
