//! Which commands workflows still have: what was taken out of a file is not foretold, advised on or called broken.

use std::collections::HashMap;

use crate::learning::model::{CommandFact, Model};

/// A step that so many runs did without, which all succeeded, is none any more; its own run is one of them. Fewer would
/// forget steps with a condition that rarely holds.
const WITHOUT: usize = 11;

/// Workflow, job and number of a step.
type Place<'a> = (&'a str, &'a str, i64);

/// The newest command of each place.
pub(super) struct Current<'a> {
    model: &'a Model,
    newest: HashMap<Place<'a>, (i64, &'a str)>,
}

impl<'a> Current<'a> {
    pub(super) fn of(model: &'a Model) -> Current<'a> {
        let mut newest: HashMap<Place<'a>, (i64, &'a str)> = HashMap::new();
        for (command, fact) in model.commands().filter(|(_, fact)| fact.place.number > 0) {
            let there = newest.entry(place(fact)).or_insert((fact.last_ms, command));
            *there = (*there).max((fact.last_ms, command));
        }
        Current { model, newest }
    }

    /// The commands that workflows still have, in no order.
    pub(super) fn commands(&self) -> impl Iterator<Item = (&'a str, &'a CommandFact)> {
        self.model.commands().filter(|(command, fact)| self.has(command, fact))
    }

    /// Whether its workflow still has a command.
    pub(super) fn has(&self, command: &str, fact: &CommandFact) -> bool {
        let Some(run) = self.model.run(&fact.place.workflow) else { return true };
        // Its own run is one of those that succeeded, unless the command failed. Another command in its place can be
        // that of another leg of a matrix: then both are in each run.
        let has_failed = fact.history.observations().next_back().is_some_and(|last| !last.success);
        let enough = match (self.is_newest(command, fact), has_failed) {
            (true, _) => WITHOUT,
            (false, true) => 1,
            (false, false) => 2,
        };
        run.successes_since(fact.last_ms) < enough
    }

    /// Whether no other command stands in its place by now.
    pub(super) fn is_newest(&self, command: &str, fact: &CommandFact) -> bool {
        self.newest.get(&place(fact)).is_none_or(|(_, newest)| *newest == command)
    }
}

fn place(fact: &CommandFact) -> Place<'_> {
    (&fact.place.workflow, &fact.place.job, fact.place.number)
}
