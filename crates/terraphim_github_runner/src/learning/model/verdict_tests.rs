use std::collections::BTreeMap;

use super::tests::event;
use super::*;
use crate::learning::event::{CommandOutcome, LearningEvent};

/// Park and Miller's generator: enough for streams of outcomes, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed * 2_654_435_761 % 0x7fff_fffe + 1)
    }

    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        rate::real(self.0) / rate::real(0x7fff_ffff)
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }
}

fn observation(commit: u32, success: bool, is_infrastructure: bool, signature: &str) -> Observation {
    Observation {
        commit: format!("c{commit}"),
        environment: "debian".to_owned(),
        place: "build".to_owned(),
        script: "make".to_owned(),
        success,
        is_infrastructure,
        signature: if success { String::new() } else { signature.to_owned() },
        at_ms: i64::from(commit),
    }
}

/// A history whose class is known. People repeat a failed run on the same commit sometimes.
fn labelled(label: &str, random: &mut Random) -> History {
    let mut history = History::default();
    let (flakiness, outage) = (0.08 + 0.35 * random.uniform(), 0.1 + 0.2 * random.uniform());
    let breaks_at = (10..30).find(|_| random.chance(0.08)).unwrap_or(30);
    let mut commit = 0;
    for _ in 0..40 {
        commit += 1;
        let mut attempts = 1;
        while attempts > 0 {
            attempts -= 1;
            let (success, is_infrastructure, signature) = match label {
                "flaky" => (!random.chance(flakiness), false, "race"),
                "broken" => (commit < breaks_at, false, "bug"),
                "infrastructure" => (!random.chance(outage), true, "dns"),
                // Everybody breaks something now and then, and repairs it at once.
                _ => (true, false, ""),
            };
            history.add(observation(commit, success, !success && is_infrastructure, signature));
            if !success && random.chance(0.6) && attempts == 0 {
                attempts = i32::from(random.chance(0.8));
            }
        }
    }
    history
}

#[test]
fn precision_and_recall_on_labelled_histories() {
    let labels = ["stable", "flaky", "broken", "infrastructure"];
    let mut random = Random::new(7);
    let mut counts: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for _ in 0..500 {
        for label in labels {
            let verdict = classify(&labelled(label, &mut random));
            *counts.entry((label, verdict.class.name().to_owned())).or_default() += 1;
        }
    }
    let count = |label: &str, class: &str| {
        let of = |key: &&(&str, String)| {
            (label.is_empty() || key.0 == label) && (class.is_empty() || key.1 == class)
        };
        counts.iter().filter(|(key, _)| of(key)).map(|(_, n)| f64::from(*n)).sum::<f64>()
    };
    for label in labels {
        let right = count(label, label);
        let (precision, recall) = (right / count("", label), right / count(label, ""));
        println!("{label:>14}: precision {precision:.3}, recall {recall:.3}");
        assert!(precision > 0.95, "{label}: precision {precision} of {counts:?}");
        assert!(recall > 0.9, "{label}: recall {recall} of {counts:?}");
    }
}

#[test]
fn a_broken_command_names_its_commits() {
    let mut history = History::default();
    for commit in 0..10 {
        history.add(observation(commit, commit < 7, false, "bug"));
    }
    let verdict = classify(&history);
    let StabilityClass::Broken { since, last_good, .. } = &verdict.class else { panic!("{verdict:?}") };
    assert_eq!((since.as_str(), last_good.as_deref()), ("c7", Some("c6")));
    assert!(verdict.low < 0.3 && verdict.high > 0.3);
    history.add(observation(9, true, false, ""));
    assert_eq!(classify(&history).class, StabilityClass::Flaky, "the last commit also succeeded");
}

#[test]
fn one_failure_is_not_enough_to_tell() {
    let mut history = History::default();
    assert_eq!(classify(&history).class, StabilityClass::Stable);
    history.add(observation(0, true, false, ""));
    history.add(observation(1, false, false, "x"));
    assert_eq!(classify(&history).class, StabilityClass::Unknown);
}

/// What is told of the one command of these events, and how often it was repeated where it had failed.
fn told(events: &[LearningEvent]) -> (StabilityClass, u64) {
    let mut model = Model::new();
    for event in events {
        model.apply(None, event);
    }
    assert_eq!(model.commands().count(), 1);
    let (_, fact) = model.commands().next().unwrap();
    (classify(&fact.history).class, fact.retries)
}

fn in_job(job: &str, run: u32, command: &str, success: bool) -> LearningEvent {
    LearningEvent { job: job.to_owned(), ..event(run, command, "", success) }
}

#[test]
fn flaky_is_what_ends_otherwise_when_the_same_runs_again() {
    let again = |change: fn(&mut LearningEvent)| {
        let failed = event(1, "make -j 4", "", false);
        let mut succeeded =
            LearningEvent { outcome: CommandOutcome::Success, signature: None, ..failed.clone() };
        change(&mut succeeded);
        told(&[failed, succeeded])
    };
    assert_eq!(again(|_| {}), (StabilityClass::Flaky, 1));
    type Change = fn(&mut LearningEvent);
    let others: [(&str, Change); 8] = [
        ("workflow", |event| event.workflow = "other.yml".to_owned()),
        ("job", |event| event.job = "test".to_owned()),
        ("leg", |event| event.job = "build.2".to_owned()),
        ("step", |event| event.step = "In another directory".to_owned()),
        ("number", |event| event.number = 2),
        ("text with the same canonical form", |event| event.command = "make -j 8".to_owned()),
        ("commit", |event| event.commit = "c2".to_owned()),
        ("environment", |event| event.environment = "alpine".to_owned()),
    ];
    for (what, change) in others {
        assert_eq!(again(change), (StabilityClass::Unknown, 0), "another {what}");
    }
}

#[test]
fn a_leg_that_fails_makes_nothing_flaky_and_is_broken_by_itself() {
    let legs = |run: u32| [("test.0", true), ("test.1", run < 3), ("test.2", true)];
    let ended = |run: u32| legs(run).map(|(leg, success)| in_job(leg, run, "cargo test", success));
    let (class, retries) = told(&(0..6).flat_map(ended).collect::<Vec<_>>());
    let StabilityClass::Broken { since, last_good, .. } = class else { panic!("{class:?}") };
    assert_eq!((since.as_str(), last_good.as_deref(), retries), ("c3", Some("c2"), 0));
}

#[test]
fn what_is_one_command_by_its_masked_numbers_only_is_not_flaky() {
    let ended = |run: u32| [in_job("a", run, "exit 1", false), in_job("b", run, "exit 0", true)];
    assert_eq!(told(&ended(0)), (StabilityClass::Unknown, 0));
    let (class, retries) = told(&(0..6).flat_map(ended).collect::<Vec<_>>());
    assert!(matches!(class, StabilityClass::Broken { .. }) && retries == 0, "{class:?} {retries}");
}

#[test]
fn a_job_that_is_no_more_is_not_broken() {
    let mut events: Vec<LearningEvent> = (0..4).map(|run| in_job("old", run, "make", false)).collect();
    events.extend((4..14).map(|run| in_job("new", run, "make", true)));
    assert!(matches!(told(&events).0, StabilityClass::Broken { .. }));
    events.push(in_job("new", 14, "make", true));
    assert_eq!(told(&events).0, StabilityClass::Unknown);
}

/// A baseline of an earlier version does not say where anything ran.
#[test]
fn of_what_ran_in_an_unknown_place_nothing_is_flaky() {
    let old = r#"[{"c":"c1","e":"d","o":false,"s":"x","t":1},{"c":"c1","e":"d","o":true,"t":2}]"#;
    let history: History = serde_json::from_str(old).unwrap();
    assert_eq!(classify(&history).class, StabilityClass::Unknown);
}
