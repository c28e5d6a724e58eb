//! `actions/checkout`, answered from the host: the working tree that the run has, or a clone that the host makes. Neither
//! a token nor a network is needed in the guest.

use std::sync::Arc;

use indexmap::IndexMap;
use terraphim_actions::span::Span;
use terraphim_actions::workflow::Uses;
use uuid::Uuid;

use super::asked::{self, Asked};
use crate::action::{ActionStore, Checkout, header};
use crate::engine::event::{AnnotationLevel, Conclusion};
use crate::engine::inputs::Secret;
use crate::engine::job::Job;
use crate::engine::plan::PlannedAction;
use crate::engine::script::join;
use crate::engine::shared::Shared;
use crate::engine::step::{Frame, WorkEnd};
use crate::error::{Result, chain};
use crate::workflow::ProcessSpec;

/// Copies `$1` to `$2`, which is emptied before if `$3` is `true`; if `$4` is `true` submodules must be there.
const COPY: &str = r#"set -e
mkdir -p "$2"
if [ "$3" = true ]; then find "$2" -mindepth 1 -maxdepth 1 -exec rm -rf {} +; fi
cp -a "$1/." "$2/"
if [ "$4" = true ] && [ -f "$2/.gitmodules" ]; then
  sed -n 's/^[[:space:]]*path = //p' "$2/.gitmodules" | while read -r path; do
    [ -n "$(ls -A "$2/$path")" ] || { echo "the submodule $path is not checked out in the working tree"; exit 1; }
  done
fi
if [ -n "$CHECKOUT_HEADER" ]; then git -c safe.directory="$2" -C "$2" config --local "$CHECKOUT_SETTING" "$CHECKOUT_HEADER"; fi
case "$1" in */checkouts/*) rm -rf "$1"/* "$1"/.[!.]* || :;; esac"#;

/// Whether a step is the action that checks a repository out.
pub(in crate::engine) fn is_checkout(uses: &Uses) -> bool {
    matches!(uses, Uses::Remote { owner, repository, path, .. }
        if owner.eq_ignore_ascii_case("actions") && repository.eq_ignore_ascii_case("checkout") && path.is_empty())
}

/// Whether the host does what an action would do.
pub(super) fn is_answered(shared: &Shared, uses: &Uses) -> bool {
    is_checkout(uses) && !shared.inputs.real_checkout
}

/// What is known to be wrong with a checkout before it runs.
pub(super) fn problems(shared: &Shared, planned: &PlannedAction) -> Vec<(Span, String)> {
    match &planned.with {
        Some(with) if is_answered(shared, &planned.uses) => asked::problems(with),
        _ => Vec::new(),
    }
}

impl Job {
    /// Does what `actions/checkout` would do.
    pub(super) async fn check_out(&mut self, frame: &Frame, planned: &PlannedAction) -> Result<WorkEnd> {
        let values = match &planned.with {
            Some(with) => match self.evaluate(&frame.contexts, |scope| with.text_map(scope)).await? {
                Ok(values) => values,
                Err(error) => return Ok(self.broken(frame, &error).await),
            },
            None => IndexMap::new(),
        };
        let asked = match Asked::parse(&values) {
            Ok(asked) => asked,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        let target = join(&self.shared.workspace(), Some(&asked.path));
        let mut end = if self.is_working_tree(&asked) {
            self.copy_tree(frame, planned, &asked, &target).await?
        } else {
            self.clone_repository(frame, &asked, &target).await?
        };
        let said = self.tell(frame, AnnotationLevel::Warning, asked.warnings).await;
        end.annotations.splice(0..0, said);
        Ok(end)
    }

    /// Whether it is the repository of the run at the commit of the run.
    fn is_working_tree(&self, asked: &Asked) -> bool {
        let inputs = &self.shared.inputs;
        let head = |key: &str| inputs.event.pointer(key).and_then(|value| value.as_str()).unwrap_or_default();
        // The tree that a pull request is about is the one that is here.
        let (branch, commit) = (head("/pull_request/head/ref"), head("/pull_request/head/sha"));
        let names = [inputs.git_ref.as_str(), inputs.sha.as_str(), branch, commit];
        let short = ["refs/heads/", "refs/tags/", "refs/pull/"];
        let short = short.iter().filter_map(|prefix| inputs.git_ref.strip_prefix(prefix));
        let reference = asked.reference.as_str();
        self.is_own(asked)
            && (reference.is_empty() || names.into_iter().chain(short).any(|name| name == reference))
    }

    fn is_own(&self, asked: &Asked) -> bool {
        let own = &self.shared.inputs.repository.full_name;
        asked.repository.is_empty() || asked.repository.eq_ignore_ascii_case(own)
    }

    /// The working tree as it was before any step.
    async fn copy_tree(
        &mut self,
        frame: &Frame,
        planned: &PlannedAction,
        asked: &Asked,
        target: &str,
    ) -> Result<WorkEnd> {
        let shared = Arc::clone(&self.shared);
        let has_views = shared.executor.capabilities().views;
        let tree = shared.inputs.layout.tree(has_views, shared.inputs.repository_name());
        let is_untouched = !self.is_workspace_touched && *target == shared.workspace() && !asked.persist;
        let mut end = if is_untouched || tree == target {
            let uses = &planned.text;
            let text =
                format!("{uses} is answered by the working tree, which is in the workspace already.\n");
            self.say(frame, text).await;
            WorkEnd::new(Conclusion::Success)
        } else if target.starts_with(&format!("{tree}/")) {
            let text = "this executor has no copy of the working tree that could be put at `path`";
            return Ok(self.failed(frame, text.to_owned()).await);
        } else {
            self.say(frame, format!("The working tree is copied to {target}.\n")).await;
            self.copy(frame, asked, &tree, target).await?
        };
        end.outputs.insert("ref".to_owned(), shared.inputs.git_ref.clone());
        end.outputs.insert("commit".to_owned(), shared.inputs.sha.clone());
        Ok(end)
    }

    /// A clone that the host makes.
    async fn clone_repository(&mut self, frame: &Frame, asked: &Asked, target: &str) -> Result<WorkEnd> {
        let shared = Arc::clone(&self.shared);
        let Some(store) = &shared.inputs.actions else {
            let text = "a checkout of another repository or commit needs a source, and this run has none";
            return Ok(self.failed(frame, text.to_owned()).await);
        };
        let checked_out = match self.clone_on_host(store, asked).await {
            Ok(checked_out) => checked_out,
            Err(text) => return Ok(self.failed(frame, text).await),
        };
        let from = format!("{}/checkouts/{}", shared.inputs.layout.scratch, Uuid::new_v4().simple());
        shared.executor.upload(self.place.session(), &from, Box::new(checked_out.tar)).await?;
        let name = if checked_out.reference.is_empty() { "a commit" } else { &checked_out.reference };
        let name = format!("{name} ({})", checked_out.commit);
        self.say(frame, format!("{name} is checked out in {target}.\n")).await;
        let mut end = self.copy(frame, asked, &from, target).await?;
        end.outputs.insert("ref".to_owned(), checked_out.reference);
        end.outputs.insert("commit".to_owned(), checked_out.commit);
        Ok(end)
    }

    async fn clone_on_host(
        &self,
        store: &ActionStore,
        asked: &Asked,
    ) -> Result<crate::action::CheckedOut, String> {
        let inputs = &self.shared.inputs;
        let is_own = self.is_own(asked);
        let repository = if is_own { inputs.repository.full_name.clone() } else { asked.repository.clone() };
        let origin = match &inputs.repository.clone_url {
            Some(url) if is_own => url.clone(),
            _ => format!("{}/{repository}", self.server()),
        };
        let checkout = Checkout {
            repository,
            from: inputs.repository_directory.clone().filter(|_| is_own),
            reference: asked.reference.clone(),
            depth: asked.depth,
            tags: asked.tags,
            submodules: asked.submodules,
            sparse: asked.sparse.clone(),
            cone: asked.cone,
            token: Secret::from(asked.token.clone()),
            origin,
        };
        store.check_out(&checkout).await.map_err(|error| match error.hint() {
            Some(hint) => format!("{}; {hint}", chain(&error)),
            None => chain(&error),
        })
    }

    /// `github.server_url`
    fn server(&self) -> String {
        let url = self.github.get("server_url");
        url.map_or_else(|| "https://github.com".to_owned(), |url| url.to_text().into_owned())
    }

    /// Copies a directory of the guest to where the step wants it.
    async fn copy(&mut self, frame: &Frame, asked: &Asked, from: &str, target: &str) -> Result<WorkEnd> {
        let has_submodules = asked.submodules != crate::action::Submodules::None;
        let flags = [asked.clean, has_submodules].map(|flag| flag.to_string());
        let [clean, submodules] = flags;
        let argv = ["sh", "-c", COPY, "checkout", from, target, &clean, &submodules];
        let argv = argv.map(str::to_owned).to_vec();
        let token = if asked.token.is_empty() { self.shared.inputs.token.expose() } else { &asked.token };
        if asked.persist && token.is_empty() {
            let text = "`persist-credentials: true` needs a token: give the run one (`-s GITHUB_TOKEN`)";
            return Ok(self.failed(frame, text.to_owned()).await);
        }
        let header = if asked.persist { header(&Secret::from(token)) } else { Secret::default() };
        let env = IndexMap::from([
            ("CHECKOUT_SETTING".to_owned(), format!("http.{}/.extraheader", self.server())),
            ("CHECKOUT_HEADER".to_owned(), header.expose().to_owned()),
        ]);
        let mut spec: ProcessSpec = self.spec(argv, &env, "/".to_owned(), frame.limit());
        // The scratch disk is closed to the job's user. Copies keep the owner of what is copied.
        if spec.user.is_some() {
            spec.user = Some("root".to_owned());
        }
        self.is_workspace_touched = true;
        let said = self.ask_tool(&spec, &frame.holder).await?;
        Ok(match said.conclusion {
            Conclusion::Success => WorkEnd::new(Conclusion::Success),
            Conclusion::Cancelled => WorkEnd::new(Conclusion::Cancelled),
            _ => {
                let text = format!("the files could not be put into {target}: {}", said.text());
                self.failed(frame, text).await
            }
        })
    }
}
