//! `actions/checkout`, answered from the host.

use std::sync::Arc;

use terraphim_actions::workflow::Uses;

use crate::engine::event::Conclusion;
use crate::engine::job::Job;
use crate::engine::output::StepOutput;
use crate::engine::plan::PlannedAction;
use crate::engine::shared::Shared;
use crate::engine::step::{Frame, WorkEnd};
use crate::error::Result;
use crate::workflow::{OutputSink as _, Stream};

/// Whether a step is the action that checks a repository out.
pub(in crate::engine) fn is_checkout(uses: &Uses) -> bool {
    matches!(uses, Uses::Remote { owner, repository, path, .. }
        if owner.eq_ignore_ascii_case("actions") && repository.eq_ignore_ascii_case("checkout") && path.is_empty())
}

/// Whether the host does what an action would do.
pub(super) fn is_answered(_shared: &Shared, uses: &Uses) -> bool {
    is_checkout(uses)
}

impl Job {
    /// The working tree is in the workspace already; this says so.
    pub(super) async fn check_out(&mut self, frame: &Frame, planned: &PlannedAction) -> Result<WorkEnd> {
        if planned.with.as_ref().is_some_and(|with| !with.entries().is_empty()) {
            let text = format!("`with` of {} is not done by this version", planned.text);
            return Ok(self.failed(frame, text).await);
        }
        let shared = Arc::clone(&self.shared);
        let place = self.output_place(frame.number);
        let mut output = StepOutput::new(place, &*shared.observer, self.masks.clone(), None);
        let uses = &planned.text;
        let text =
            format!("{uses} is answered by the copy of the working tree that is in the workspace already.\n");
        // Writing to an observer cannot fail.
        let _ = output.write(Stream::Stdout, text.into()).await;
        output.finish().await;
        let mut end = WorkEnd::new(Conclusion::Success);
        end.outputs.insert("ref".to_owned(), shared.inputs.git_ref.clone());
        end.outputs.insert("commit".to_owned(), shared.inputs.sha.clone());
        Ok(end)
    }
}
