//! A workflow file and the files that it calls, as texts.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use terraphim_actions::{
    diagnostic::Diagnostic,
    workflow::{Loader, Options, Workflow},
};

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
}

impl Source {
    /// The file with those of the same repository that it calls.
    pub(super) fn new(path: String, text: String, file: &Path) -> Source {
        let mut called = Texts::new();
        add_local_calls(&text, &path, file, &mut Loader::default(), &mut called);
        let mut called: IndexMap<String, String> = called.into_iter().collect();
        called.sort_unstable_keys();
        Source { path, text, called }
    }

    /// Reads it. When a called file is missing, all calls stay unread, and the engine names them.
    pub(crate) fn load(&self) -> Result<Workflow, Vec<Diagnostic>> {
        let mut loader = Loader::default();
        for (uses, text) in &self.called {
            loader.add(uses, text);
        }
        Workflow::load(&self.text, &self.path, &loader, &Options::default()).or_else(|errors| {
            let workflow = Workflow::parse(&self.text, &self.path)?;
            let is_complete = workflow.calls().iter().all(|uses| loader.contains(uses));
            if is_complete { Err(errors) } else { Ok(workflow) }
        })
    }

    /// Prints findings about it.
    pub(super) fn say(&self, findings: &[Diagnostic]) {
        let own = (self.path.clone(), self.text.clone());
        let called = self.called.iter().map(|(uses, text)| (uses.clone(), text.clone()));
        let texts: Texts = called.chain([own]).collect();
        for finding in findings {
            output::note(render(finding, &texts, Paint::for_stderr()).trim_end());
        }
    }
}
