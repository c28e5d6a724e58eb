//! Flaky, broken, or the infrastructure: what the last outcomes say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::{History, Observation};
use super::rate::{real, wilson};

/// A streak of failures that chance would give less often than this is no chance.
const CHANCE: f64 = 0.05;
/// The same when all failures of the streak have one signature.
const CHANCE_OF_SAME: f64 = 0.2;
/// The same for what was flaky before.
const CHANCE_OF_FLAKY: f64 = 0.01;
/// What ran so often elsewhere since it last ran in a place runs there no more. Fewer would forget jobs that rarely run.
const WITHOUT: usize = 11;

/// What kind of failures something has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "class")]
pub enum StabilityClass {
    /// It does not fail.
    Stable,
    /// It failed, too rarely to say why.
    Unknown,
    /// The same text of the same step fails and succeeds on one commit and environment.
    Flaky,
    /// It fails since a commit.
    Broken {
        /// The first commit that failed.
        since: String,
        /// When that was, in milliseconds since 1970.
        since_ms: i64,
        /// The last commit that succeeded, if it is known.
        last_good: Option<String>,
    },
    /// The machine or the network makes it fail.
    Infrastructure,
}

impl StabilityClass {
    /// The word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            StabilityClass::Stable => "stable",
            StabilityClass::Unknown => "unknown",
            StabilityClass::Flaky => "flaky",
            StabilityClass::Broken { .. } => "broken",
            StabilityClass::Infrastructure => "infrastructure",
        }
    }
}

/// A class with its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The class.
    #[serde(flatten)]
    pub class: StabilityClass,
    /// The share of failures among the last outcomes.
    pub failure_rate: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many outcomes were looked at.
    pub outcomes: usize,
    /// Why, for people.
    pub reason: String,
}

/// What the last outcomes say.
#[must_use]
pub fn classify(history: &History) -> Verdict {
    let all: Vec<&Observation> = history.observations().collect();
    let failures: Vec<&&Observation> = all.iter().filter(|one| !one.success).collect();
    let (n, failed) = (all.len(), failures.len());
    let rate = if n == 0 { 0.0 } else { real(failed as u64) / real(n as u64) };
    let (low, high) = wilson(rate, real(n as u64));
    let verdict = |class, reason| Verdict { class, failure_rate: rate, low, high, outcomes: n, reason };
    if failed == 0 {
        return verdict(StabilityClass::Stable, format!("no failure in the last {n} runs"));
    }
    if let Some((class, reason)) = places(&all).iter().find_map(|there| broken(there)) {
        return verdict(class, reason);
    }
    let infrastructure = failures.iter().filter(|one| one.is_infrastructure).count();
    let own = failed - infrastructure;
    let mixed = mixed(&all);
    if infrastructure > own {
        let reason = format!("{infrastructure} of {failed} failures were the machine's or the network's");
        return verdict(StabilityClass::Infrastructure, reason);
    }
    if mixed > 0 {
        let reason = format!("failed and succeeded on the same commit and environment, {}", times(mixed));
        return verdict(StabilityClass::Flaky, reason);
    }
    let runs = if n == 1 { "its only run".to_owned() } else { format!("{n} runs") };
    verdict(StabilityClass::Unknown, format!("failed {} in {runs}", times(failed)))
}

fn times(n: usize) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// The outcomes of each place where it still runs, first those of the place where it ended last: a leg of a matrix that
/// fails says nothing about the others.
fn places<'a>(all: &[&'a Observation]) -> Vec<Vec<&'a Observation>> {
    let mut places: Vec<Vec<&'a Observation>> = Vec::new();
    for &one in all.iter().rev() {
        let is_over = places.iter().any(|there| there.len() >= WITHOUT);
        match places.iter_mut().find(|there| there[0].place == one.place) {
            Some(there) => there.push(one),
            None if is_over => {}
            None => places.push(vec![one]),
        }
    }
    places.iter_mut().for_each(|there| there.reverse());
    places
}

/// Whether it fails in a place since a commit: its last outcomes are failures, more than its usual rate of failures
/// explains, and none of these commits ever succeeded.
fn broken(all: &[&Observation]) -> Option<(StabilityClass, String)> {
    let streak = all.iter().rev().take_while(|one| !one.success && !one.is_infrastructure).count();
    if streak < 2 {
        return None;
    }
    let (before, during) = all.split_at(all.len() - streak);
    let same = |a: &Observation, b: &Observation| a.commit == b.commit && a.environment == b.environment;
    if during
        .iter()
        .any(|bad| !bad.commit.is_empty() && before.iter().any(|good| good.success && same(good, bad)))
    {
        return None;
    }
    let failed_before = before.iter().filter(|one| !one.success && !one.is_infrastructure).count();
    let usual = (real(failed_before as u64) + 0.5) / (real(before.len() as u64) + 1.0);
    let by_chance = usual.powi(i32::try_from(streak).unwrap_or(i32::MAX));
    let has_one_cause = during.iter().all(|one| one.signature == during[0].signature);
    let threshold = match (mixed(before), has_one_cause) {
        (0, true) => CHANCE_OF_SAME,
        (0, false) => CHANCE,
        _ => CHANCE_OF_FLAKY,
    };
    // What never succeeded is broken from its beginning.
    let never = before.is_empty() && streak >= 3;
    if by_chance >= threshold && !never {
        return None;
    }
    let last_good = before.iter().rev().find(|one| one.success).map(|one| one.commit.clone());
    let reason = match &last_good {
        Some(_) => format!(
            "failed {streak} times in a row; chance would give that in {:.1} % of cases",
            by_chance * 100.0
        ),
        None => format!("failed all {streak} times"),
    };
    let first = during[0];
    let last_good = last_good.filter(|commit| !commit.is_empty());
    Some((StabilityClass::Broken { since: first.commit.clone(), since_ms: first.at_ms, last_good }, reason))
}

/// In how many circumstances there are a success and a failure that is not the infrastructure's.
fn mixed(all: &[&Observation]) -> usize {
    let mut seen: BTreeMap<[&str; 4], (bool, bool)> = BTreeMap::new();
    for one in all.iter().filter(|one| !one.is_infrastructure) {
        let Some(circumstances) = one.circumstances() else { continue };
        let (good, bad) = seen.entry(circumstances).or_default();
        *(if one.success { good } else { bad }) = true;
    }
    seen.values().filter(|(good, bad)| *good && *bad).count()
}
