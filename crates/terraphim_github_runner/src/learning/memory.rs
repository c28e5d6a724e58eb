//! What a process learned since it began: the model of each repository, and where each run is.
//!
//! The coordinator and the graph of commands are fronts of this. They tell commands apart by their text: it is their
//! users who choose it. Everything else is the model that `tci run` keeps in the run store.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, LazyLock};

use chrono::Utc;

use super::command::CommandIdentity;
use super::coordinator::LearningStats;
use super::event::{CommandOutcome, LearningEvent};
use super::insight::{Thesaurus, related_among};
use super::knowledge_graph::CommandGraphStats;
use super::model::{Learned, LessonThreshold, MAX_COMMANDS, Model, Totals};
use super::signature::FailureSignature;

/// How many runs' last commands are remembered: more than run at the same time.
const MAX_CONTEXTS: usize = 10_000;
/// Repositories that are told apart; what happens in further ones is only counted.
const MAX_REPOSITORIES: usize = 10_000;
/// Commands of one program, and of one meaning, that are told as related; more than anybody asks for.
const MAX_KIN: usize = 256;
/// Predecessors that a failure is shared out among.
const MAX_PREDECESSORS: usize = 10_000;

static MEANINGS: LazyLock<Thesaurus> = LazyLock::new(Thesaurus::built_in);

/// A command that ended, as the fronts hear of it.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    /// `owner/name`; empty for whoever knows of none.
    pub(super) repository: &'a str,
    /// The run.
    pub(super) context: &'a str,
    pub(super) command: &'a str,
    /// The command before it, when it is named; otherwise it is the last of the run.
    pub(super) after: Option<&'a str>,
    pub(super) duration_ms: u64,
    /// Empty when unknown.
    pub(super) commit: &'a str,
    /// Empty when unknown.
    pub(super) environment: &'a str,
    /// Of a failure; a success has none.
    pub(super) failure: Option<FailureSignature>,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    models: HashMap<Box<str>, Model>,
    shared: Model,
    /// Every command that was named, with what it is.
    commands: HashMap<Box<str>, Arc<CommandIdentity>>,
    by_tool: HashMap<Box<str>, Vec<Arc<CommandIdentity>>>,
    /// By the number of the meaning.
    by_meaning: HashMap<u64, Vec<Arc<CommandIdentity>>>,
    places: Places,
    graph: CommandGraphStats,
    stats: LearningStats,
    lesson_threshold: LessonThreshold,
}

/// Where each run is.
#[derive(Debug, Default)]
struct Places {
    of: HashMap<Box<str>, Place>,
    order: VecDeque<Box<str>>,
}

#[derive(Clone, Debug)]
struct Place {
    before: Option<Arc<CommandIdentity>>,
    last: Arc<CommandIdentity>,
}

impl Memory {
    pub(super) fn record(&mut self, told: Told<'_>) -> Learned {
        let command = self.identity(told.command);
        let before = match told.after {
            Some(first) => Some(self.identity(first)),
            None => self.places.before(told.context, &command),
        };
        let place = Place { before: before.clone(), last: Arc::clone(&command) };
        self.places.set(told.context, place);
        let success = told.failure.is_none();
        if success {
            self.stats.total_successes += 1;
            self.graph.success_edges += u64::from(before.is_some());
        } else {
            self.stats.total_failures += 1;
            self.graph.failure_edges += 1;
        }
        if !self.models.contains_key(told.repository) && self.models.len() >= MAX_REPOSITORIES {
            return Learned::default();
        }
        let model = model_of(&mut self.models, told.repository, self.lesson_threshold);
        let previous = match before {
            Some(before) => before.canonical.clone(),
            None if success => String::new(),
            None => usual_predecessor(model, &command.canonical),
        };
        let before = model.totals();
        let learned = model.apply_as(Some(&mut self.shared), &command, &event(told, previous));
        self.stats.add(before, model.totals());
        learned
    }

    /// Notes that these commands are one workflow, and that its run is over. Their order counts unless it was heard of
    /// while they ran.
    pub(super) fn workflow(&mut self, repository: &str, commands: &[String], context: &str) {
        let commands: Vec<_> = commands.iter().map(|command| self.identity(command)).collect();
        let was_heard = self.places.of.remove(context).is_some();
        self.graph.workflow_edges += commands.len().saturating_sub(1) as u64;
        if was_heard || (!self.models.contains_key(repository) && self.models.len() >= MAX_REPOSITORIES) {
            return;
        }
        let model = model_of(&mut self.models, repository, self.lesson_threshold);
        for pair in commands.windows(2) {
            model.note_order(&pair[0].canonical, &pair[1].canonical);
        }
    }

    /// 0.5 when no outcome of `second` is known; of several repositories the one that saw it most often counts.
    pub(super) fn predict(&self, first: &str, second: &str) -> f64 {
        let (first, second) = (self.find(first), self.find(second));
        let runs = |model: &Model| model.command(&second.canonical).map_or(0, |fact| fact.runs());
        match self.models.values().filter(|model| runs(model) > 0).max_by_key(|model| runs(model)) {
            Some(model) => {
                let now_ms = Utc::now().timestamp_millis();
                model.predict(Some(&self.shared), &second, &first.canonical, now_ms).probability
            }
            None => 0.5,
        }
    }

    /// The closest commands first, then others of the same program.
    pub(super) fn related(&self, command: &str, limit: usize) -> Vec<String> {
        let command = self.find(command);
        let meanings = MEANINGS.concepts(&command.canonical);
        let alike = meanings.iter().filter_map(|meaning| self.by_meaning.get(&meaning.id)).flatten();
        let alike: BTreeSet<&str> = alike.map(|one| one.canonical.as_str()).collect();
        let mut found = Vec::new();
        for model in self.models.values() {
            let alike = alike.iter().copied();
            found.extend(related_among(model, &MEANINGS, alike, &command.canonical, limit));
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.command.cmp(&b.command)));
        let kin = self.by_tool.get(command.tool.as_str()).into_iter().flatten();
        let mut kin: Vec<&str> = kin.map(|one| one.canonical.as_str()).collect();
        kin.sort_unstable();
        let mut names: Vec<String> = Vec::new();
        for name in found.iter().map(|one| one.command.as_str()).chain(kin) {
            if names.len() >= limit {
                break;
            }
            if name != command.canonical && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The reasons for which a command failed, the most frequent first.
    pub(super) fn reasons(&self, command: &str) -> Vec<(String, u64)> {
        let command = self.find(command);
        let facts = self.models.values().filter_map(|model| model.command(&command.canonical));
        let mut found: Vec<(String, u64)> = Vec::new();
        for reason in facts.flat_map(|fact| &fact.reasons) {
            match found.iter_mut().find(|(text, _)| *text == reason.text) {
                Some((_, count)) => *count += reason.count,
                None => found.push((reason.text.clone(), reason.count)),
            }
        }
        found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found
    }

    pub(super) fn model(&self, repository: &str) -> Option<&Model> {
        self.models.get(repository)
    }

    pub(super) fn stats(&self) -> LearningStats {
        self.stats
    }

    pub(super) fn lesson_threshold(&self) -> LessonThreshold {
        self.lesson_threshold
    }

    /// Also of what was learned before.
    pub(super) fn set_lesson_threshold(&mut self, threshold: LessonThreshold) {
        self.lesson_threshold = threshold;
        self.models.values_mut().for_each(|model| model.set_lesson_threshold(threshold));
        let lessons: u64 = self.models.values().map(|model| model.totals().lessons).sum();
        self.stats.lessons_created = usize::try_from(lessons).unwrap_or(usize::MAX);
    }

    pub(super) fn graph_stats(&self) -> CommandGraphStats {
        CommandGraphStats { unique_commands: self.commands.len(), ..self.graph }
    }

    pub(super) fn has(&self, command: &str) -> bool {
        self.commands.contains_key(command.trim())
    }

    fn find(&self, command: &str) -> Arc<CommandIdentity> {
        let known = self.commands.get(command.trim()).cloned();
        known.unwrap_or_else(|| Arc::new(CommandIdentity::as_written(command)))
    }

    /// What a command is; remembered, because runs repeat their commands.
    fn identity(&mut self, command: &str) -> Arc<CommandIdentity> {
        let identity = self.find(command);
        if self.commands.len() < MAX_COMMANDS as usize && !self.has(command) {
            self.commands.insert(command.trim().into(), Arc::clone(&identity));
            remember(self.by_tool.entry(identity.tool.as_str().into()).or_default(), &identity);
            for meaning in MEANINGS.concepts(&identity.canonical) {
                remember(self.by_meaning.entry(meaning.id).or_default(), &identity);
            }
        }
        identity
    }
}

/// The model of a repository, made when it is new.
fn model_of<'a>(
    models: &'a mut HashMap<Box<str>, Model>,
    repository: &str,
    threshold: LessonThreshold,
) -> &'a mut Model {
    models.entry(repository.into()).or_insert_with(|| {
        let mut model = Model::new();
        model.set_lesson_threshold(threshold);
        model
    })
}

impl LearningStats {
    /// Adds what one event changed in a model.
    fn add(&mut self, before: Totals, after: Totals) {
        let grown = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        self.unique_failure_patterns += grown(after.failure_patterns, before.failure_patterns);
        self.unique_success_patterns += grown(after.success_patterns, before.success_patterns);
        self.lessons_created += grown(after.lessons, before.lessons);
    }
}

impl Places {
    /// The command that comes before `command` in a run. One that follows itself is another attempt: it has the same
    /// predecessor.
    fn before(&self, context: &str, command: &Arc<CommandIdentity>) -> Option<Arc<CommandIdentity>> {
        let place = self.of.get(context)?;
        if place.last == *command { place.before.clone() } else { Some(Arc::clone(&place.last)) }
    }

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

/// The command before a failure of which nobody said what came before it: failures are shared out among the known
/// predecessors by how often each was seen.
fn usual_predecessor(model: &Model, canonical: &str) -> String {
    let failures = model.command(canonical).map_or(0, |fact| fact.failures);
    let known = || model.sequences().before(canonical).take(MAX_PREDECESSORS);
    let total: u64 = known().map(|one| one.times).sum();
    let mut at = spread(failures, total);
    for one in known() {
        if at < one.times {
            return one.command.to_owned();
        }
        at -= one.times;
    }
    String::new()
}

fn remember(kin: &mut Vec<Arc<CommandIdentity>>, command: &Arc<CommandIdentity>) {
    if kin.len() < MAX_KIN {
        kin.push(Arc::clone(command));
    }
}

/// The multiples of the golden ratio fill `0..range` evenly, however many there are (Knuth, The Art of Computer
/// Programming, volume 3, 6.4).
fn spread(n: u64, range: u64) -> u64 {
    let fraction = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let scaled = (u128::from(fraction) * u128::from(range)) >> 64;
    u64::try_from(scaled).expect("a part of a u64")
}

fn event(told: Told<'_>, previous: String) -> LearningEvent {
    let outcome = if told.failure.is_none() { CommandOutcome::Success } else { CommandOutcome::Failure };
    LearningEvent {
        previous,
        duration_ms: told.duration_ms,
        signature: told.failure,
        commit: told.commit.to_owned(),
        environment: told.environment.to_owned(),
        at_ms: Utc::now().timestamp_millis(),
        ..LearningEvent::of_command(told.repository, told.context, told.command, outcome)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
