//! Workflows of other repositories that workflows call: fetched and read before a run, as actions are.

use std::collections::VecDeque;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::span::Spanned;
use terraphim_actions::workflow::{Options, Workflow, called_name};

use super::error::ActionError;
use super::reference::ActionReference;
use super::store::ActionStore;
use crate::error::chain;

/// Where GitHub looks for workflows.
const DIRECTORY: &str = ".github/workflows/";

/// A workflow of another repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledFile {
    /// Its text.
    pub text: String,
    /// The commit that its ref was, 40 hexadecimal digits.
    pub commit: String,
    /// Its ref in full, for instance `refs/tags/v1`, as far as it is known. Records of older programs have none.
    #[serde(default)]
    pub reference: String,
}

/// Where a workflow file is from, as identity tokens say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowPlace {
    /// `owner/repository/.github/workflows/FILE@REF`
    pub reference: String,
    /// The commit; empty if it is not known.
    pub commit: String,
}

impl CalledFile {
    /// Where it is from; `name` is its [`called_name`].
    #[must_use]
    pub fn place(&self, name: &str) -> WorkflowPlace {
        let reference = match name.rsplit_once('@') {
            Some((path, _)) if !self.reference.is_empty() => format!("{path}@{}", self.reference),
            _ => name.to_owned(),
        };
        WorkflowPlace { reference, commit: self.commit.clone() }
    }
}

impl ActionReference {
    /// The workflow file that `name` is, as [`called_name`] gives it.
    ///
    /// # Errors
    /// It is no workflow file of a repository.
    pub fn of_workflow(name: &str) -> Result<ActionReference, ActionError> {
        let not_one = || ActionError::NotAWorkflow(name.to_owned());
        let reference: ActionReference = name.parse().map_err(|_| not_one())?;
        if reference.is_workflow() { Ok(reference) } else { Err(not_one()) }
    }

    /// Whether the path is that of a workflow file. GitHub: directories below `.github/workflows` are not looked into.
    #[must_use]
    pub fn is_workflow(&self) -> bool {
        let name = self.path.strip_prefix(DIRECTORY);
        name.is_some_and(|name| !name.contains('/') && (name.ends_with(".yml") || name.ends_with(".yaml")))
    }
}

/// Fetches the workflows of other repositories that files of this one call, directly or not, by their [`called_name`].
/// `files` are names and texts; whatever is wrong with one is for [`Workflow::load`] to say.
///
/// # Errors
/// What cannot be had, at the `uses` that asks for it.
///
/// # Cancel safety
/// As [`ActionStore::fetch`].
pub async fn fetch_called(
    store: &ActionStore,
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<IndexMap<String, CalledFile>, Vec<Diagnostic>> {
    let mut found: IndexMap<String, CalledFile> = IndexMap::new();
    let mut diagnostics = Vec::new();
    let mut open: VecDeque<(String, String, bool)> =
        files.into_iter().map(|(name, text)| (name, text, false)).collect();
    // No more are read than a workflow may have, so that a chain of repositories ends; the next one is then missed.
    let most = Options::default().max_files;
    while let Some((file, text, is_remote)) = open.pop_front() {
        let Ok(workflow) = Workflow::parse(&text, &file) else { continue };
        for call in workflow.jobs.values().filter_map(|job| job.call.as_ref()) {
            let name = called_name(is_remote.then_some(&*file), &call.uses);
            if name.starts_with("./") || found.contains_key(&name) || found.len() > most {
                continue;
            }
            match fetch(store, &name).await {
                Ok(called) => {
                    open.push_back((name.clone(), called.text.clone(), true));
                    found.insert(name, called);
                }
                Err(error) => diagnostics.push(diagnostic(&file, &call.uses, &error)),
            }
        }
    }
    if diagnostics.is_empty() { Ok(found) } else { Err(diagnostics) }
}

async fn fetch(store: &ActionStore, name: &str) -> Result<CalledFile, ActionError> {
    let reference = ActionReference::of_workflow(name)?;
    tracing::info!("fetching {reference}");
    let at = store.fetch(&reference).await?;
    let text = store.workflow(&reference, &at).await?;
    Ok(CalledFile { text, reference: store.full_reference(&reference, &at).await, commit: at.commit })
}

fn diagnostic(file: &str, uses: &Spanned<String>, error: &ActionError) -> Diagnostic {
    let text = format!("`uses`: {}", chain(error));
    let diagnostic = Diagnostic::error(&Arc::from(file), uses.span, text);
    match error.hint() {
        Some(hint) => diagnostic.with_hint(hint),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_ref_in_full() {
        let name = "a/b/.github/workflows/c.yml@v1";
        let file = |reference: &str| CalledFile {
            text: String::new(),
            commit: "c0ffee".to_owned(),
            reference: reference.to_owned(),
        };
        let place = file("refs/tags/v1").place(name);
        assert_eq!(place.reference, "a/b/.github/workflows/c.yml@refs/tags/v1");
        assert_eq!(place.commit, "c0ffee");
        assert_eq!(file("").place(name).reference, name, "of a record of an older program");
    }

    #[test]
    fn a_workflow_is_a_file_of_one_directory() {
        assert!(ActionReference::of_workflow("a/b/.github/workflows/c.yml@v1").is_ok());
        for wrong in [
            "a/b@v1",
            "a/b/c.yml@v1",
            "a/b/.github/workflows/c/d.yml@v1",
            "a/b/.github/workflows/c.txt@v1",
            "a/b/.github/workflows/c.yml",
            "a/b/.github/workflows/../c.yml@v1",
        ] {
            assert!(
                matches!(ActionReference::of_workflow(wrong), Err(ActionError::NotAWorkflow(_))),
                "{wrong}"
            );
        }
    }
}
