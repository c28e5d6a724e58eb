//! Checks of the values of job keys as far as they are literals; the rest is checked when it is
//! evaluated.

use super::condition::{self, Kind as IfKind};
use super::convert::{Converter, Fail};
use crate::matrix;
use crate::template::{Limits, Node, Template};

/// Concurrency groups are shorter than this.
const MAX_GROUP: usize = 400;

/// Checks the value of one key of a job.
pub(super) fn job_key(
    converter: &mut Converter<'_>,
    job: &str,
    key: &str,
    value: &Template,
) -> Result<(), Fail> {
    let limits = &mut *converter.limits;
    match key {
        "concurrency" => concurrency(limits, value),
        "runs-on" => runs_on(limits, value),
        "strategy" => matrix::check(limits, value, job),
        "container" => container(limits, value, false),
        "services" => {
            for (_, service) in value.entries() {
                container(limits, service, true);
            }
        }
        "continue-on-error" if !matches!(value.node, Node::Bool(_) | Node::Expr(_)) => {
            return Err(Fail::unexpected(value, "job continue-on-error"));
        }
        _ => {}
    }
    Ok(())
}

/// `concurrency` of a workflow or job.
pub(super) fn concurrency(limits: &mut Limits, value: &Template) {
    let group = value.get("group").unwrap_or(value).as_str().unwrap_or_default();
    if crate::expr::memory::utf16_len(group) > MAX_GROUP {
        limits.error_at(value, format!("Concurrency group name must be less than {MAX_GROUP} characters"));
    }
}

fn runs_on(limits: &mut Limits, value: &Template) {
    let Some(template) = value.get("group") else { return };
    let Some(group) = template.as_str() else { return };
    let message = match group.split('/').collect::<Vec<_>>().as_slice() {
        [_] => return,
        [_, ""] => format!("Invalid runs-on group name '{group}'."),
        ["org" | "organization" | "ent" | "enterprise", _] => return,
        _ => format!(
            "Invalid runs-on group name '{group}'. Please use 'organization/' or 'enterprise/' prefix to target a \
             single runner group."
        ),
    };
    limits.error_at(template, message);
}

/// An empty image is no container; where one was surely meant it is an error.
fn container(limits: &mut Limits, value: &Template, is_service: bool) {
    if value.has_expression() {
        return;
    }
    let image = match &value.node {
        Node::Str(image) => Some(&**image),
        _ => value.get("image").and_then(Template::as_str),
    };
    let trimmed = image.and_then(|image| image.strip_prefix("docker://"));
    let is_meant = image.is_none() || trimmed.is_some() || is_service;
    if is_meant && trimmed.or(image).unwrap_or_default().is_empty() {
        limits.error_at(value, "Container image cannot be empty");
    }
}

/// `snapshot` of a job.
pub(super) fn snapshot(limits: &mut Limits, value: &Template, allowed: bool, key: &Template) {
    if !allowed {
        limits.error_at(key, "The key 'snapshot' is not allowed");
        return;
    }
    if let Some(condition) = value.get("if") {
        condition::convert(limits, Some(condition), IfKind::Snapshot);
    }
    let Some(version) = value.get("version").and_then(Template::as_str) else { return };
    let is_valid = version.strip_suffix(".*").is_some_and(|major| {
        !major.is_empty() && major.bytes().all(|b| b.is_ascii_digit()) && major.parse::<i32>().is_ok()
    });
    if !is_valid {
        limits.error_at(value, format!("Expected format '{{major-version}}.*' Actual '{version}'"));
    }
}
