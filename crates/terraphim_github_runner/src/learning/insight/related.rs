//! Commands that have to do with each other, and why.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::thesaurus::{Concept, Thesaurus};
use crate::learning::model::{FailureFact, Model, Neighbour, real};

/// Neighbours that are looked at: the answer comes within milliseconds, and the order of the first few hardly changes
/// with more.
const MAX_LOOKED_AT: usize = 10_000;
/// What the same reason for failing is worth, beside neighbours.
const SAME_REASON: f64 = 0.5;
/// What the same meaning is worth.
const SAME_MEANING: f64 = 0.4;

/// A command that has to do with another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Related {
    /// Its canonical form.
    pub command: String,
    /// Its first line, masked.
    pub example: String,
    /// The higher, the closer.
    pub score: f64,
    /// Why, for people.
    pub reasons: Vec<String>,
}

/// Why two commands have to do with each other. It is put into words for those only that are told.
enum Reason<'a> {
    Follows(Neighbour<'a>),
    Precedes(Neighbour<'a>),
    Fails(&'a FailureFact),
    Means(&'a Concept),
}

#[derive(Default)]
struct Found<'a> {
    score: f64,
    reasons: Vec<Reason<'a>>,
}

/// The commands closest to the one with this canonical form: those that follow or precede it more often than chance,
/// fail for the same reasons, or mean the same.
///
/// The lift of a pair (Brin et al. 1997) is how many times as often it was seen as it would be if commands followed
/// each other by chance.
#[must_use]
pub fn related(model: &Model, thesaurus: &Thesaurus, canonical: &str, limit: usize) -> Vec<Related> {
    let all = model.commands().map(|(other, _)| other);
    related_among(model, thesaurus, all, canonical, limit)
}

/// The same, when only `others` may mean the same.
pub(in crate::learning) fn related_among<'a>(
    model: &'a Model,
    thesaurus: &'a Thesaurus,
    others: impl Iterator<Item = &'a str>,
    canonical: &str,
    limit: usize,
) -> Vec<Related> {
    let mut found: HashMap<&str, Found<'_>> = HashMap::new();
    let mut add = |command, score: f64, reason| {
        if command != canonical {
            let entry = found.entry(command).or_default();
            entry.score += score;
            entry.reasons.push(reason);
        }
    };
    for one in model.sequences().after(canonical).take(MAX_LOOKED_AT) {
        add(one.command, of_pair(&one), Reason::Follows(one));
    }
    for one in model.sequences().before(canonical).take(MAX_LOOKED_AT) {
        add(one.command, of_pair(&one), Reason::Precedes(one));
    }
    let own = model.command(canonical).map_or(&[][..], |fact| &fact.reasons);
    if !own.is_empty() {
        for (other, fact) in model.commands() {
            let shared = fact.reasons.iter().find(|reason| own.iter().any(|known| known.id == reason.id));
            if let Some(reason) = shared {
                add(other, SAME_REASON, Reason::Fails(reason));
            }
        }
    }
    let meant = thesaurus.concepts(canonical);
    if !meant.is_empty() {
        for other in others {
            for concept in thesaurus.concepts(other) {
                if meant.iter().any(|known| known.id == concept.id) {
                    add(other, SAME_MEANING, Reason::Means(concept));
                }
            }
        }
    }
    let mut found: Vec<(&str, Found<'_>)> = found.into_iter().collect();
    let order = |a: &(&str, Found<'_>), b: &(&str, Found<'_>)| -> Ordering {
        b.1.score.total_cmp(&a.1.score).then_with(|| a.0.cmp(b.0))
    };
    if found.len() > limit {
        found.select_nth_unstable_by(limit, order);
        found.truncate(limit);
    }
    found.sort_by(order);
    let told = |(command, Found { score, reasons }): (&str, Found<'_>)| Related {
        command: command.to_owned(),
        example: model.command(command).map_or_else(|| command.to_owned(), |fact| fact.example.clone()),
        score,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    };
    found.into_iter().map(told).collect()
}

/// A pair counts by its lift, of which one occurrence more is as likely as chance: what was seen once is little
/// evidence, however rare its commands are.
fn of_pair(pair: &Neighbour<'_>) -> f64 {
    let lift = (real(pair.times) + 1.0) / (pair.by_chance + 1.0);
    // A pair seen twice is worth half of what one seen often is.
    let support = real(pair.times) / (real(pair.times) + 2.0);
    lift.ln_1p() * support
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |f: &mut fmt::Formatter<'_>, word, Neighbour { times, by_chance, .. }: &Neighbour<'_>| {
            let times_text = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            write!(f, "{word} it {times_text}, {:.1} times as often as chance", real(*times) / by_chance)
        };
        match self {
            Reason::Follows(one) => pair(f, "follows", one),
            Reason::Precedes(one) => pair(f, "precedes", one),
            Reason::Fails(reason) => write!(f, "fails for the same reason: {}", reason.text),
            Reason::Means(concept) => write!(f, "means the same: {}", concept.nterm),
        }
    }
}
