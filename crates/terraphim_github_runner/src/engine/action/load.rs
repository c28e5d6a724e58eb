//! Reads actions.

use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::action::{Action, Hook, Runs};
use terraphim_actions::workflow::{Condition, Uses};

use super::remote::{find, put, wanted};
use crate::action::ActionReference;
use crate::engine::job::Job;
use crate::engine::level::{Holder, Origin};
use crate::engine::plan::PlannedAction;
use crate::engine::planner::always;
use crate::engine::script::join;
use crate::engine::tool::Nowhere;
use crate::error::Result;
use crate::workflow::ReturnedFile;

/// The names that the file of an action may have, in the order in which they are looked for.
pub(super) const NAMES: [&str; 2] = ["action.yml", "action.yaml"];
/// What makes a directory without such a file an action too.
pub(super) const DOCKERFILE: &str = "Dockerfile";

/// An action that was read.
#[derive(Debug)]
pub(in crate::engine) struct Loaded {
    pub(super) action: Action,
    /// How messages name its file.
    pub(super) file: Arc<str>,
    /// Where it is in the guest.
    pub(super) directory: String,
    /// Where it is from, if it is from a repository.
    pub(super) origin: Option<Origin>,
}

impl Loaded {
    /// When what it does before all steps runs.
    pub(in crate::engine) fn pre_condition(&self) -> Condition {
        self.pre().map_or_else(always, |hook| hook.condition.clone())
    }

    /// The program that it has for before all steps.
    pub(super) fn pre(&self) -> Option<&Hook> {
        match &self.action.runs {
            Runs::Node(node) => node.pre.as_ref(),
            Runs::Docker(docker) => docker.pre.as_ref(),
            Runs::Composite(_) => None,
        }
    }
}

impl Job {
    /// Reads the action of a step. The inner error is one of the step.
    pub(super) async fn load(&mut self, planned: &PlannedAction) -> Result<Result<Arc<Loaded>, String>> {
        match &planned.uses {
            Uses::Local(path) => {
                let path = path.replace('\\', "/");
                let directory = directory(&self.shared.workspace(), &path);
                self.load_from_guest(&directory, &path).await
            }
            Uses::SameRepository(path) => match self.origin().and_then(|origin| origin.reference(path)) {
                Some(reference) => self.load_remote(&reference).await,
                // The workflow's own repository, as it was before any step changed it.
                None => {
                    let inputs = &self.shared.inputs;
                    let has_views = self.shared.executor.capabilities().views;
                    let root = inputs.layout.tree(has_views, inputs.repository_name());
                    let directory = directory(&root, path);
                    self.load_from_guest(&directory, path).await
                }
            },
            Uses::Docker(image) => Ok(Ok(Arc::new(Loaded {
                action: super::docker::action(format!("docker://{image}")),
                file: Arc::from(planned.text.as_str()),
                directory: self.shared.workspace(),
                origin: None,
            }))),
            Uses::Remote { .. } => match wanted(&self.shared, &planned.uses) {
                Some(reference) => self.load_remote(&reference).await,
                None => Ok(Err(format!("{} is no action that can be read", planned.text))),
            },
        }
    }

    /// An action of another repository. Those that the workflow names are known and in the guest; one that an action of
    /// the workspace uses is found now.
    async fn load_remote(&mut self, reference: &ActionReference) -> Result<Result<Arc<Loaded>, String>> {
        let shared = Arc::clone(&self.shared);
        let depth = self.level.composite.as_ref().map_or(0, |composite| composite.depth);
        let remote = match find(&shared, reference, depth + 1).await {
            Ok(remote) => remote,
            Err(unusable) => return Ok(Err(unusable.message)),
        };
        put(&shared, &self.place, &remote).await?;
        Ok(Ok(Arc::clone(&remote.loaded)))
    }

    fn origin(&self) -> Option<Origin> {
        self.level.composite.as_ref()?.origin.clone()
    }

    /// Reads an action that is in a directory of the guest.
    async fn load_from_guest(&mut self, directory: &str, shown: &str) -> Result<Result<Arc<Loaded>, String>> {
        let names = NAMES.iter().chain([&DOCKERFILE]);
        let mut spec = self.spec(vec!["true".to_owned()], &IndexMap::new(), "/".to_owned(), None);
        spec.return_files = names.map(|name| format!("{directory}/{name}")).collect();
        let holder = self
            .level
            .composite
            .as_ref()
            .map_or_else(|| Arc::new(Holder::nobody()), |composite| Arc::clone(&composite.holder));
        let (result, why) = self.watch(&spec, &mut Nowhere, &holder).await;
        if let Some(why) = why {
            self.interrupt(why).await;
        }
        let outcome = result?;
        if outcome.stopped.is_some() {
            return Ok(Err(format!("reading {shown} was stopped")));
        }
        let file = NAMES.iter().zip(&outcome.files).find_map(|(name, file)| Some((name, text(file)?)));
        let has_dockerfile = outcome.files.get(NAMES.len()).is_some_and(|file| file.content.is_some());
        let Some((name, text)) = file else {
            if !has_dockerfile {
                return Ok(Err(absent(directory)));
            }
            let file = Arc::from(format!("{}/{DOCKERFILE}", shown.trim_end_matches('/')));
            let action = super::docker::action(DOCKERFILE.to_owned());
            let loaded = Loaded { action, file, directory: directory.to_owned(), origin: self.origin() };
            return Ok(Ok(Arc::new(loaded)));
        };
        let file: Arc<str> = Arc::from(format!("{}/{name}", shown.trim_end_matches('/')));
        Ok(parse(&text, &file).map(|action| {
            Arc::new(Loaded { action, file, directory: directory.to_owned(), origin: self.origin() })
        }))
    }
}

/// Reads the text of an action; all that is wrong with it as one text.
pub(super) fn parse(text: &str, file: &str) -> Result<Action, String> {
    Action::parse(text.strip_prefix('\u{feff}').unwrap_or(text), file)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn text(file: &ReturnedFile) -> Option<String> {
    file.content.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn absent(directory: &str) -> String {
    format!(
        "there is no action.yml, action.yaml or Dockerfile in {directory}: is the path right, and was the repository \
         checked out there?"
    )
}

/// A directory below another one, without a slash at its end.
fn directory(root: &str, path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    join(root, Some(path))
}
