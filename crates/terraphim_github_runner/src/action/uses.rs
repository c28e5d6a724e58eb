//! What an action uses.

use terraphim_actions::action::{Action, Runs};
use terraphim_actions::workflow::{StepKind, Uses};

/// What the steps of a composite action use; nothing for another one.
pub fn uses_of(action: &Action) -> impl Iterator<Item = Uses> + '_ {
    let steps = match &action.runs {
        Runs::Composite(steps) => steps.as_slice(),
        _ => &[],
    };
    steps.iter().filter_map(|step| match &step.kind {
        StepKind::Uses { uses, .. } => Uses::parse(uses),
        _ => None,
    })
}
