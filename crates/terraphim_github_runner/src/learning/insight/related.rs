//! Commands that have to do with each other, and why.

use std::collections::HashMap;

use serde::Serialize;

use super::thesaurus::Thesaurus;
use crate::learning::command::CommandIdentity;
use crate::learning::model::{Model, real};

/// A pair that was seen less often may be chance.
const NEEDED: u64 = 2;

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

/// The commands closest to `command`: those that follow or precede it more often than chance, fail for the same
/// reasons, or mean the same.
///
/// The lift of a pair (Brin et al. 1997) is how many times as often it was seen as it would be if commands followed
/// each other by chance.
#[must_use]
pub fn related(model: &Model, thesaurus: &Thesaurus, command: &str, limit: usize) -> Vec<Related> {
    let canonical = CommandIdentity::of(command).canonical;
    let mut found: HashMap<&str, (f64, Vec<String>)> = HashMap::new();
    let mut add = |other, score: f64, reason: String| {
        let entry = found.entry(other).or_default();
        entry.0 += score;
        entry.1.push(reason);
    };
    let (mut total, mut out, mut into) = (0_u64, HashMap::<&str, u64>::new(), HashMap::<&str, u64>::new());
    for (previous, next, times) in model.pairs() {
        total += times;
        *out.entry(previous).or_default() += times;
        *into.entry(next).or_default() += times;
    }
    for (previous, next, times) in model.pairs().filter(|(_, _, times)| *times >= NEEDED) {
        let (other, word) = if previous == canonical {
            (next, "follows")
        } else if next == canonical {
            (previous, "precedes")
        } else {
            continue;
        };
        let lift = real(times) * real(total) / (real(out[previous]) * real(into[next]));
        // A pair seen twice is worth half of what one seen often is.
        let support = real(times) / (real(times) + 2.0);
        if other != canonical {
            add(
                other,
                lift.ln_1p() * support,
                format!("{word} it {times} times, {lift:.1} times as often as chance"),
            );
        }
    }
    if let Some(own) = model.command(&canonical) {
        for (other, fact) in model.commands().filter(|(other, _)| *other != canonical) {
            let shared =
                fact.reasons.iter().find(|reason| own.reasons.iter().any(|known| known.id == reason.id));
            if let Some(reason) = shared {
                add(other, 0.5, format!("fails for the same reason: {}", reason.text));
            }
        }
    }
    let meant = thesaurus.concepts(&canonical);
    for (other, _) in model.commands().filter(|(other, _)| *other != canonical) {
        for concept in thesaurus.concepts(other) {
            if meant.iter().any(|known| known.id == concept.id) {
                add(other, 0.4, format!("means the same: {}", concept.nterm));
            }
        }
    }
    let mut found: Vec<Related> = found
        .into_iter()
        .map(|(command, (score, reasons))| Related {
            command: command.to_owned(),
            example: model.command(command).map_or_else(|| command.to_owned(), |fact| fact.example.clone()),
            score,
            reasons,
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.command.cmp(&b.command)));
    found.truncate(limit);
    found
}
