//! Problem matchers in the steps of a job.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terraphim_actions::matcher::{self, Found, Matcher, Matchers, Severity};
use tokio_util::sync::CancellationToken;

use super::container::JobContainer;
use super::event::{Annotation, AnnotationLevel};
use super::job::Job;
use super::place::Place;
use super::shared::Shared;
use super::tool::Nowhere;
use crate::workflow::ProcessSpec;

/// Reading a small file takes milliseconds; a guest on a busy machine may take longer.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The matchers that the steps of a job added so far, the newest first. Copies share them.
// A lock of the standard library: it is held for one change and never across an await.
#[derive(Clone, Default)]
pub(super) struct KnownMatchers(Arc<Mutex<Vec<Matcher>>>);

impl KnownMatchers {
    fn change(&self, change: impl FnOnce(&mut Vec<Matcher>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The matchers of one step.
pub(super) struct StepMatchers {
    active: Matchers,
    known: KnownMatchers,
    files: GuestFiles,
}

/// Reads files of the guest while a step runs.
struct GuestFiles {
    shared: Arc<Shared>,
    place: Arc<Place>,
    spec: ProcessSpec,
    /// As the step knows it.
    workspace: String,
    /// The container that the steps run in.
    container: Option<Arc<JobContainer>>,
}

/// What the matchers say about a line.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) annotation: Option<Annotation>,
    /// About matchers that were removed.
    pub(super) warnings: Vec<String>,
}

impl Job {
    /// The matchers for a step that begins.
    pub(super) fn step_matchers(&self) -> StepMatchers {
        let argv = vec!["true".to_owned()];
        let spec = self.spec(argv, &self.env, "/".to_owned(), Some(READ_LIMIT));
        let mut active = Matchers::default();
        self.matchers.change(|known| known.iter().rev().cloned().for_each(|matcher| active.add(matcher)));
        StepMatchers {
            active,
            known: self.matchers.clone(),
            files: GuestFiles {
                shared: Arc::clone(&self.shared),
                place: Arc::clone(&self.place),
                spec,
                workspace: self.seen(&self.shared.workspace()),
                container: self.job_container().cloned(),
            },
        }
    }
}

impl StepMatchers {
    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Adds the matchers of a file of the guest, for this step and those that follow.
    pub(super) async fn add(&mut self, path: &str) -> Result<(), String> {
        for matcher in self.files.read(path).await? {
            self.remove_owner(&matcher.owner);
            self.known.change(|known| known.insert(0, matcher.clone()));
            self.active.add(matcher);
        }
        Ok(())
    }

    /// Removes the matcher of an owner.
    pub(super) fn remove_owner(&mut self, owner: &str) {
        self.known.change(|known| known.retain(|matcher| !matcher.owner.eq_ignore_ascii_case(owner)));
        self.active.remove(owner);
    }

    /// Removes the matchers that a file of the guest has.
    pub(super) async fn remove_file(&mut self, path: &str) -> Result<(), String> {
        for matcher in self.files.read(path).await? {
            self.remove_owner(&matcher.owner);
        }
        Ok(())
    }

    /// Looks at a line, given without its end.
    pub(super) fn look(&mut self, line: &str) -> Seen {
        let look = self.active.look(line);
        for owner in &look.stuck {
            self.known.change(|known| known.retain(|matcher| matcher.owner != *owner));
        }
        let stuck = |owner: &String| {
            format!(
                "the problem matcher '{owner}' is removed: its expression takes too long for a line of the output"
            )
        };
        Seen {
            annotation: look.found.map(|found| annotation(found, &self.files.workspace)),
            warnings: look.stuck.iter().map(stuck).collect(),
        }
    }
}

impl GuestFiles {
    async fn read(&self, path: &str) -> Result<Vec<Matcher>, String> {
        let path = match path.trim() {
            "" => return Err("the command needs the path of a file of problem matchers".to_owned()),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("{}/{relative}", self.workspace),
        };
        let path = self.container.as_ref().map_or_else(|| path.clone(), |it| it.paths.outside(&path));
        let spec = ProcessSpec { return_files: vec![path.clone()], ..self.spec.clone() };
        let executor = &self.shared.executor;
        let never = CancellationToken::new();
        let outcome = executor.run_process(self.place.session(), &spec, &mut Nowhere, &never).await;
        let outcome = outcome.map_err(|error| format!("cannot read {path}: {error}"))?;
        let content = outcome.files.into_iter().find(|file| file.path == path).and_then(|file| file.content);
        let content = content.ok_or_else(|| format!("cannot read {path}: there is no such file"))?;
        let text = std::str::from_utf8(&content).map_err(|_| format!("{path} is no UTF-8 text"))?;
        matcher::parse(text).map_err(|error| format!("{path}: {error}"))
    }
}

fn annotation(found: Found, workspace: &str) -> Annotation {
    let level = match found.severity {
        Severity::Error => AnnotationLevel::Error,
        Severity::Warning => AnnotationLevel::Warning,
        Severity::Notice => AnnotationLevel::Notice,
    };
    Annotation {
        file: found.file.and_then(|file| below(&file, workspace)),
        line: found.line,
        col: found.column,
        ..Annotation::new(level, found.message)
    }
}

/// The file relative to the workspace; `None` if it is outside, as GitHub has it.
fn below(file: &str, workspace: &str) -> Option<String> {
    let inside = match file.strip_prefix('/') {
        Some(_) => file.strip_prefix(workspace)?.strip_prefix('/')?,
        None => file,
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in inside.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn files_are_named_from_the_workspace() {
        for (file, want) in [
            ("src/a.rs", Some("src/a.rs")),
            ("./src/../b.rs", Some("b.rs")),
            ("/w/r/src/a.rs", Some("src/a.rs")),
            ("/w/rest/a.rs", None),
            ("/etc/passwd", None),
            ("../a.rs", None),
            ("/w/r/../x", None),
            (".", None),
        ] {
            assert_eq!(below(file, "/w/r").as_deref(), want, "{file}");
        }
    }
}
