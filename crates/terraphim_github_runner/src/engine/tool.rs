//! Tools: processes that the engine itself runs in the VM, whose words are for it.

use bytes::Bytes;

use super::event::Conclusion;
use super::job::Job;
use super::level::Holder;
use crate::error::Result;
use crate::workflow::{OutputSink, ProcessSpec, StopReason, Stream};

/// The most that is kept of what a tool says on one stream, in bytes: the description of a container has some KiB.
const MAX_KEPT: usize = 1 << 20;

/// What a tool said, and how it ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) conclusion: Conclusion,
    /// As a shell sees it.
    pub(super) code: i32,
    /// Without blanks around it.
    pub(super) stdout: String,
    /// Without blanks around it.
    pub(super) stderr: String,
}

impl Answer {
    /// Everything it said.
    pub(super) fn text(&self) -> String {
        [self.stdout.as_str(), &self.stderr].join("\n").trim().to_owned()
    }
}

impl Job {
    /// Runs a tool and keeps what it says.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn ask_tool(&mut self, spec: &ProcessSpec, holder: &Holder) -> Result<Answer> {
        let mut kept = Kept::default();
        let (conclusion, code) = self.run_tool(spec, &mut kept, holder).await?;
        Ok(kept.answer(conclusion, code))
    }

    /// Runs a tool that ends with the job, unless the step that it belongs to goes on even then.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn run_tool(
        &mut self,
        spec: &ProcessSpec,
        output: &mut (dyn OutputSink + Send),
        holder: &Holder,
    ) -> Result<(Conclusion, i32)> {
        let (result, why) = self.watch(spec, output, holder).await;
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
}

/// The beginning of what a tool says.
#[derive(Default)]
pub(super) struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Kept {
    pub(super) fn answer(self, conclusion: Conclusion, code: i32) -> Answer {
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

/// Output that nobody needs.
pub(super) struct Nowhere;

#[async_trait::async_trait]
impl OutputSink for Nowhere {
    async fn write(&mut self, _stream: Stream, _bytes: Bytes) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_beginning_of_each_stream_is_kept() {
        let mut kept = Kept::default();
        let long = vec![b'x'; MAX_KEPT];
        for (stream, bytes) in [
            (Stream::Stdout, b" one\xff".as_slice()),
            (Stream::Stderr, b"two\n"),
            (Stream::Stdout, &long),
            (Stream::Stdout, b"never"),
        ] {
            kept.write(stream, Bytes::copy_from_slice(bytes)).await.unwrap();
        }
        let answer = kept.answer(Conclusion::Failure, 3);
        assert_eq!((answer.stderr.as_str(), answer.code), ("two", 3));
        assert!(answer.stdout.starts_with("one\u{fffd}xx") && answer.stdout.ends_with('x'));
        assert!(answer.text().ends_with("x\ntwo"));
    }
}
