//! The files through which a step and the engine speak: what goes in, what comes back.

use indexmap::IndexMap;
use terraphim_actions::env_file;
use terraphim_actions::expr::Object;
use uuid::Uuid;

use crate::workflow::{FileToWrite, ReturnedFile};

/// GitHub's limit for the summary of one step.
const MAX_SUMMARY: usize = 1 << 20;
/// The longest file. GitHub has limits for what is in it (1 MiB for the outputs of a job); executors keep a little
/// more than this, so that a longer one shows.
const MAX_FILE: usize = 10 << 20;

/// The files of one step.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    paths: [(FileCommand, String); 5],
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileCommand {
    Env,
    Path,
    Output,
    State,
    Summary,
}

impl FileCommand {
    /// The property of the context `github`, and so the name of the variable after `GITHUB_`.
    const fn property(self) -> &'static str {
        match self {
            FileCommand::Env => "env",
            FileCommand::Path => "path",
            FileCommand::Output => "output",
            FileCommand::State => "state",
            FileCommand::Summary => "step_summary",
        }
    }
}

/// What a step wrote into its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) env: IndexMap<String, String>,
    /// The text of `GITHUB_PATH`.
    pub(super) paths: String,
    pub(super) outputs: IndexMap<String, String>,
    /// What an action keeps for its later stages.
    pub(super) state: IndexMap<String, String>,
    pub(super) summary: Option<String>,
    /// What is wrong with the files; the step fails.
    pub(super) problems: Vec<String>,
    /// What is said as an error and does not fail the step.
    pub(super) errors: Vec<String>,
}

impl Exchange {
    /// New files in a directory.
    pub(super) fn new(directory: &str, id: Uuid) -> Exchange {
        let id = id.simple();
        let path = |command: FileCommand| (command, format!("{directory}/{}_{id}", command.property()));
        Exchange {
            paths: [
                path(FileCommand::Env),
                path(FileCommand::Path),
                path(FileCommand::Output),
                path(FileCommand::State),
                path(FileCommand::Summary),
            ],
        }
    }

    /// Names the files in the context `github`, by the paths that `seen` gives.
    pub(super) fn add_to(&self, github: &mut Object, seen: impl Fn(&str) -> String) {
        for (command, path) in &self.paths {
            github.insert(command.property(), seen(path));
        }
    }

    /// The empty files to write before the step.
    pub(super) fn files(&self) -> impl Iterator<Item = FileToWrite> + '_ {
        let empty = |path: &String| FileToWrite { path: path.clone(), content: String::new(), mode: 0o666 };
        self.paths.iter().map(move |(_, path)| empty(path))
    }

    /// The files to return after it.
    pub(super) fn returned(&self) -> Vec<String> {
        self.paths.iter().map(|(_, path)| path.clone()).collect()
    }

    /// Reads what came back. A file that is gone was not used.
    pub(super) fn read(&self, files: &[ReturnedFile]) -> Written {
        let mut written = Written::default();
        for (command, path) in &self.paths {
            let file = files.iter().find(|file| file.path == *path);
            if let Some(content) =
                file.and_then(|file| file.content.as_ref()).filter(|bytes| !bytes.is_empty())
            {
                let text = String::from_utf8_lossy(content);
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                written.take(*command, text);
            }
        }
        written
    }
}

impl Written {
    fn take(&mut self, command: FileCommand, text: &str) {
        match command {
            FileCommand::Summary => {}
            _ if text.len() > MAX_FILE => {
                let name = command.property().to_uppercase();
                return self.problems.push(format!("GITHUB_{name} is longer than {MAX_FILE} bytes"));
            }
            _ => {}
        }
        match command {
            FileCommand::Path => self.paths = text.to_owned(),
            FileCommand::Env => {
                self.env = self.pairs("GITHUB_ENV", text);
                // GitHub's text and order of things: an error is said, and all other variables are set.
                if self.env.keys().any(|name| !env_file::may_set_env(name)) {
                    let text = "Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.";
                    self.errors.push(text.to_owned());
                    self.env.retain(|name, _| env_file::may_set_env(name));
                }
            }
            FileCommand::Output => self.outputs = self.pairs("GITHUB_OUTPUT", text),
            // Only an action has a later stage that could read it, but what is wrong is said all the same.
            FileCommand::State => self.state = self.pairs("GITHUB_STATE", text),
            // GitHub's text and level (actions/runner, CreateStepSummaryCommand): the summary is lost, the step goes on.
            FileCommand::Summary if text.len() > MAX_SUMMARY => self.errors.push(format!(
                "$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of {}k, got {}k.",
                MAX_SUMMARY / 1024,
                text.len() / 1024
            )),
            FileCommand::Summary => self.summary = Some(text.to_owned()),
        }
    }

    /// The pairs of a file. Those before a wrong line count, also when the step fails for it.
    fn pairs(&mut self, file: &str, text: &str) -> IndexMap<String, String> {
        let mut pairs = IndexMap::new();
        for pair in env_file::parse_pairs(text) {
            match pair {
                Ok((name, value)) => drop(pairs.insert(name, value)),
                Err(error) => self.problems.push(format!("{file}: {error}")),
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(command: FileCommand, text: &str) -> Written {
        let exchange = Exchange::new("/x", Uuid::nil());
        let (_, path) = exchange.paths.iter().find(|(known, _)| *known == command).unwrap();
        let content = Some(Bytes::copy_from_slice(text.as_bytes()));
        exchange.read(&[ReturnedFile { path: path.clone(), content }])
    }

    #[test]
    fn what_comes_before_a_wrong_line_counts() {
        for command in [FileCommand::Env, FileCommand::Output, FileCommand::State] {
            let written = read(command, "a=1\nbad\nc=3\n");
            let all = [&written.env, &written.outputs, &written.state];
            let found: Vec<_> =
                all.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, [("a", "1")], "{command:?}");
            assert_eq!(written.problems.len(), 1, "{command:?}");
        }
    }

    #[test]
    fn a_summary_that_is_too_long_is_an_error_that_fails_nothing() {
        let most = "x".repeat(MAX_SUMMARY);
        assert_eq!(read(FileCommand::Summary, &most).summary.as_ref(), Some(&most));
        let written = read(FileCommand::Summary, &format!("{most}{}", "y".repeat(1024)));
        let text = "$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of 1024k, got 1025k.";
        assert_eq!((written.summary, written.problems), (None, Vec::new()));
        assert_eq!(written.errors, [text]);
    }

    #[test]
    fn the_options_of_node_are_an_error_that_fails_nothing() {
        let written = read(FileCommand::Env, "a=1\nnode_options=--inspect\nb=2\n");
        assert_eq!(written.env.keys().collect::<Vec<_>>(), ["a", "b"]);
        let text = "Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.";
        assert_eq!((written.errors, written.problems), (vec![text.to_owned()], Vec::new()));
    }
}
