//! The steps of a job in one row: `parallel` becomes steps in the background and one that waits for them. Pure.

use terraphim_actions::workflow::{Step, StepKind};

use super::plan::{PlannedStep, Work};
use super::planner::{plan_step, plan_work};

/// The plans of steps of a file.
pub(super) fn plan_steps(steps: &[Step], file: usize) -> Vec<PlannedStep> {
    let mut planned: Vec<PlannedStep> = Vec::with_capacity(steps.len());
    for step in steps {
        let place = |id: &str| planned.iter().position(|known| known.key.eq_ignore_ascii_case(id));
        let work = match &step.kind {
            StepKind::Parallel(inner) => {
                let work = Work::Wait { steps: (planned.len()..planned.len() + inner.len()).collect() };
                planned.extend(inner.iter().filter_map(|inner| of_group(step, inner, file)));
                work
            }
            // The parser has seen that they exist.
            StepKind::Wait(ids) => Work::Wait { steps: ids.iter().filter_map(|id| place(id)).collect() },
            StepKind::Cancel(id) => match place(id) {
                Some(step) => Work::Cancel { step },
                None => continue,
            },
            StepKind::WaitAll => Work::WaitAll,
            StepKind::Run { .. } | StepKind::Uses { .. } => match plan_work(step, file) {
                Some(work) => work,
                None => continue,
            },
        };
        planned.push(plan_step(step, work));
    }
    planned
}

/// A step of a group: it runs when the group does, and has the group's `continue-on-error` if it has none.
fn of_group(group: &Step, step: &Step, file: usize) -> Option<PlannedStep> {
    let planned = plan_step(step, plan_work(step, file)?);
    Some(PlannedStep {
        background: true,
        group_condition: Some(group.condition.clone()),
        continue_on_error: planned.continue_on_error.clone().or_else(|| group.continue_on_error.clone()),
        ..planned
    })
}
