//! The gate: predictions on streams with known truth, each made before its outcome is known.

use super::tests::event;
use super::verdict_tests::Random;
use super::*;
use crate::learning::command::CommandIdentity;

/// Sums for the Brier score (Brier 1950: the mean squared error of a probability) and the expected calibration error
/// (Naeini et al. 2015: the mean distance between forecast and frequency, here in ten bins).
#[derive(Default)]
struct Score {
    squares: f64,
    n: f64,
    bins: [(f64, f64, f64); 10],
}

impl Score {
    fn add(&mut self, p: f64, success: bool) {
        let outcome = f64::from(u8::from(success));
        self.squares += (p - outcome).powi(2);
        self.n += 1.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "p is within 0..=1")]
        let bin = &mut self.bins[((p * 10.0) as usize).min(9)];
        *bin = (bin.0 + p, bin.1 + outcome, bin.2 + 1.0);
    }

    fn brier(&self) -> f64 {
        self.squares / self.n
    }

    fn ece(&self) -> f64 {
        self.bins.iter().map(|(p, outcome, _)| (p - outcome).abs()).sum::<f64>() / self.n
    }
}

/// How the probability of a success changes over a stream of `n` runs.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Stays.
    Stable,
    /// Breaks and is repaired, several times.
    Steps,
    /// Drifts from good to bad.
    Drift,
    /// Hundreds of commands that run a few times each.
    Sparse,
    /// Fails after one command and not after another.
    Pairs,
    /// Rare failures that come in groups.
    Bursts,
}

const SHAPES: [Shape; 6] =
    [Shape::Stable, Shape::Steps, Shape::Drift, Shape::Sparse, Shape::Pairs, Shape::Bursts];

struct Outcome {
    command: String,
    previous: &'static str,
    success: bool,
}

fn stream_of(shape: Shape, seed: u64) -> Vec<Outcome> {
    let mut random = Random::new(seed);
    let n = 300;
    let p = 0.3 + 0.69 * random.uniform();
    let mut in_burst = false;
    let tools = ["cargo test", "npm run lint", "make", "pytest", "go test"];
    let tool_p: Vec<f64> = (0..5).map(|_| 0.5 + 0.49 * random.uniform()).collect();
    (0..n)
        .map(|i| {
            let at = f64::from(i) / f64::from(n);
            let mut previous = "";
            let mut command =
                format!("{} --seed-{}", tools[(seed % 5) as usize], ["a", "b"][(i % 2) as usize]);
            let truth = match shape {
                Shape::Stable => p,
                Shape::Steps => {
                    if (at * 6.0).floor() % 2.0 == 0.0 {
                        0.96
                    } else {
                        0.06
                    }
                }
                Shape::Drift => 0.98 - 0.75 * at,
                Shape::Sparse => {
                    let tool = (i % 5) as usize;
                    command = format!("{} {}", tools[tool], word(i / 10 * 5 + i % 5));
                    tool_p[tool]
                }
                Shape::Pairs => {
                    previous = ["apt-get update", "docker pull"][(i % 2) as usize];
                    command = tools[(seed % 5) as usize].to_owned();
                    [0.95, 0.25][(i % 2) as usize]
                }
                Shape::Bursts => {
                    in_burst = random.chance(if in_burst { 0.75 } else { 0.04 });
                    if in_burst { 0.1 } else { 0.985 }
                }
            };
            Outcome { command, previous, success: random.chance(truth) }
        })
        .collect()
}

/// A word of letters for a number: numbers themselves are masked.
fn word(mut n: u32) -> String {
    let mut text = String::from("x");
    while n > 0 {
        text.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
        n /= 26;
    }
    text
}

/// The share of successes of the same pair so far; 0.5 before the first.
#[derive(Default)]
struct PlainRatio(std::collections::HashMap<(String, &'static str), (f64, f64)>);

impl PlainRatio {
    fn predict(&self, one: &Outcome) -> f64 {
        self.0.get(&(one.command.clone(), one.previous)).map_or(0.5, |(s, n)| s / n)
    }

    fn observe(&mut self, one: &Outcome) {
        let (s, n) = self.0.entry((one.command.clone(), one.previous)).or_default();
        *s += f64::from(u8::from(one.success));
        *n += 1.0;
    }
}

struct Scores {
    ours: Score,
    ratio: Score,
    half: Score,
}

fn evaluate(shape: Shape, seeds: std::ops::Range<u64>) -> Scores {
    let mut scores = Scores { ours: Score::default(), ratio: Score::default(), half: Score::default() };
    for seed in seeds {
        let (mut model, mut ratio) = (Model::new(), PlainRatio::default());
        for (i, one) in (0..).zip(stream_of(shape, seed)) {
            let event = event(i, &one.command, one.previous, one.success);
            let identity = CommandIdentity::of(&one.command);
            let p = model.predict(None, &identity, one.previous, event.at_ms).probability;
            scores.ours.add(p, one.success);
            scores.ratio.add(ratio.predict(&one), one.success);
            scores.half.add(0.5, one.success);
            model.apply(None, &event);
            ratio.observe(&one);
        }
    }
    scores
}

/// Every prediction is made before its outcome is known, and no constant of `rate` was fitted to these streams.
#[test]
fn predictions_beat_the_plain_ratio_and_even_odds_on_held_out_streams() {
    let mut all = [(0.0, 0.0); 3];
    println!("{:>8}  {:>22}  {:>22}  {:>22}", "", "ours", "plain ratio", "always 0.5");
    println!(
        "{:>8}  {:>10}  {:>10}  {:>10}  {:>10}  {:>10}  {:>10}",
        "shape", "Brier", "ECE", "Brier", "ECE", "Brier", "ECE"
    );
    for shape in SHAPES {
        let scores = evaluate(shape, 9000..9030);
        let rows = [&scores.ours, &scores.ratio, &scores.half].map(|score| (score.brier(), score.ece()));
        let text: Vec<String> =
            rows.iter().map(|(brier, ece)| format!("{brier:>10.4}  {ece:>10.4}")).collect();
        println!("{:>8}  {}", format!("{shape:?}").to_lowercase(), text.join("  "));
        for (sum, (brier, ece)) in all.iter_mut().zip(rows) {
            *sum = (sum.0 + brier / 6.0, sum.1 + ece / 6.0);
        }
        let [ours, ratio, half] = rows;
        // Where nothing changes the plain ratio is the best there is, but for its beginning.
        assert!(ours.0 < ratio.0 + 0.003, "{shape:?}: Brier {ours:?} against the ratio's {ratio:?}");
        assert!(ours.0 < half.0, "{shape:?}: Brier {ours:?} against {half:?}");
    }
    let [ours, ratio, half] = all;
    println!(
        "{:>8}  {:>10.4}  {:>10.4}  {:>10.4}  {:>10.4}  {:>10.4}  {:>10.4}",
        "mean", ours.0, ours.1, ratio.0, ratio.1, half.0, half.1
    );
    assert!(ours.0 < ratio.0 && ours.1 < ratio.1, "against the plain ratio");
    assert!(ours.0 < half.0 && ours.1 < half.1, "against always 0.5");
}
