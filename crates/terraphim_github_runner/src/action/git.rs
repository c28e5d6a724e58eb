//! Runs git.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::process::Command;

use crate::engine::Secret;

/// How long a question to a server or to a repository of this host may take.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(60);
/// How long a transfer may take: a large repository over a slow line.
pub(crate) const FETCH_LIMIT: Duration = Duration::from_secs(600);
/// A server that sends less than this many bytes in a second for [`SLOW_SECONDS`] is given up.
const SLOW_BYTES: &str = "1000";
const SLOW_SECONDS: &str = "60";

/// Git did not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitError {
    /// It could not be started.
    #[error("cannot run git, which fetches actions")]
    NotFound(#[source] std::io::Error),
    /// It took too long and was ended.
    #[error("`git {command}` did not end within {limit:?}")]
    TimedOut {
        /// The subcommand.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// It refused.
    #[error("`git {command}` failed: {message}")]
    Failed {
        /// The subcommand.
        command: String,
        /// What it said, on one line.
        message: String,
    },
}

impl GitError {
    /// What git said, without the command.
    pub(crate) fn message(&self) -> String {
        match self {
            GitError::Failed { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// How git is run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Git {
    /// The repository; the current directory without one.
    directory: Option<PathBuf>,
    /// Settings that are handed over in the environment, where other users of the host cannot read them.
    settings: Vec<(String, Secret)>,
}

impl Git {
    /// Git without a repository.
    pub(crate) fn new() -> Git {
        Git::default()
    }

    /// The same, in a repository.
    pub(crate) fn at(&self, directory: &Path) -> Git {
        Git { directory: Some(directory.to_owned()), ..self.clone() }
    }

    /// The same, with a token for everything below `base`. It never becomes an argument.
    pub(crate) fn with_token(&self, base: &str, token: &Secret) -> Git {
        let mut git = self.clone();
        if !token.expose().is_empty() {
            git.settings.push((format!("http.{base}/.extraHeader"), header(token)));
        }
        git
    }

    /// The same, with a setting.
    pub(crate) fn with_setting(mut self, name: &str, value: &str) -> Git {
        self.settings.push((name.to_owned(), Secret::from(value)));
        self
    }

    /// Runs a subcommand to its end and gives its output.
    pub(crate) async fn run(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        limit: Duration,
    ) -> Result<Vec<u8>, GitError> {
        self.run_to(args, limit, Stdio::piped()).await
    }

    /// The same with another standard output.
    pub(crate) async fn run_to(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        limit: Duration,
        stdout: Stdio,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.command();
        let mut name = None;
        for arg in args {
            name.get_or_insert_with(|| arg.as_ref().to_string_lossy().into_owned());
            command.arg(arg);
        }
        let name = name.unwrap_or_default();
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(GitError::NotFound)?;
        let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
            return Err(GitError::TimedOut { command: name, limit });
        };
        let output = output.map_err(GitError::NotFound)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(GitError::Failed { command: name, message: one_line(&output.stderr) })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        if let Some(directory) = &self.directory {
            command.arg("-C").arg(directory);
        }
        command
            // Nobody is there to answer a question.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("GCM_INTERACTIVE", "never")
            .env("LC_ALL", "C")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", SLOW_BYTES)
            .env("GIT_HTTP_LOW_SPEED_TIME", SLOW_SECONDS);
        // Set in hooks, they would lead every question to another repository.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        let fixed = [("gc.auto", "0"), ("maintenance.auto", "false"), ("advice.detachedHead", "false")];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), Secret::from(value)));
        let settings = fixed.iter().chain(&self.settings);
        let mut count = 0;
        for (index, (name, value)) in settings.enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value.expose());
            count = index + 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }
}

/// How GitHub takes a token over git's HTTP protocol.
pub(crate) fn header(token: &Secret) -> Secret {
    let encoded = STANDARD.encode(format!("x-access-token:{}", token.expose()));
    Secret::from(format!("AUTHORIZATION: basic {encoded}"))
}

/// What git said, without the words that add nothing.
fn one_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with("hint:") && !line.starts_with("remote: Enumerating"));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix("fatal: ").unwrap_or(line)).collect();
    if lines.is_empty() { "no reason given".to_owned() } else { lines.join("; ") }
}
