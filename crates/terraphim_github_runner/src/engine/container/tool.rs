//! Commands of the engine's client, run as root of the VM.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::launch::words;
use crate::engine::event::Conclusion;
use crate::engine::job::Job;
use crate::engine::level::Holder;
use crate::engine::output::StepOutput;
use crate::engine::tool::{Answer, Kept};
use crate::error::Result;
use crate::workflow::{FileToWrite, OutputSink, ProcessSpec, Stream};

/// A command.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Call {
    pub(in crate::engine) argv: Vec<String>,
    /// It removes these itself, unless it is stopped.
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
        let shown = call.argv.join(" ");
        self.call_shown(call, &shown, output, holder).await
    }

    /// The same for a short command whose words are of use: they are shown when it has ended.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn call_heard(
        &mut self,
        call: Call,
        output: &mut StepOutput<'_>,
        holder: &Holder,
    ) -> Result<Answer> {
        say(output, &format!("[command]{}\n", call.argv.join(" "))).await?;
        let answer = self.ask(call, holder).await?;
        let text = answer.text();
        if !text.is_empty() {
            say(output, &format!("{text}\n")).await?;
        }
        Ok(answer)
    }

    /// The same for a command that is shown as `shown`.
    ///
    /// # Errors
    /// The VM or its host failed.
    pub(super) async fn call_shown(
        &mut self,
        call: Call,
        shown: &str,
        output: &mut StepOutput<'_>,
        holder: &Holder,
    ) -> Result<(Conclusion, i32)> {
        say(output, &format!("[command]{shown}\n")).await?;
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
        let files: Vec<String> = call.files.iter().map(|file| file.path.clone()).collect();
        let mut spec = self.root_spec(call);
        spec.timeout = holder.rest().unwrap_or(spec.timeout);
        let ended = self.run_tool(&spec, output, holder).await?;
        if ended.0 != Conclusion::Success && !files.is_empty() {
            // It may have been killed before it could.
            let remove = words(&["rm", "-rf", "--"]).into_iter().chain(files).collect();
            self.ask_at_the_end(Call::of(remove)).await?;
        }
        Ok(ended)
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
            keep_left: None,
            timeout: self.clock.rest() + self.shared.inputs.timing.minute,
            stop: self.shared.inputs.timing.stop,
        }
    }
}

/// How a command of the client failed, in a line: its exit code, and the reason that the client told.
pub(super) fn failure(what: &str, answer: &Answer) -> String {
    let mut lines = answer.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    // `docker start` says last that it failed, and before that why.
    let reason = lines.clone().rfind(|line| !line.contains("failed to start containers"));
    let code = answer.code;
    match reason.or_else(|| lines.next_back()) {
        Some(reason) => format!("{what} failed with exit code {code}: {reason}"),
        None => format!("{what} failed with exit code {code}"),
    }
}

/// Shows a text of the engine.
pub(in crate::engine) async fn say(output: &mut StepOutput<'_>, text: &str) -> Result<()> {
    output.write(Stream::Stdout, Bytes::copy_from_slice(text.as_bytes())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_reason_that_the_client_told() {
        let failed = |stderr: &str| {
            let (stdout, stderr) = (String::new(), stderr.to_owned());
            failure("docker start", &Answer { conclusion: Conclusion::Failure, code: 1, stdout, stderr })
        };
        let said = "Error response from daemon: exec: \"nope\": not found\nError: failed to start containers: 0a1b\n";
        let want =
            "docker start failed with exit code 1: Error response from daemon: exec: \"nope\": not found";
        assert_eq!(failed(said), want);
        let alone = "docker start failed with exit code 1: Error: failed to start containers: 0a1b";
        assert_eq!(failed("Error: failed to start containers: 0a1b"), alone);
        assert_eq!(failed(" \n"), "docker start failed with exit code 1");
    }
}
