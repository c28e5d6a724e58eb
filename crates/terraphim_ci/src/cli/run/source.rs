//! A workflow file and the files that it calls, as texts.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use terraphim_actions::{
    diagnostic::Diagnostic,
    workflow::{Loader, Options, Workflow},
};
use terraphim_github_runner::action::{ActionStore, CalledFile, WorkflowPlace, fetch_called};

use crate::{
    cli::{
        check::add_local_calls,
        diagnostic::{Texts, render},
    },
    output::{self, Paint},
};

/// A workflow file and the files that it calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its path from the root, as the context `github` and messages name it.
    #[serde(rename = "workflow_path")]
    pub(crate) path: String,
    #[serde(rename = "workflow_text")]
    pub(crate) text: String,
    /// What it calls, directly or not, by what the callers write in `uses`.
    #[serde(default)]
    called: IndexMap<String, String>,
    /// The same of other repositories, once they were fetched. A run that is repeated has those of the first one.
    #[serde(default)]
    remote: IndexMap<String, CalledFile>,
}

impl Source {
    /// The file with those of the same repository that it calls.
    pub(super) fn new(path: String, text: String, file: &Path) -> Source {
        let mut called = Texts::new();
        add_local_calls(&text, &path, file, &mut Loader::default(), &mut called);
        let mut called: IndexMap<String, String> = called.into_iter().collect();
        called.sort_unstable_keys();
        Source { path, text, called, remote: IndexMap::new() }
    }

    /// Fetches the workflows of other repositories that are called, unless they are there.
    ///
    /// # Errors
    /// What cannot be had, and where it is asked for.
    pub(super) async fn fetch_calls(&mut self, store: &ActionStore) -> Result<(), Vec<Diagnostic>> {
        if self.remote.is_empty() {
            let own = (self.path.clone(), self.text.clone());
            let called = self.called.iter().map(|(uses, text)| (uses.clone(), text.clone()));
            self.remote = fetch_called(store, std::iter::once(own).chain(called)).await?;
        }
        Ok(())
    }

    /// Where the workflows of other repositories are from, by their names.
    pub(super) fn places(&self) -> impl Iterator<Item = (String, WorkflowPlace)> + '_ {
        self.remote.iter().map(|(name, file)| (name.clone(), file.place(name)))
    }

    /// Which commits the workflows of other repositories are, by their names.
    pub(super) fn commits(&self) -> impl Iterator<Item = (&str, &str)> {
        self.remote.iter().map(|(name, file)| (name.as_str(), file.commit.as_str()))
    }

    /// Reads it. A call whose file is missing, or not fetched yet, stays unread, and the engine names it.
    pub(crate) fn load(&self) -> Result<Workflow, Vec<Diagnostic>> {
        let mut loader = Loader::default();
        for (uses, text) in self.called_texts() {
            loader.add(uses, text);
        }
        let options = Options { skip_missing_calls: true, ..Options::default() };
        Workflow::load(&self.text, &self.path, &loader, &options)
    }

    fn called_texts(&self) -> impl Iterator<Item = (&String, &String)> {
        self.called.iter().chain(self.remote.iter().map(|(uses, file)| (uses, &file.text)))
    }

    /// Prints findings about it.
    pub(super) fn say(&self, findings: &[Diagnostic]) {
        let own = (self.path.clone(), self.text.clone());
        let called = self.called_texts().map(|(uses, text)| (uses.clone(), text.clone()));
        let texts: Texts = called.chain([own]).collect();
        for finding in findings {
            output::note(render(finding, &texts, Paint::for_stderr()).trim_end());
        }
    }
}
