//! Runs a process through an executor that knows only shell commands.

use std::fmt::Write as _;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::executor::{CommandExecutor, CommandResult};
use super::parser::check_variable;
use super::process::{Exit, OutputSink, ProcessOutcome, ProcessSpec, StopReason, Stream};
use crate::error::{GitHubRunnerError, Result};
use crate::session::Session;

const SIGKILL: i32 = 9;

/// The default of [`CommandExecutor::run_process`].
pub(super) async fn run_process<E: CommandExecutor + ?Sized>(
    executor: &E,
    session: &Session,
    spec: &ProcessSpec,
    output: &mut (dyn OutputSink + Send),
    cancel: &CancellationToken,
) -> Result<ProcessOutcome> {
    let command = command_line(spec)?;
    let started = Instant::now();
    let run = executor.execute(session, &command, spec.timeout, &spec.cwd);
    let (exit, stopped) = match until(run, spec.timeout, cancel).await {
        Ended::Itself(Err(GitHubRunnerError::CommandTimedOut { .. })) | Ended::TimedOut => {
            (Exit::Signal(SIGKILL), Some(StopReason::Timeout))
        }
        Ended::Cancelled => (Exit::Signal(SIGKILL), Some(StopReason::Cancelled)),
        Ended::Itself(result) => (deliver(result?, output).await?, None),
    };
    Ok(ProcessOutcome { exit, stopped, files: Vec::new(), duration: started.elapsed() })
}

async fn deliver(result: CommandResult, output: &mut (dyn OutputSink + Send)) -> Result<Exit> {
    for (stream, text) in [(Stream::Stdout, result.stdout), (Stream::Stderr, result.stderr)] {
        if !text.is_empty() {
            output.write(stream, Bytes::from(text)).await?;
        }
    }
    Ok(Exit::Code(result.exit_code))
}

/// How a call ended that has a time limit and can be cancelled.
pub(super) enum Ended<T> {
    Itself(T),
    TimedOut,
    Cancelled,
}

/// Waits for `future`; drops it at `limit` or on `cancel`. One that is ready wins.
pub(super) async fn until<F: Future>(
    future: F,
    limit: Duration,
    cancel: &CancellationToken,
) -> Ended<F::Output> {
    tokio::select! {
        biased;
        output = future => Ended::Itself(output),
        () = cancel.cancelled() => Ended::Cancelled,
        () = tokio::time::sleep(limit) => Ended::TimedOut,
    }
}

/// The shell command that does what `spec` says.
pub(super) fn command_line(spec: &ProcessSpec) -> Result<String> {
    let unsupported = |operation| Err(GitHubRunnerError::Unsupported { operation });
    if spec.user.is_some() {
        return unsupported("run a process as another user");
    }
    if spec.view.is_some() {
        return unsupported("run a process in a view");
    }
    if !spec.return_files.is_empty() {
        return unsupported("return files");
    }
    let mut text = String::new();
    for file in &spec.write_files {
        let path = quote(&file.path);
        let _ = writeln!(
            text,
            "mkdir -p -- \"$(dirname -- {path})\" && printf %s {content} >{path} && chmod {mode:o} -- {path} || exit 1",
            content = quote(&file.content),
            mode = file.mode,
        );
    }
    text.push_str(&exports(spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?);
    match spec.argv.as_slice() {
        [] => return Err(GitHubRunnerError::failed("run a process", "the command is empty")),
        [shell, flag, script] if shell == "bash" && flag == "-c" => text.push_str(script),
        argv => text.push_str(&argv.iter().map(|a| quote(a)).collect::<Vec<_>>().join(" ")),
    }
    Ok(text)
}

/// `export` lines for the variables, in order; empty when there are none.
pub(super) fn exports<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<String> {
    let mut text = String::new();
    for (name, value) in variables {
        check_variable(name, value)?;
        let _ = writeln!(text, "export {name}={}", quote(value));
    }
    Ok(text)
}

/// `text` as one word of a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::FileToWrite;

    fn sh(script: &str) -> String {
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn a_bare_shell_command_stays_as_it_is() {
        let spec = ProcessSpec::shell("cargo build\ncargo test", "/workspace", Duration::from_secs(1));
        assert_eq!(command_line(&spec).unwrap(), "cargo build\ncargo test");
    }

    #[test]
    fn a_real_shell_reads_back_what_was_quoted() {
        for text in ["", "plain", "it's", "$HOME `id` \"x\" \\", "two\nlines\n", "ünï ☃", "-n", "a\tb*?[]"]
        {
            assert_eq!(sh(&format!("printf %s {}", quote(text))), text);
        }
    }

    #[test]
    fn environment_arguments_and_files_arrive_in_a_real_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b/it's.txt").display().to_string();
        let mut spec = ProcessSpec::shell("", "/", Duration::from_secs(1));
        spec.env = vec![("A".into(), "1 '2'\n3".into())];
        spec.write_files = vec![FileToWrite { path: path.clone(), content: "line\n$x".into(), mode: 0o640 }];
        spec.argv = vec![
            "bash".into(),
            "-c".into(),
            r#"printf '%s|' "$A" "$1"; cat "$1""#.into(),
            "x".into(),
            path.clone(),
        ];
        assert_eq!(sh(&command_line(&spec).unwrap()), format!("1 '2'\n3|{path}|line\n$x"));
    }

    #[test]
    fn what_a_shell_command_cannot_do_is_refused() {
        let spec = |f: fn(&mut ProcessSpec)| {
            let mut spec = ProcessSpec::shell("true", "/", Duration::from_secs(1));
            f(&mut spec);
            command_line(&spec)
        };
        for refused in [
            spec(|s| s.user = Some("ci".into())),
            spec(|s| s.view = Some("job".into())),
            spec(|s| s.return_files = vec!["/x".into()]),
        ] {
            assert!(matches!(refused, Err(GitHubRunnerError::Unsupported { .. })), "{refused:?}");
        }
        assert!(spec(|s| s.argv.clear()).is_err());
        assert!(spec(|s| s.env = vec![("A;id".into(), String::new())]).is_err());
        assert!(spec(|s| s.env = vec![("A".into(), "\0".into())]).is_err());
    }
}
