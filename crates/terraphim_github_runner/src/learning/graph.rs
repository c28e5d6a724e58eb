//! The counters of the knowledge graph.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::knowledge_graph::CommandGraphStats;

/// A workflow has tens of commands and a fleet thousands; this many are a fault (a command with a date in it),
/// and the graph then takes no new ones, so that memory stays bounded.
const MAX_COMMANDS: usize = 500_000;

/// How many runs' last commands are remembered: more than run at the same time.
const MAX_CONTEXTS: usize = 10_000;

/// How many different reasons are counted per command.
const MAX_SIGNATURES: usize = 32;

/// How many neighbours are looked at for related commands; beyond that the order hardly changes.
const MAX_LOOKED_AT: usize = 10_000;

/// How many commands of one program are remembered as kin.
const MAX_KIN: usize = 256;

type Node = u32;

#[derive(Debug, Default)]
pub(super) struct Graph {
    ids: HashMap<Arc<str>, Node>,
    nodes: Vec<Command>,
    by_program: HashMap<Box<str>, Vec<Node>>,
    places: Places,
    stats: CommandGraphStats,
}

#[derive(Debug)]
struct Command {
    text: Arc<str>,
    next: HashMap<Node, Edge>,
    previous: HashSet<Node>,
    /// Outcomes on edges that end here, in all.
    arrived: u64,
    /// Outcomes whose previous command is not known.
    alone: Counts,
    signatures: HashMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    successes: u64,
    failures: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    outcomes: Counts,
    workflows: u64,
}

/// Where each run is.
#[derive(Debug, Default)]
struct Places {
    of: HashMap<Box<str>, Place>,
    order: VecDeque<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    before: Option<Node>,
    last: Node,
}

impl Graph {
    pub(super) fn success_after(&mut self, first: &str, second: &str, context: &str) {
        let (Some(first), Some(second)) = (self.node(first), self.node(second)) else { return };
        self.outcome(Some(first), second, true);
        self.places.set(context, Place { before: Some(first), last: second });
    }

    pub(super) fn next(&mut self, command: &str, success: bool, context: &str) {
        let Some(node) = self.node(command) else { return };
        // A command that follows itself is another attempt: it has the same predecessor.
        let previous = self
            .places
            .of
            .get(context)
            .and_then(|place| if place.last == node { place.before } else { Some(place.last) });
        self.outcome(previous, node, success);
        self.places.set(context, Place { before: previous, last: node });
    }

    /// `signature`: of what it said.
    pub(super) fn failure(&mut self, command: &str, signature: String, context: &str) {
        self.next(command, false, context);
        let Some(node) = self.find(command) else { return };
        let signatures = &mut self.nodes[node as usize].signatures;
        if signatures.len() < MAX_SIGNATURES || signatures.contains_key(&signature) {
            *signatures.entry(signature).or_default() += 1;
        }
    }

    pub(super) fn workflow(&mut self, commands: &[String], context: &str) {
        let nodes: Vec<Option<Node>> = commands.iter().map(|command| self.node(command)).collect();
        for pair in nodes.windows(2) {
            if let [Some(first), Some(second)] = *pair {
                self.edge(first, second).workflows += 1;
                self.stats.workflow_edges += 1;
            }
        }
        self.places.of.remove(context);
    }

    pub(super) fn predict(&self, first: &str, second: &str) -> f64 {
        let edge = self.find(first).zip(self.find(second)).and_then(|(first, second)| {
            Some((self.nodes[first as usize].next.get(&second)?, &self.nodes[second as usize]))
        });
        let Some((edge, command)) = edge else { return 0.5 };
        let runs = real(edge.outcomes.successes) + real(edge.outcomes.failures);
        if runs == 0.0 {
            return 0.5;
        }
        // What happened after an unknown command is shared out among the known ones.
        let share = runs / real(command.arrived);
        let successes = real(edge.outcomes.successes) + share * real(command.alone.successes);
        let failures = real(edge.outcomes.failures) + share * real(command.alone.failures);
        (successes + 1.0) / (successes + failures + 2.0)
    }

    pub(super) fn related(&self, command: &str, limit: usize) -> Vec<String> {
        let node = self.find(command);
        let mut weights: HashMap<Node, u64> = HashMap::new();
        if let Some(node) = node {
            let here = &self.nodes[node as usize];
            for (other, edge) in here.next.iter().take(MAX_LOOKED_AT) {
                *weights.entry(*other).or_default() += edge.weight();
            }
            for other in here.previous.iter().take(MAX_LOOKED_AT) {
                if let Some(edge) = self.nodes[*other as usize].next.get(&node) {
                    *weights.entry(*other).or_default() += edge.weight();
                }
            }
        }
        for other in self.by_program.get(program(command)).into_iter().flatten() {
            weights.entry(*other).or_default();
        }
        if let Some(node) = node {
            weights.remove(&node);
        }
        let mut found: Vec<(u64, &str)> =
            weights.iter().map(|(node, weight)| (*weight, &*self.nodes[*node as usize].text)).collect();
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        found.into_iter().take(limit).map(|(_, text)| text.to_owned()).collect()
    }

    pub(super) fn signatures(&self, command: &str) -> Vec<(String, u64)> {
        let Some(node) = self.find(command) else { return Vec::new() };
        let counted = &self.nodes[node as usize].signatures;
        let mut found: Vec<_> = counted.iter().map(|(text, count)| (text.clone(), *count)).collect();
        found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found
    }

    pub(super) fn stats(&self) -> CommandGraphStats {
        CommandGraphStats { unique_commands: self.nodes.len(), ..self.stats }
    }

    pub(super) fn has(&self, command: &str) -> bool {
        self.find(command).is_some()
    }

    fn find(&self, command: &str) -> Option<Node> {
        self.ids.get(command.trim()).copied()
    }

    /// The node of a command, made when it is new; `None` when the graph is full.
    fn node(&mut self, command: &str) -> Option<Node> {
        if let Some(node) = self.find(command) {
            return Some(node);
        }
        let node = Node::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < MAX_COMMANDS)?;
        let text: Arc<str> = command.trim().into();
        let kin = self.by_program.entry(program(&text).into()).or_default();
        if kin.len() < MAX_KIN {
            kin.push(node);
        }
        self.ids.insert(Arc::clone(&text), node);
        self.nodes.push(Command {
            text,
            next: HashMap::new(),
            previous: HashSet::new(),
            arrived: 0,
            alone: Counts::default(),
            signatures: HashMap::new(),
        });
        Some(node)
    }

    fn edge(&mut self, first: Node, second: Node) -> &mut Edge {
        self.nodes[second as usize].previous.insert(first);
        self.nodes[first as usize].next.entry(second).or_default()
    }

    fn outcome(&mut self, previous: Option<Node>, node: Node, success: bool) {
        let counts = match previous {
            Some(previous) => {
                self.nodes[node as usize].arrived += 1;
                &mut self.edge(previous, node).outcomes
            }
            None => &mut self.nodes[node as usize].alone,
        };
        if success {
            counts.successes += 1;
            self.stats.success_edges += u64::from(previous.is_some());
        } else {
            counts.failures += 1;
            self.stats.failure_edges += 1;
        }
    }
}

impl Edge {
    fn weight(&self) -> u64 {
        self.outcomes.successes + self.outcomes.failures + self.workflows
    }
}

impl Places {
    fn set(&mut self, context: &str, place: Place) {
        if let Some(known) = self.of.get_mut(context) {
            *known = place;
            return;
        }
        // `order` may name runs that are over; each makes room for one.
        if self.order.len() >= MAX_CONTEXTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
        self.order.push_back(context.into());
        self.of.insert(context.into(), place);
    }
}

/// The program a command starts with: its first word that is no variable assignment.
fn program(command: &str) -> &str {
    command.split_whitespace().find(|word| !word.contains('=')).unwrap_or("")
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52, and these are estimates")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
