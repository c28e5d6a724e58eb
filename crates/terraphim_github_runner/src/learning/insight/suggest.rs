//! What could be better, with what it would save as it was measured.

use std::fmt;

use serde::Serialize;

use super::current::Current;
use super::{about, order, percent};
use crate::learning::lesson::{OptimizationType, WorkflowOptimization};
use crate::learning::model::{CommandFact, Model, StabilityClass, classify, real};

/// With fewer runs nothing is suggested.
pub(super) const NEEDED_RUNS: u64 = 10;
/// With fewer runs, or a smaller share of failures, a command is not said to fail often.
const OFTEN_RUNS: u64 = 5;
const OFTEN_SHARE: f64 = 0.2;
/// A command that is faster is not worth a cache or a VM of its own.
pub(super) const SLOW_MS: u64 = 30_000;
/// A time limit below this is never too long.
const LONG_LIMIT_MS: u64 = 10 * 60_000;
/// A limit this many times the longest run is far too long.
const LIMIT_FACTOR: u64 = 10;
/// So many compared runs say something about a leg: with none that differs, at most 3 / 20 do (rule of three).
const NEEDED_COMPARISONS: u64 = 20;
/// More advice than this is not read.
const MAX_SUGGESTIONS: usize = 20;

/// What to keep between runs, by the beginning of the subcommand.
const CACHES: [(&str, &str, &str); 16] = [
    ("cargo ", "~/.cargo/registry, ~/.cargo/git and target", "Cargo.lock"),
    ("npm ci", "~/.npm", "package-lock.json"),
    ("npm install", "~/.npm", "package-lock.json"),
    ("yarn install", "~/.cache/yarn", "yarn.lock"),
    ("pnpm install", "~/.local/share/pnpm/store", "pnpm-lock.yaml"),
    ("pip install", "~/.cache/pip", "requirements.txt"),
    ("poetry install", "~/.cache/pypoetry", "poetry.lock"),
    ("uv ", "~/.cache/uv", "uv.lock"),
    ("go build", "~/.cache/go-build and ~/go/pkg/mod", "go.sum"),
    ("go test", "~/.cache/go-build and ~/go/pkg/mod", "go.sum"),
    ("go mod", "~/go/pkg/mod", "go.sum"),
    ("mvn ", "~/.m2/repository", "pom.xml"),
    ("gradle ", "~/.gradle/caches", "the build files"),
    ("bundle install", "vendor/bundle", "Gemfile.lock"),
    ("composer install", "~/.cache/composer", "composer.lock"),
    ("apt-get install", "/var/cache/apt, or an image that has these packages", "the list of packages"),
];

/// Something that could be better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// What kind of change.
    pub kind: OptimizationType,
    /// What to do.
    pub text: String,
    /// What it would save in a run on average, in milliseconds, as measured; absent when it saves trouble, not time.
    pub saving_ms: Option<u64>,
    /// What it is concluded from.
    pub evidence: String,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// The command it is about, by its canonical form.
    pub command: Option<String>,
    /// Of steps that can run side by side: those of each job, by their canonical forms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Vec<String>>,
}

/// What could be better, the largest saving first.
#[must_use]
pub fn suggestions(model: &Model) -> Vec<Suggestion> {
    let mut found = Vec::new();
    for (canonical, fact) in Current::of(model).commands() {
        found.extend([cache(canonical, fact), retry(canonical, fact)].into_iter().flatten());
        found.extend([time_limit(canonical, fact), failing(canonical, fact)].into_iter().flatten());
    }
    found.extend(order::suggestions(model));
    found.extend(legs(model));
    found.sort_by(|a, b| b.saving_ms.cmp(&a.saving_ms).then_with(|| a.text.cmp(&b.text)));
    found.truncate(MAX_SUGGESTIONS);
    found
}

fn cache(canonical: &str, fact: &CommandFact) -> Option<Suggestion> {
    let (_, path, key) =
        CACHES.iter().find(|(start, _, _)| format!("{} ", fact.subcommand).starts_with(start))?;
    let (median, fastest) = (fact.durations.median()?, fact.durations.quantile(0.1)?);
    if fact.successes < NEEDED_RUNS || median < SLOW_MS {
        return None;
    }
    // Runs that were fast at times show what a warm cache gives.
    let saving = (fastest * 10 <= median * 6).then(|| median - fastest);
    let seen = match saving {
        Some(_) => format!("its fastest runs take {}", about(fastest)),
        None => "what a warm cache saves has not been seen yet".to_owned(),
    };
    Some(Suggestion {
        kind: OptimizationType::CacheOperation,
        text: format!("cache {path} by {key} for `{}`", fact.example),
        saving_ms: saving,
        evidence: format!("it takes {} (median of {} runs); {seen}", about(median), fact.durations.len()),
        confidence: confidence(fact.successes),
        command: Some(canonical.to_owned()),
        groups: Vec::new(),
    })
}

/// What fails often, and what never succeeded has its lessons.
fn failing(canonical: &str, fact: &CommandFact) -> Option<Suggestion> {
    if fact.successes == 0 || fact.runs() < OFTEN_RUNS || fact.failure_share() < OFTEN_SHARE {
        return None;
    }
    Some(Suggestion {
        kind: OptimizationType::AvoidFailurePattern,
        text: format!(
            "`{}` failed in {} of {} runs: run it early, or find out why",
            fact.example,
            fact.failures,
            fact.runs()
        ),
        saving_ms: None,
        evidence: format!("{} of its runs fail", percent(fact.failure_share())),
        confidence: confidence(fact.runs()),
        command: Some(canonical.to_owned()),
        groups: Vec::new(),
    })
}

/// How it is known that running a command again helps, when it is flaky or the infrastructure fails it, and two
/// repetitions or more show it.
#[must_use]
pub fn repetition_helps(fact: &CommandFact) -> Option<String> {
    // Before the class is asked for, which takes a hundred times as long.
    if fact.retries < 2 || fact.cured * 2 < fact.retries {
        return None;
    }
    let verdict = classify(&fact.history);
    let why = match verdict.class {
        StabilityClass::Flaky => "it is flaky",
        StabilityClass::Infrastructure => "the infrastructure makes it fail",
        _ => return None,
    };
    let rate = percent(verdict.failure_rate);
    Some(format!("{why} ({rate} of runs); {} of {} repetitions succeeded", fact.cured, fact.retries))
}

fn retry(canonical: &str, fact: &CommandFact) -> Option<Suggestion> {
    let evidence = repetition_helps(fact).filter(|_| fact.runs() + fact.faults >= NEEDED_RUNS)?;
    Some(Suggestion {
        kind: OptimizationType::Retry,
        text: format!("retry `{}` when it fails, and look into why", fact.example),
        saving_ms: None,
        evidence,
        confidence: real(fact.cured) / real(fact.retries + 1),
        command: Some(canonical.to_owned()),
        groups: Vec::new(),
    })
}

fn time_limit(canonical: &str, fact: &CommandFact) -> Option<Suggestion> {
    let (limit, longest) = (fact.limit_ms?, fact.durations.max()?);
    if fact.successes < NEEDED_RUNS {
        return None;
    }
    let evidence = format!(
        "the longest of {} runs took {}, the limit is {}",
        fact.durations.len(),
        about(longest),
        about(limit)
    );
    let (text, saving_ms) = if limit >= LONG_LIMIT_MS && limit / LIMIT_FACTOR > longest {
        let enough = (longest * 3).max(60_000).div_ceil(60_000);
        (
            format!(
                "lower the time limit of `{}` to {enough} min: a run that hangs ends sooner",
                fact.example
            ),
            None,
        )
    } else if longest * 10 > limit * 8 {
        (format!("raise the time limit of `{}`: runs come close to it", fact.example), None)
    } else {
        return None;
    };
    let (kind, command) = (OptimizationType::AdjustTimeout, Some(canonical.to_owned()));
    let (confidence, groups) = (confidence(fact.successes), Vec::new());
    Some(Suggestion { kind, text, saving_ms, evidence, confidence, command, groups })
}

/// Legs of a matrix that never ended unlike all others.
fn legs(model: &Model) -> Vec<Suggestion> {
    let mut found = Vec::new();
    for (workflow, job, fact) in model.jobs().filter(|(_, _, fact)| fact.compared >= NEEDED_COMPARISONS) {
        let never = fact.durations.iter().filter(|(leg, _)| fact.differing.get(*leg).is_none_or(|n| *n == 0));
        let never: Vec<_> = never.collect();
        // Of legs that are all alike one has to stay.
        for (leg, durations) in never.into_iter().skip(usize::from(fact.differing.is_empty())) {
            found.push(Suggestion {
                kind: OptimizationType::ReduceMatrix,
                text: format!(
                    "leg {leg} of the matrix of job {job} in {workflow} never differs: run it nightly only"
                ),
                saving_ms: durations.median(),
                evidence: format!(
                    "in {} runs it always ended like another leg; it differs in at most {} of runs (95 %)",
                    fact.compared,
                    percent(3.0 / real(fact.compared))
                ),
                confidence: 1.0 - 3.0 / real(fact.compared),
                command: None,
                groups: Vec::new(),
            });
        }
    }
    found
}

/// How sure one can be after so many observations: 0.9 after 9.
pub(super) fn confidence(observations: u64) -> f64 {
    real(observations) / (real(observations) + 1.0)
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(saving) = self.saving_ms {
            write!(f, ": saves about {}", about(saving))?;
        }
        write!(f, " ({})", self.evidence)
    }
}

impl From<Suggestion> for WorkflowOptimization {
    fn from(suggestion: Suggestion) -> WorkflowOptimization {
        let saving =
            suggestion.saving_ms.map(|ms| format!("saves about {}; ", about(ms))).unwrap_or_default();
        WorkflowOptimization {
            optimization_type: suggestion.kind,
            description: suggestion.text,
            confidence: suggestion.confidence,
            expected_improvement: Some(format!("{saving}{}", suggestion.evidence)),
            related_command: suggestion.command,
        }
    }
}
