//! `if`: the implicit `success()`.

use super::model::Condition;
use crate::expr::{self, Allowed, Expr};
use crate::template::{Limits, Node, Template};
use std::sync::{Arc, LazyLock};

/// Whose `if` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Job,
    Step,
    CompositeStep,
    Snapshot,
}

static SUCCESS: LazyLock<Arc<Expr>> = LazyLock::new(|| {
    let parsed = expr::parse("success()", &Allowed::any());
    Arc::new(parsed.ok().flatten().expect("'success()' is an expression"))
});

static JOB: LazyLock<Allowed> = LazyLock::new(|| allowed("job-if", &crate::schema::WORKFLOW));
static STEP: LazyLock<Allowed> = LazyLock::new(|| allowed("step-if", &crate::schema::WORKFLOW));
static SNAPSHOT: LazyLock<Allowed> = LazyLock::new(|| allowed("snapshot-if", &crate::schema::WORKFLOW));
static COMPOSITE: LazyLock<Allowed> = LazyLock::new(|| allowed("composite-if", &crate::schema::ACTION));

fn allowed(definition: &str, schema: &crate::schema::Schema) -> Allowed {
    Allowed::new(schema.get(definition).map(|found| found.context.as_slice()).unwrap_or_default())
}

/// The condition `success()`, at the place of `template` if there is one.
pub(crate) fn success(template: Option<&Template>) -> Condition {
    Condition {
        expr: Arc::clone(&SUCCESS),
        span: template.map(|template| template.span).unwrap_or_default(),
        file: template.map_or(0, |template| template.file),
        written: None,
    }
}

/// The condition of an `if`. One that calls no status function is `success() && (...)`; the test
/// looks at calls, so the text `'always()'` does not count. Errors go to `limits`.
pub(crate) fn convert(limits: &mut Limits, template: Option<&Template>, kind: Kind) -> Condition {
    let Some(template) = template else { return success(None) };
    let written: Arc<str> = match &template.node {
        Node::Expr(expr) => Arc::from(expr.source()),
        _ => Arc::from(template.literal_text().unwrap_or_default()),
    };
    if written.trim().is_empty() {
        return success(Some(template));
    }
    let names = match kind {
        Kind::Job => &*JOB,
        Kind::Step => &*STEP,
        Kind::CompositeStep => &*COMPOSITE,
        Kind::Snapshot => &*SNAPSHOT,
    };
    let expr = match expr::parse(&written, names) {
        Ok(Some(expr)) if expr.calls_status_function() => Ok(Some(expr)),
        Ok(Some(_)) => expr::parse(&format!("success() && ({written})"), &Allowed::any()),
        other => other,
    };
    match expr {
        Ok(Some(expr)) => Condition {
            expr: Arc::new(expr),
            span: template.span,
            file: template.file,
            written: Some(written),
        },
        Ok(None) => success(Some(template)),
        Err(error) => {
            limits.error_at(template, error.message);
            success(Some(template))
        }
    }
}
