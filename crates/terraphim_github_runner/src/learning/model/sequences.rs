//! Which command follows which, and how often: a directed graph that is small and quick to ask.
//!
//! Commands are numbers and neighbours are sorted arrays of them: a pair takes 8 bytes twice, and a look-up is a
//! binary search. A graph of a library would cost several times that; nothing here needs its algorithms.

use std::collections::HashMap;
use std::sync::Arc;

use super::MAX_RATES;

/// Counts of pairs of commands, by canonical form.
#[derive(Debug, Default)]
pub(in crate::learning) struct Sequences {
    numbers: HashMap<Arc<str>, u32>,
    nodes: Vec<Node>,
    /// Different pairs; further ones than [`MAX_RATES`] are not counted.
    pairs: u32,
    /// How often all pairs were seen.
    total: u64,
}

#[derive(Debug)]
struct Node {
    command: Arc<str>,
    next: Vec<Edge>,
    previous: Vec<Edge>,
    /// Of all `next`.
    out: u64,
    /// Of all `previous`.
    into: u64,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    other: u32,
    times: u32,
}

/// A command that was seen right before or after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::learning) struct Neighbour<'a> {
    pub(in crate::learning) command: &'a str,
    /// How often the pair was seen.
    pub(in crate::learning) times: u64,
    /// How often chance would give the pair, if commands followed each other at random.
    pub(in crate::learning) by_chance: f64,
}

impl Sequences {
    /// Counts a pair `times` times.
    pub(super) fn add(&mut self, previous: &str, next: &str, times: u64) {
        if !self.knows(previous, next) {
            if self.pairs >= MAX_RATES {
                return;
            }
            self.pairs += 1;
        }
        let (from, to) = (self.number(previous), self.number(next));
        let few = u32::try_from(times).unwrap_or(u32::MAX);
        count(&mut self.nodes[from as usize].next, to, few);
        count(&mut self.nodes[to as usize].previous, from, few);
        self.nodes[from as usize].out += times;
        self.nodes[to as usize].into += times;
        self.total += times;
    }

    /// What followed a command, in no order.
    pub(in crate::learning) fn after(&self, command: &str) -> impl Iterator<Item = Neighbour<'_>> {
        self.node(command).into_iter().flat_map(move |node| {
            node.next.iter().map(move |edge| {
                let other = &self.nodes[edge.other as usize];
                self.neighbour(edge, other, node.out, other.into)
            })
        })
    }

    /// What came before a command, in no order.
    pub(in crate::learning) fn before(&self, command: &str) -> impl Iterator<Item = Neighbour<'_>> {
        self.node(command).into_iter().flat_map(move |node| {
            node.previous.iter().map(move |edge| {
                let other = &self.nodes[edge.other as usize];
                self.neighbour(edge, other, other.out, node.into)
            })
        })
    }

    fn neighbour<'a>(&self, edge: &Edge, other: &'a Node, out: u64, into: u64) -> Neighbour<'a> {
        let by_chance = super::real(out) * super::real(into) / super::real(self.total);
        Neighbour { command: &other.command, times: u64::from(edge.times), by_chance }
    }

    fn knows(&self, previous: &str, next: &str) -> bool {
        let (Some(node), Some(to)) = (self.node(previous), self.numbers.get(next)) else { return false };
        node.next.binary_search_by_key(to, |edge| edge.other).is_ok()
    }

    fn node(&self, command: &str) -> Option<&Node> {
        self.numbers.get(command).map(|number| &self.nodes[*number as usize])
    }

    fn number(&mut self, command: &str) -> u32 {
        if let Some(number) = self.numbers.get(command) {
            return *number;
        }
        let number =
            u32::try_from(self.nodes.len()).expect("two commands for each of less than a million pairs");
        let command: Arc<str> = command.into();
        self.numbers.insert(Arc::clone(&command), number);
        self.nodes.push(Node { command, next: Vec::new(), previous: Vec::new(), out: 0, into: 0 });
        number
    }
}

fn count(edges: &mut Vec<Edge>, other: u32, times: u32) {
    match edges.binary_search_by_key(&other, |edge| edge.other) {
        Ok(at) => edges[at].times = edges[at].times.saturating_add(times),
        Err(at) => edges.insert(at, Edge { other, times }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_counted_in_both_directions() {
        let mut sequences = Sequences::default();
        for (previous, next, times) in [("a", "b", 3), ("c", "b", 1), ("b", "a", 2), ("a", "b", 1)] {
            sequences.add(previous, next, times);
        }
        let after: Vec<_> = sequences.after("a").map(|one| (one.command, one.times)).collect();
        assert_eq!(after, [("b", 4)]);
        let mut before: Vec<_> = sequences.before("b").map(|one| (one.command, one.times)).collect();
        before.sort_unstable();
        assert_eq!(before, [("a", 4), ("c", 1)]);
        // 4 of 7 pairs begin with `a` and 5 end in `b`.
        let chance = sequences.after("a").next().unwrap().by_chance;
        assert!((chance - 4.0 * 5.0 / 7.0).abs() < 1e-12, "{chance}");
        assert_eq!(sequences.after("x").count(), 0);
    }

    #[test]
    fn a_pair_too_many_is_not_counted_and_the_known_ones_are() {
        let mut sequences = Sequences::default();
        sequences.add("a", "b", 1);
        sequences.pairs = MAX_RATES;
        sequences.add("a", "b", 1);
        sequences.add("a", "new", 1);
        let after: Vec<_> = sequences.after("a").map(|one| (one.command, one.times)).collect();
        assert_eq!((after, sequences.nodes.len(), sequences.total), (vec![("b", 2)], 2, 2));
    }
}
