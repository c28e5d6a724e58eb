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
    /// What is wrong with them and harmless.
    pub(super) warnings: Vec<String>,
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

    /// Names the files in the context `github`.
    pub(super) fn add_to(&self, github: &mut Object) {
        for (command, path) in &self.paths {
            github.insert(command.property(), path.as_str());
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
                if let Some(name) = self.env.keys().find(|name| !env_file::may_set_env(name)) {
                    self.problems.push(format!("GITHUB_ENV must not set {name}"));
                    self.env.retain(|name, _| env_file::may_set_env(name));
                }
            }
            FileCommand::Output => self.outputs = self.pairs("GITHUB_OUTPUT", text),
            // Only an action has a later stage that could read it, but what is wrong is said all the same.
            FileCommand::State => self.state = self.pairs("GITHUB_STATE", text),
            FileCommand::Summary if text.len() > MAX_SUMMARY => {
                let size = text.len();
                self.warnings
                    .push(format!("GITHUB_STEP_SUMMARY has {size} bytes, more than {MAX_SUMMARY}: dropped"));
            }
            FileCommand::Summary => self.summary = Some(text.to_owned()),
        }
    }

    fn pairs(&mut self, file: &str, text: &str) -> IndexMap<String, String> {
        match env_file::parse_pairs(text) {
            Ok(pairs) => pairs.into_iter().collect(),
            Err(error) => {
                self.problems.push(format!("{file}: {error}"));
                IndexMap::new()
            }
        }
    }
}
