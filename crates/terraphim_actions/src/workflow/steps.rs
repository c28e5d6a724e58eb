//! Steps.

use super::condition::{self, Kind as IfKind};
use super::convert::{Converter, Fail, texts};
use super::ids::{Ids, MAX_ID};
use super::model::{Step, StepKind};
use crate::expr::fold;
use crate::span::Spanned;
use crate::template::{Limits, Node, Template};

/// The steps of a job.
pub(super) fn convert(converter: &mut Converter<'_>, template: &Template) -> Result<Vec<Step>, Fail> {
    let mut steps =
        Steps { limits: converter.limits, ids: Ids::default(), known: Vec::new(), if_kind: IfKind::Step };
    steps.list(template)
}

/// The steps of a composite action. Errors go to `limits`.
pub(crate) fn convert_composite(limits: &mut Limits, template: &Template) -> Vec<Step> {
    let mut steps = Steps { limits, ids: Ids::default(), known: Vec::new(), if_kind: IfKind::CompositeStep };
    match steps.list(template) {
        Ok(list) => list,
        Err(fail) => {
            fail.report(limits);
            Vec::new()
        }
    }
}

struct Steps<'a> {
    limits: &'a mut Limits,
    ids: Ids,
    /// Written ids so far, which later steps may wait for.
    known: Vec<String>,
    if_kind: IfKind,
}

impl Steps<'_> {
    fn list(&mut self, template: &Template) -> Result<Vec<Step>, Fail> {
        let mut steps = Vec::with_capacity(template.items().len());
        for item in template.items() {
            steps.push(self.step(item)?);
        }
        self.generate_ids(&mut steps);
        Ok(steps)
    }

    /// Ids for the steps that have none, after all written ids are known.
    fn generate_ids(&mut self, steps: &mut [Step]) {
        for step in steps.iter_mut().filter(|step| step.id.is_empty()) {
            let base = match &step.kind {
                StepKind::Uses { uses, .. } => action_id(uses),
                StepKind::Run { .. } => None,
                StepKind::Wait(_) => Some("wait".to_owned()),
                StepKind::WaitAll => Some("wait-all".to_owned()),
                StepKind::Cancel(_) => Some("cancel".to_owned()),
                StepKind::Parallel(_) => Some("parallel".to_owned()),
            };
            self.ids.segment(&format!("__{}", base.as_deref().unwrap_or("run")));
            step.id = self.ids.build(true, MAX_ID);
            step.id_is_generated = true;
        }
    }

    fn step(&mut self, template: &Template) -> Result<Step, Fail> {
        let get = |key: &str| template.get(key).cloned();
        let id = template.get("id").map(|id| self.id(id)).unwrap_or_default();
        let kind = self.kind(template, &id)?;
        for (key, value) in template.entries() {
            match (key.as_str(), &value.node) {
                (Some("env" | "with"), Node::Map(_)) => check_map(value, key)?,
                (Some("env" | "with"), Node::Expr(_)) => {}
                (Some("env" | "with"), _) => return Err(Fail::unexpected(value, "steps item")),
                _ => {}
            }
        }
        Ok(Step {
            span: template.span,
            id_is_generated: false,
            id,
            name: get("name"),
            condition: condition::convert(self.limits, template.get("if"), self.if_kind),
            env: get("env"),
            continue_on_error: get("continue-on-error"),
            timeout_minutes: get("timeout-minutes"),
            background: matches!(template.get("background").map(|flag| &flag.node), Some(Node::Bool(true))),
            kind,
        })
    }

    fn id(&mut self, template: &Template) -> String {
        let id = template.as_str().unwrap_or_default().to_owned();
        if let Err(message) = self.ids.add_written(&id) {
            self.limits.error_at(template, message);
        } else {
            self.known.push(id.clone());
        }
        id
    }

    fn kind(&mut self, template: &Template, id: &str) -> Result<StepKind, Fail> {
        let get = |key: &str| template.get(key).cloned();
        if let Some(run) = get("run") {
            return Ok(StepKind::Run {
                run,
                shell: get("shell"),
                working_directory: get("working-directory"),
            });
        }
        if let Some(uses) = template.get("uses") {
            let text = uses.as_str().ok_or_else(|| Fail::unexpected(uses, "steps item uses"))?;
            self.check_uses(uses, text);
            let uses = Spanned::new(text.to_owned(), uses.span);
            return Ok(StepKind::Uses { uses, with: get("with") });
        }
        if let Some(wait) = template.get("wait") {
            let targets = texts(wait)?;
            for target in &targets {
                self.check_target(template, target, id);
            }
            return Ok(StepKind::Wait(targets));
        }
        if let Some(all) = template.get("wait-all") {
            if matches!(all.node, Node::Bool(false)) {
                self.limits.error_at(all, "The value of 'wait-all' must be true or omitted");
            }
            return Ok(StepKind::WaitAll);
        }
        if let Some(cancel) = template.get("cancel") {
            let text = cancel.as_str().ok_or_else(|| Fail::unexpected(cancel, "steps item cancel"))?;
            let target = Spanned::new(text.to_owned(), cancel.span);
            self.check_target(template, &target, id);
            return Ok(StepKind::Cancel(target));
        }
        if let Some(parallel) = template.get("parallel") {
            let mut inner = Vec::with_capacity(parallel.items().len());
            for item in parallel.items() {
                inner.push(self.step(item)?);
            }
            self.generate_ids(&mut inner);
            return Ok(StepKind::Parallel(inner));
        }
        Err(Fail::new(template, "Expected one of uses, run, wait, wait-all, or cancel to be defined"))
    }

    fn check_target(&mut self, step: &Template, target: &Spanned<String>, own: &str) {
        let message = if target.starts_with("__") {
            format!("The identifier '{}' is invalid. IDs starting with '__' are reserved.", target.value)
        } else if !own.is_empty() && fold::eq(target, own) {
            format!("Step '{own}' cannot reference itself")
        } else if !self.known.iter().any(|known| fold::eq(known, target)) {
            format!("Step references unknown step ID '{}'", target.value)
        } else {
            return;
        };
        self.limits.error(step.file, target.span, message);
    }

    fn check_uses(&mut self, template: &Template, uses: &str) {
        if Uses::parse(uses).is_none() {
            self.limits
                .error_at(template, format!("Expected format {{org}}/{{repo}}[/path]@ref. Actual '{uses}'"));
        }
    }
}

fn check_map(value: &Template, key: &Template) -> Result<(), Fail> {
    let kind_is_right = |value: &Template| value.is_expression() || value.as_str().is_some();
    match value.entries().iter().find(|(_, value)| !kind_is_right(value)) {
        Some((_, wrong)) => Err(Fail::unexpected(wrong, key.as_str().unwrap_or_default())),
        None => Ok(()),
    }
}

/// The parts of `uses` of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    /// `docker://image`
    Docker(String),
    /// `./path`: in the workspace.
    Local(String),
    /// `$/path`: in the repository that the workflow or action is from, at the same commit.
    SameRepository(String),
    /// `owner/repository[/path]@ref`
    Remote {
        /// The owner.
        owner: String,
        /// The repository.
        repository: String,
        /// The directory of the action in the repository; empty for its root.
        path: String,
        /// Branch, tag or commit.
        reference: String,
    },
}

impl Uses {
    /// Takes `uses` apart; `None` if it has no known form.
    #[must_use]
    pub fn parse(uses: &str) -> Option<Self> {
        if let Some(image) = uses.strip_prefix("docker://") {
            return Some(Self::Docker(image.to_owned()));
        }
        if uses.starts_with("./") || uses.starts_with(".\\") {
            return Some(Self::Local(uses.to_owned()));
        }
        if let Some(path) = uses.strip_prefix("$/") {
            return Some(Self::SameRepository(path.to_owned()));
        }
        let (name, reference) = uses.split_once('@')?;
        let mut parts = name.split(['/', '\\']).filter(|part| !part.is_empty());
        let (owner, repository) = (parts.next()?, parts.next()?);
        if reference.is_empty() || reference.contains('@') {
            return None;
        }
        Some(Self::Remote {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path: parts.collect::<Vec<_>>().join("/"),
            reference: reference.to_owned(),
        })
    }
}

/// The part of a generated id that tells the action.
fn action_id(uses: &str) -> Option<String> {
    match Uses::parse(uses)? {
        Uses::Docker(image) => Some(image),
        Uses::Local(_) | Uses::SameRepository(_) => Some("self".to_owned()),
        Uses::Remote { owner, repository, .. } => Some(format!("{owner}/{repository}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Uses;

    #[test]
    fn uses_has_four_forms() {
        let remote = |path: &str| Uses::Remote {
            owner: "o".into(),
            repository: "r".into(),
            path: path.into(),
            reference: "v1".into(),
        };
        assert_eq!(Uses::parse("o/r@v1"), Some(remote("")));
        assert_eq!(Uses::parse("o/r/a/b@v1"), Some(remote("a/b")));
        assert_eq!(Uses::parse("./x"), Some(Uses::Local("./x".into())));
        assert_eq!(Uses::parse("docker://alpine:3"), Some(Uses::Docker("alpine:3".into())));
        assert_eq!(Uses::parse("$/tools/x"), Some(Uses::SameRepository("tools/x".into())));
        for bad in ["o/r", "o@v1", "o/r@", "@v1", "o/r@a@b", ""] {
            assert_eq!(Uses::parse(bad), None, "{bad}");
        }
    }
}
