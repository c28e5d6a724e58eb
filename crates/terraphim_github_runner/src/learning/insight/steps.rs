//! The steps of a job as a graph: which needs what another makes, and which need not wait for each other.

use std::collections::BTreeMap;

use petgraph::adj::UnweightedList;
use petgraph::algo::tred::dag_transitive_reduction_closure;
use petgraph::unionfind::UnionFind;

use super::current::Current;
use super::effects::Effects;
use crate::learning::model::{CommandFact, Model};

/// A job has fewer steps that anybody looks at; the graph of so many is made in a millisecond.
const MAX_STEPS: usize = 100;

/// A step as it last ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// Its canonical form.
    pub(super) command: &'a str,
    pub(super) fact: &'a CommandFact,
    pub(super) effects: Effects,
}

impl Step<'_> {
    /// How long it takes, in milliseconds; 0 when it never succeeded.
    pub(super) fn median_ms(&self) -> u64 {
        self.fact.durations.median().unwrap_or(0)
    }
}

/// The steps of a job in their order. Numbers of steps are their places in it, from 0.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    pub(super) job: &'a str,
    pub(super) steps: Vec<Step<'a>>,
    /// From each step to those that wait for it and for nothing else in between.
    reduction: UnweightedList<u32>,
    /// From each step to all that have to come after it.
    closure: UnweightedList<u32>,
}

/// The commands of a job by their places in it.
type InOrder<'a> = BTreeMap<i64, (&'a str, &'a CommandFact)>;

/// Steps of which those of one lane need not wait for those of another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) lanes: Vec<Vec<usize>>,
    /// The steps that a lane waits for.
    pub(super) after: Vec<usize>,
}

impl<'a> Steps<'a> {
    /// The steps of each job of a model, by workflow and job.
    pub(super) fn of_all(model: &'a Model) -> Vec<Steps<'a>> {
        let current = Current::of(model);
        let mut places: BTreeMap<(&str, &str), InOrder<'_>> = BTreeMap::new();
        for (command, fact) in current.commands() {
            if fact.place.number > 0 && current.is_newest(command, fact) {
                let job = places.entry((&fact.place.workflow, &fact.place.job)).or_default();
                job.insert(fact.place.number, (command, fact));
            }
        }
        places.into_iter().map(|((_, job), steps)| Steps::of(job, steps.into_values())).collect()
    }

    fn of(job: &'a str, steps: impl Iterator<Item = (&'a str, &'a CommandFact)>) -> Steps<'a> {
        let step = |(command, fact): (&'a str, &'a CommandFact)| {
            let effects = Effects::of(command, &fact.subcommand);
            Step { command, fact, effects }
        };
        let steps: Vec<Step<'a>> = steps.take(MAX_STEPS).map(step).collect();
        let mut graph = UnweightedList::with_capacity(steps.len());
        for (later, step) in steps.iter().enumerate() {
            graph.add_node();
            // In this order the edges are as the reduction wants them: of each step by their ends.
            for (earlier, before) in steps[..later].iter().enumerate() {
                if before.effects.is_needed_by(step.effects) {
                    graph.add_edge(number(earlier), number(later), ());
                }
            }
        }
        let (reduction, closure) = dag_transitive_reduction_closure(&graph);
        Steps { job, steps, reduction, closure }
    }

    /// Where a step could be: right after the last one that it has to wait for.
    pub(super) fn earliest(&self, step: usize) -> usize {
        (0..step).rev().find(|earlier| self.waits(step, *earlier)).map_or(0, |last| last + 1)
    }

    /// The steps outside of these that have to come after one of them.
    pub(super) fn followers(&self, steps: &[usize]) -> Vec<usize> {
        let follows = |other: &usize| steps.iter().any(|step| self.waits(*other, *step));
        (0..self.steps.len()).filter(|other| !steps.contains(other)).filter(follows).collect()
    }

    /// Whether `later` has to wait for `earlier`, directly or not.
    fn waits(&self, later: usize, earlier: usize) -> bool {
        self.closure.contains_edge(number(earlier), number(later))
    }

    /// All groups, the outer ones first.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut found = Vec::new();
        self.add_groups(&(0..self.steps.len()).collect::<Vec<_>>(), &mut found);
        found
    }

    /// Takes the steps apart, where that can be done, into such that run in turn and such that need not.
    fn add_groups(&self, steps: &[usize], found: &mut Vec<Group>) {
        let lanes = self.components(steps);
        if lanes.len() > 1 {
            let after = self.waited_for(steps);
            found.push(Group { lanes: lanes.clone(), after });
            lanes.iter().for_each(|lane| self.add_groups(lane, found));
            return;
        }
        // A step that all others of these wait for, or that waits for all, parts what is before it from the rest.
        let is_comparable = |a: usize, b: usize| a == b || self.waits(a, b) || self.waits(b, a);
        let is_cut = |step: &usize| steps.iter().all(|other| is_comparable(*step, *other));
        if steps.iter().any(is_cut) {
            for part in steps.split(is_cut).filter(|part| part.len() > 1) {
                self.add_groups(part, found);
            }
        }
    }

    /// The parts of these steps that no need connects, each in order, by their first steps.
    fn components(&self, steps: &[usize]) -> Vec<Vec<usize>> {
        let mut sets = UnionFind::<usize>::new(steps.len());
        for (a, earlier) in steps.iter().enumerate() {
            for (b, later) in steps.iter().enumerate().skip(a + 1) {
                if self.reduction.contains_edge(number(*earlier), number(*later)) {
                    sets.union(a, b);
                }
            }
        }
        let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            parts.entry(sets.find_mut(at)).or_default().push(*step);
        }
        let mut parts: Vec<Vec<usize>> = parts.into_values().collect();
        parts.sort_unstable();
        parts
    }

    /// The steps outside of these that one of them waits for directly.
    fn waited_for(&self, steps: &[usize]) -> Vec<usize> {
        let is_waited_for = |outside: &usize| {
            steps.iter().any(|step| self.reduction.contains_edge(number(*outside), number(*step)))
        };
        (0..self.steps.len()).filter(|step| !steps.contains(step)).filter(is_waited_for).collect()
    }
}

fn number(step: usize) -> u32 {
    u32::try_from(step).expect("a job has at most 100 steps that are looked at")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::learning::CommandIdentity;

    /// The groups of a job of these steps, in words.
    fn groups(commands: &[&str]) -> Vec<String> {
        let identities: Vec<CommandIdentity> =
            commands.iter().map(|text| CommandIdentity::of(text)).collect();
        let facts: Vec<CommandFact> = identities
            .iter()
            .map(|one| CommandFact { subcommand: one.subcommand.clone(), ..CommandFact::default() })
            .collect();
        let names = identities.iter().map(|one| one.canonical.as_str());
        let steps = Steps::of("build", names.zip(&facts));
        let told = |group: &Group| {
            let lane = |lane: &Vec<usize>| lane.iter().map(|at| commands[*at]).collect::<Vec<_>>().join(", ");
            let lanes: Vec<String> = group.lanes.iter().map(lane).collect();
            match group.after.as_slice() {
                [] => lanes.join(" | "),
                after => format!("{} -> {}", lane(&after.to_vec()), lanes.join(" | ")),
            }
        };
        steps.groups().iter().map(told).collect()
    }

    #[test]
    fn a_job_is_taken_apart_into_what_runs_in_turn_and_what_need_not() {
        for (steps, expected) in [
            (&["cargo build"][..], &[][..]),
            (&["cargo clippy", "cargo test"], &["cargo clippy | cargo test"]),
            (&["npm ci", "npm test", "npm run lint"], &["npm ci -> npm test | npm run lint"]),
            (
                &["npm ci", "cargo test", "npm test", "npm run lint"],
                &["npm ci, npm test, npm run lint | cargo test", "npm ci -> npm test | npm run lint"],
            ),
            // Who knows what a script does? It waits for all, and what comes then for it.
            (
                &["./configure", "cargo test", "cargo clippy", "./deploy.sh", "cargo doc", "cargo audit"],
                &["./configure -> cargo test | cargo clippy", "./deploy.sh -> cargo doc | cargo audit"],
            ),
            // Neither in turn nor side by side: the test of one language needs both.
            (&["npm ci", "pip install -e .", "npm test && pytest", "mypy ."], &[]),
        ] {
            assert_eq!(groups(steps), expected, "{steps:?}");
        }
    }

    const SOME: [&str; 9] = [
        "npm ci",
        "npm test",
        "cargo build",
        "cargo test",
        "cargo fmt",
        "./x.sh",
        "pytest",
        "pip install .",
        "shellcheck a.sh",
    ];

    proptest! {
        /// Whatever the steps are, none of a lane waits for one of another, and each group has two lanes or more.
        #[test]
        fn lanes_do_not_wait_for_each_other(picked in prop::collection::vec(0..SOME.len(), 0..12)) {
            let identities: Vec<CommandIdentity> = picked.iter().map(|at| CommandIdentity::of(SOME[*at])).collect();
            let facts: Vec<CommandFact> = identities
                .iter()
                .map(|one| CommandFact { subcommand: one.subcommand.clone(), ..CommandFact::default() })
                .collect();
            let steps = Steps::of("build", identities.iter().map(|one| one.canonical.as_str()).zip(&facts));
            for group in steps.groups() {
                prop_assert!(group.lanes.len() > 1);
                for (at, lane) in group.lanes.iter().enumerate() {
                    prop_assert!(lane.is_sorted());
                    for other in group.lanes[at + 1..].iter().flatten() {
                        for step in lane {
                            prop_assert!(!steps.waits(*step, *other) && !steps.waits(*other, *step));
                            let (a, b) = (*step.min(other), *step.max(other));
                            prop_assert!(!steps.steps[a].effects.is_needed_by(steps.steps[b].effects));
                        }
                    }
                }
            }
        }
    }
}
