//! What is legal but surely wrong.

use super::model::Workflow;
use crate::diagnostic::{Diagnostic, Severity};
use std::sync::Arc;

/// The warnings about a workflow.
pub(super) fn check(workflow: &Workflow, files: &[Arc<str>]) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let file = files.first().cloned().unwrap_or_else(|| Arc::from(""));
    for (event, trigger) in &workflow.on.events {
        for key in &trigger.unknown {
            let message = format!("The event '{event}' knows no key '{}'; GitHub ignores it", key.value);
            warnings.push(Diagnostic {
                severity: Severity::Warning,
                ..Diagnostic::error(&file, key.span, message)
            });
        }
    }
    warnings
}
