//! How probable a success is: counts with decay at several levels, each a prior for the next, and a mixture of a slow
//! and a fast memory. docs/learning.md has the formulas and their sources.

use serde::{Deserialize, Serialize};

use super::Model;
use super::table::bits;
use crate::learning::command::{CommandIdentity, short_hash};

/// After this long an outcome counts half: teams and machines change within weeks.
const HALF_LIFE_MS: f64 = 30.0 * 24.0 * 3600.0 * 1000.0;
/// The slow memory weighs this many outcomes at most.
const SLOW_OUTCOMES: f64 = 150.0;
/// The fast memory weighs this many: a command that broke is seen to be broken after a few runs.
const FAST_OUTCOMES: f64 = 5.0;
/// How many outcomes the level above is worth.
const PRIOR_OUTCOMES: f64 = 4.0;
/// How many outcomes the slow memory is worth to the fast one.
const FAST_PRIOR_OUTCOMES: f64 = 1.0;
/// How much better the fast memory has to have predicted (in nats) to weigh as much as the slow one.
const FAST_HANDICAP: f64 = 1.0;
/// What is remembered about which memory predicted better: about this many outcomes.
const TRUST_OUTCOMES: f64 = 40.0;
/// 1.96: two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_964;

/// Outcomes of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Successes ever.
    #[serde(rename = "s")]
    pub successes: u64,
    /// Failures ever.
    #[serde(rename = "f")]
    pub failures: u64,
    #[serde(rename = "a", with = "bits")]
    slow_successes: f64,
    #[serde(rename = "b", with = "bits")]
    slow_failures: f64,
    #[serde(rename = "c", with = "bits")]
    fast_successes: f64,
    #[serde(rename = "d", with = "bits")]
    fast_failures: f64,
    /// How much better the fast memory predicted lately, in nats.
    #[serde(rename = "e", with = "bits")]
    advantage: f64,
    #[serde(rename = "t")]
    at_ms: i64,
}

/// What one level estimates.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    slow: f64,
    fast: f64,
    mixed: f64,
    /// Outcomes that the slow memory weighs.
    outcomes: f64,
}

impl Rate {
    fn age(&self, now_ms: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "ages are far below 2^52 ms")]
        let age = now_ms.saturating_sub(self.at_ms).max(0) as f64;
        (-age / HALF_LIFE_MS).exp2()
    }

    fn estimate(&self, prior: f64, now_ms: i64) -> Estimate {
        let age = self.age(now_ms);
        let (s, f) = (self.slow_successes * age, self.slow_failures * age);
        let slow = (s + PRIOR_OUTCOMES * prior) / (s + f + PRIOR_OUTCOMES);
        let (fs, ff) = (self.fast_successes * age, self.fast_failures * age);
        let fast = (fs + FAST_PRIOR_OUTCOMES * slow) / (fs + ff + FAST_PRIOR_OUTCOMES);
        let trust = 1.0 / (1.0 + (FAST_HANDICAP - self.advantage).exp());
        Estimate { slow, fast, mixed: trust * fast + (1.0 - trust) * slow, outcomes: s + f }
    }

    fn observe(&mut self, success: bool, estimate: Estimate, at_ms: i64) {
        let age = self.age(at_ms);
        let gain = |p: f64| if success { p.max(1e-6).ln() } else { (1.0 - p).max(1e-6).ln() };
        self.advantage *= 1.0 - 1.0 / TRUST_OUTCOMES;
        self.advantage += gain(estimate.fast) - gain(estimate.slow);
        let slow = age * (1.0 - 1.0 / SLOW_OUTCOMES);
        let fast = age * (1.0 - 1.0 / FAST_OUTCOMES);
        self.slow_successes *= slow;
        self.slow_failures *= slow;
        self.fast_successes *= fast;
        self.fast_failures *= fast;
        if success {
            self.successes += 1;
            self.slow_successes += 1.0;
            self.fast_successes += 1.0;
        } else {
            self.failures += 1;
            self.slow_failures += 1.0;
            self.fast_failures += 1.0;
        }
        // Events of several machines may come out of order; time does not go back.
        self.at_ms = self.at_ms.max(at_ms);
    }

    /// How many outcomes there were.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.successes + self.failures
    }

    /// The share of failures among all outcomes, from 0 to 1; 0 when there were none.
    #[must_use]
    pub fn failure_share(&self) -> f64 {
        if self.runs() == 0 { 0.0 } else { real(self.failures) / real(self.runs()) }
    }
}

/// How much is known about what, from the most general to the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All commands of all repositories, or of this one when nothing is shared.
    All,
    /// The tool.
    Tool,
    /// Tools with their subcommands.
    Subcommand,
    /// The same in this repository.
    RepositorySubcommand,
    /// The canonical command in this repository.
    Command,
    /// The exact command in this repository.
    Exact,
    /// The canonical command after the one before it.
    Pair,
}

/// What one level contributed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which level.
    pub level: Level,
    /// Successes ever.
    pub successes: u64,
    /// Failures ever.
    pub failures: u64,
    /// The estimate down to this level.
    pub probability: f64,
}

/// How probable it is that a command succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// From 0 to 1; 0.5 when nothing is known.
    pub probability: f64,
    /// How many outcomes it is worth, with those of the levels above it.
    pub effective_n: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What each level contributed, the most general first; levels without outcomes are left out.
    pub evidence: Vec<Evidence>,
}

/// A key of a level, and whether it is in the model that all share.
struct Step {
    level: Level,
    key: String,
    is_shared: bool,
}

/// The levels of a command, the most general first.
fn steps(command: &CommandIdentity, previous: &str, has_shared: bool) -> Vec<Step> {
    let hashed = |kind: &str, text: &str| match has_shared {
        true => Step { level: Level::All, key: format!("{kind} {}", short_hash(text)), is_shared: true },
        false => Step { level: Level::All, key: format!("{kind} {text}"), is_shared: false },
    };
    let own = |level, key: String| Step { level, key, is_shared: false };
    let mut steps = vec![
        Step { key: "all".to_owned(), ..hashed("all", "") },
        Step { level: Level::Tool, ..hashed("tool", &command.tool) },
    ];
    if has_shared {
        steps.push(Step { level: Level::Subcommand, ..hashed("sub", &command.subcommand) });
    }
    steps.push(own(Level::RepositorySubcommand, format!("sub {}", command.subcommand)));
    steps.push(own(Level::Command, format!("command {}", command.canonical)));
    steps.push(own(Level::Exact, format!("exact {}", short_hash(&command.exact))));
    if !previous.is_empty() {
        steps.push(own(Level::Pair, pair_key(previous, &command.canonical)));
    }
    steps
}

/// What keys of pairs begin with.
pub(super) const PAIR: &str = "pair ";

fn pair_key(previous: &str, canonical: &str) -> String {
    format!("{PAIR}{}", super::key(previous, canonical))
}

/// How probable it is that a command succeeds after the command with the canonical form `previous` (empty for the
/// first one), as of `now_ms`.
pub(super) fn predict(
    own: &Model,
    shared: Option<&Model>,
    command: &CommandIdentity,
    previous: &str,
    now_ms: i64,
) -> Prediction {
    let (mut probability, mut outcomes, mut evidence) = (0.5, 0.0, Vec::new());
    let mut before = (0, 0);
    for step in steps(command, previous, shared.is_some()) {
        let model = if step.is_shared { shared.unwrap_or(own) } else { own };
        let Some(rate) = model.rates.get(&step.key) else { continue };
        let (successes, failures) = (rate.successes, rate.failures);
        // A level that saw the same outcomes as the one above knows nothing more; they must not count twice.
        if before != (successes, failures) {
            let estimate = rate.estimate(probability, now_ms);
            probability = estimate.mixed;
            // What the level above knows is worth the prior at most.
            outcomes = estimate.outcomes + f64::min(outcomes, PRIOR_OUTCOMES);
        }
        before = (successes, failures);
        evidence.push(Evidence { level: step.level, successes, failures, probability });
    }
    // What is known about others only is worth the prior at most.
    if !evidence.iter().any(|one: &Evidence| matches!(one.level, Level::Command | Level::Exact | Level::Pair))
    {
        outcomes = f64::min(outcomes, PRIOR_OUTCOMES);
    }
    let (low, high) = wilson(probability, outcomes);
    Prediction { probability, effective_n: outcomes, low, high, evidence }
}

/// Takes an outcome over into all levels.
pub(super) fn observe(
    own: &mut Model,
    mut shared: Option<&mut Model>,
    command: &CommandIdentity,
    previous: &str,
    success: bool,
    at_ms: i64,
) {
    let (mut prior, mut before) = (0.5, (0, 0));
    for step in steps(command, previous, shared.is_some()) {
        let model = match &mut shared {
            Some(shared) if step.is_shared => &mut **shared,
            _ => &mut *own,
        };
        let Some(rate) = model.rates.change(&step.key) else { continue };
        let estimate = rate.estimate(prior, at_ms);
        if before != (rate.successes, rate.failures) {
            prior = estimate.mixed;
        }
        before = (rate.successes, rate.failures);
        rate.observe(success, estimate, at_ms);
        if step.level == Level::Pair {
            own.sequences.add(previous, &command.canonical, 1);
        }
    }
}

/// Takes an outcome over into one rate that has no levels above it.
pub(super) fn observe_alone(model: &mut Model, key: &str, success: bool, at_ms: i64) {
    if let Some(rate) = model.rates.change(key) {
        let estimate = rate.estimate(0.5, at_ms);
        rate.observe(success, estimate, at_ms);
    }
}

/// The 95 % interval of a proportion `p` of `n` outcomes (Wilson, 1927); everything is possible when `n` is 0.
pub(in crate::learning) fn wilson(p: f64, n: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = Z * Z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52, and these are estimates")]
pub(in crate::learning) fn real(count: u64) -> f64 {
    count as f64
}
