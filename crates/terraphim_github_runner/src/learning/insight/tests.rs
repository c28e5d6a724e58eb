use std::path::Path;

use super::*;
use crate::learning::event::{CommandOutcome, EventKind, LearningEvent};
use crate::learning::lesson::OptimizationType;
use crate::learning::model::LessonState;
use crate::learning::signature::FailureSignature;

/// A step of the job `build`.
fn step(run: u32, number: i64, command: &str, success: bool) -> LearningEvent {
    let outcome = if success { CommandOutcome::Success } else { CommandOutcome::Failure };
    LearningEvent {
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        number,
        duration_ms: 60_000,
        signature: (!success).then(|| FailureSignature::of("error: lost connection 12")),
        commit: format!("c{run:02}0123456789"),
        environment: "debian".to_owned(),
        output_lines: 10,
        at_ms: i64::from(run) * 3_600_000,
        ..LearningEvent::of_command("octo/a", &run.to_string(), command, outcome)
    }
}

fn run(run: u32, duration_ms: u64) -> LearningEvent {
    LearningEvent { kind: EventKind::Run, job: String::new(), duration_ms, ..step(run, 0, "", true) }
}

#[test]
fn the_line_before_a_run() {
    let mut model = Model::new();
    assert!(Forecast::of(&model, "ci.yml", &[]).is_empty());
    for n in 0..20_u32 {
        let in_parser = n.is_multiple_of(2);
        // Three of ten runs that touch the parser fail, none of the others.
        let mut one = step(n, 2, "cargo test", !(in_parser && [0, 6, 14].contains(&n)));
        one.changed = vec![if in_parser { "src/parser/a.rs" } else { "docs/a.md" }.to_owned()];
        model.apply(None, &one);
        model.apply(None, &run(n, 240_000));
    }
    let told = |model: &Model, path: &str| Forecast::of(model, "ci.yml", &[path.to_owned()]).to_string();
    let of = |path: &str| told(&model, path);
    assert_eq!(
        of("src/parser/b.rs"),
        "about 4 min; `cargo test` fails in 30 % of runs that touch `src/parser`"
    );
    assert_eq!(of("docs/b.md"), "about 4 min; `cargo test` fails in 15 % of runs");
    assert_eq!(Forecast::of(&model, "other.yml", &[]), Forecast::default());
    // Three runs are few, but not when all failed for the same reason.
    for n in 20..23 {
        model.apply(None, &step(n, 3, "make deliver", false));
        model.apply(None, &step(n, 4, "make other", n > 20));
    }
    let few = told(&model, "docs/b.md");
    assert!(few.starts_with("about 4 min; `make deliver` fails in 100 % of runs; `cargo"), "{few}");
}

#[test]
fn lessons_are_told_with_their_evidence() {
    let mut model = Model::new();
    model.apply(None, &step(0, 1, "make -j 4", true));
    for n in 1..4 {
        let changed = vec!["src/net.rs".to_owned()];
        model.apply(None, &LearningEvent { changed, ..step(n, 1, "make -j 4", false) });
    }
    let told: Vec<String> = lessons(&model).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "`make -j #` fails with \"error: lost connection #\" (other): 3 times, last in run 3; since c010123456 \
          (last good c000123456), which changed src/net.rs; look for the cause in the log"
        ]
    );
    let unstable: Vec<String> = unstable(&model).iter().map(ToString::to_string).collect();
    assert!(
        unstable[0]
            .starts_with("`make -j #` is broken since c010123456 (last good c000123456): fails in 75 %"),
        "{unstable:?}"
    );
}

#[test]
fn flaky_tests_are_named() {
    let mut model = Model::new();
    for n in 0..10 {
        let failed = n % 4 == 1;
        let mut one = LearningEvent { commit: format!("c{}", n / 2), ..step(n, 1, "cargo test", !failed) };
        let names = vec!["net::reconnects".to_owned()];
        if failed {
            one.tests.failed = names
        } else if n > 1 {
            one.tests.recovered = names
        }
        model.apply(None, &one);
    }
    let told = unstable(&model).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.contains("test net::reconnects of `cargo test` is flaky"), "{told}");
}

fn kinds(model: &Model) -> Vec<(OptimizationType, String)> {
    suggestions(model).into_iter().map(|one| (one.kind, one.to_string())).collect()
}

#[test]
fn suggestions_have_a_measured_saving_and_their_evidence() {
    let mut model = Model::new();
    for n in 0..20_u32 {
        // A cold build takes 60 s, a warm one 20 s.
        let duration_ms = if n.is_multiple_of(5) { 20_000 } else { 60_000 };
        model.apply(
            None,
            &LearningEvent { duration_ms, limit_ms: Some(3_600_000), ..step(n, 1, "npm ci", true) },
        );
        model.apply(None, &step(n, 2, "cargo test", true));
        model.apply(
            None,
            &LearningEvent { duration_ms: 5_000, ..step(n, 3, "cargo fmt --check", !n.is_multiple_of(4)) },
        );
        model.apply(None, &step(n, 4, "cargo clippy", true));
        for leg in 0..2 {
            let job = format!("test.{leg}");
            model.apply(
                None,
                &LearningEvent { kind: EventKind::Job, job, ..step(n, 0, "", !n.is_multiple_of(3)) },
            );
        }
        let job = "test.2".to_owned();
        let odd = step(n, 0, "", n.is_multiple_of(3) == n.is_multiple_of(2));
        model.apply(None, &LearningEvent { kind: EventKind::Job, job, ..odd });
    }
    for leg in ["test.0", "test.1"] {
        for n in 20..24 {
            model.apply(
                None,
                &LearningEvent { kind: EventKind::Job, job: leg.to_owned(), ..step(n, 0, "", true) },
            );
        }
    }
    let found = kinds(&model);
    let has = |kind, text: &str| found.iter().any(|(of, told)| *of == kind && told.contains(text));
    assert!(
        has(
            OptimizationType::CacheOperation,
            "cache ~/.npm by package-lock.json for `npm ci`: saves about 40 s"
        ),
        "{found:#?}"
    );
    assert!(
        has(
            OptimizationType::RunEarlier,
            "run `cargo fmt --check` before `npm ci` in job build: saves about 30 s (it fails in 25 % of 20 runs, after \
             2 min of steps that it does not need)"
        ),
        "{found:#?}"
    );
    assert!(
        has(
            OptimizationType::RunInParallel,
            "take `cargo test` and `cargo clippy` out of job build as jobs of their own: saves about 2 min (none needs \
             what another makes; side by side they take 65 s rather than 3 min (medians of 20 runs or more))"
        ),
        "{found:#?}"
    );
    assert!(has(OptimizationType::AdjustTimeout, "lower the time limit of `npm ci` to 3 min"), "{found:#?}");
    assert!(has(OptimizationType::ReduceMatrix, "leg 0 of the matrix of job test"), "{found:#?}");
    assert!(!has(OptimizationType::ReduceMatrix, "leg 2"), "{found:#?}");
}

/// Runs of a job whose steps take so many seconds.
fn job(runs: std::ops::Range<u32>, steps: &[(&str, u64)]) -> Model {
    let mut model = Model::new();
    add_job(&mut model, runs, steps);
    model
}

fn add_job(model: &mut Model, runs: std::ops::Range<u32>, steps: &[(&str, u64)]) {
    for n in runs {
        for (number, (command, seconds)) in (1..).zip(steps) {
            model.apply(
                None,
                &LearningEvent { duration_ms: seconds * 1000, ..step(n, number, command, true) },
            );
        }
        model.apply(None, &run(n, 240_000));
    }
}

/// The groups that are suggested, and what they save.
fn side_by_side(model: &Model) -> Vec<(Vec<Vec<String>>, Option<u64>)> {
    let found = suggestions(model).into_iter().filter(|one| one.kind == OptimizationType::RunInParallel);
    found.map(|one| (one.groups, one.saving_ms)).collect()
}

#[test]
fn steps_are_taken_apart_by_what_they_need_and_not_by_their_names() {
    let lane = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
    // What is made for a step goes with it; what is short stays.
    let mixed = [("npm ci", 40), ("cargo fmt --check", 2), ("npm test", 50), ("cargo test", 100)];
    let found = side_by_side(&job(0..12, &mixed));
    assert_eq!(found, [(vec![lane(&["npm ci", "npm test"]), lane(&["cargo test"])], Some(92_000))]);
    // What both need stands before both; a deployment waits for them.
    let built = [("./configure", 60), ("cargo clippy", 40), ("cargo test", 90), ("./deploy.sh", 60)];
    let model = job(0..12, &built);
    assert_eq!(side_by_side(&model), [(vec![lane(&["cargo clippy"]), lane(&["cargo test"])], Some(40_000))]);
    let told =
        kinds(&model).into_iter().find(|(kind, _)| *kind == OptimizationType::RunInParallel).unwrap().1;
    assert!(
        told.starts_with(
            "take `cargo clippy` and `cargo test` out of job build as jobs of their own, each after `./configure`, and let \
             `./deploy.sh` wait for them (`needs`): saves about 40 s"
        ),
        "{told}"
    );
    // What a later step may need cannot leave; nobody knows about scripts.
    for in_turn in [
        [("npm ci", 60), ("npm test", 60), ("./package.sh", 60)],
        [("./a.sh", 60), ("./b.sh", 60), ("make lint", 60)],
        [("cargo fmt", 60), ("cargo clippy", 60), ("cargo fmt --check", 20)],
    ] {
        assert_eq!(side_by_side(&job(0..12, &in_turn)), [], "{in_turn:?}");
    }
}

/// Who writes a command anew is not told for ever that the old one fails.
#[test]
fn what_was_taken_out_of_a_workflow_is_not_told_of() {
    let mut model = Model::new();
    for n in 0..4 {
        model.apply(None, &step(n, 1, "make delivr", false));
    }
    let told = |model: &Model| {
        let active = lessons(model).iter().filter(|lesson| lesson.state == LessonState::Active).count();
        let risks = Forecast::of(model, "ci.yml", &[]).risks.len();
        (active, risks, unstable(model).len())
    };
    assert_eq!(told(&model), (1, 1, 1));
    // Another command in its place, and the run succeeds.
    model.apply(None, &step(4, 1, "make deliver", true));
    assert_eq!(told(&model), (1, 1, 1), "perhaps another leg of a matrix");
    model.apply(None, &run(4, 1000));
    assert_eq!(told(&model), (0, 0, 0));
    assert_eq!(lessons(&model).len(), 1, "it is over, and not forgotten");
    // Nothing in its place: it may have a condition, for ten runs.
    let mut model = Model::new();
    for n in 0..4 {
        model.apply(None, &step(n, 2, "make nightly", false));
    }
    for n in 4..15 {
        assert_eq!(told(&model), (1, 1, 1), "run {n}");
        model.apply(None, &run(n, 1000));
    }
    assert_eq!(told(&model), (0, 0, 0));
}

#[test]
fn steps_that_a_workflow_has_no_more_are_in_no_suggestion() {
    let mut model = job(0..12, &[("cargo test", 60), ("cargo clippy", 60), ("cargo doc", 60)]);
    assert_eq!(side_by_side(&model)[0].0.len(), 3);
    add_job(&mut model, 12..24, &[("cargo nextest run", 60), ("cargo clippy", 60)]);
    let found = side_by_side(&model);
    assert_eq!(found[0].0, [["cargo nextest run"], ["cargo clippy"]], "{found:?}");
    assert_eq!(found.len(), 1);
}

#[test]
fn nothing_is_suggested_from_few_runs() {
    let mut model = Model::new();
    for n in 0..5 {
        model.apply(None, &step(n, 1, "npm ci", true));
    }
    assert_eq!(kinds(&model), []);
}

#[test]
fn a_retry_is_suggested_when_retries_helped() {
    let mut model = Model::new();
    for n in 0..12_u32 {
        let commit = format!("c{}", n / 2);
        model.apply(None, &LearningEvent { commit, ..step(n, 1, "make e2e", !n.is_multiple_of(4)) });
    }
    let found = kinds(&model);
    assert!(
        found
            .iter()
            .any(|(kind, text)| *kind == OptimizationType::Retry
                && text.contains("3 of 3 repetitions succeeded")),
        "{found:?}"
    );
}

#[test]
fn relations_come_from_sequences_reasons_and_meaning() {
    let mut model = Model::new();
    for n in 0..10 {
        model.apply(None, &step(n, 1, "npm ci", true));
        model.apply(None, &LearningEvent { previous: "npm ci".into(), ..step(n, 2, "npm run build", true) });
        model.apply(None, &LearningEvent { previous: "npm run build".into(), ..step(n, 3, "ls", true) });
        model.apply(None, &LearningEvent { previous: "ls".into(), ..step(n, 4, "echo done", true) });
    }
    model.apply(None, &step(11, 1, "yarn install", false));
    model.apply(None, &step(12, 1, "npm ci", false));
    let thesaurus = Thesaurus::built_in();
    let found = related(&model, &thesaurus, "npm ci", 5);
    let of = |command: &str| {
        found.iter().find(|one| one.command == command).unwrap_or_else(|| panic!("{found:?}"))
    };
    assert!(
        of("npm run build").reasons[0].starts_with("follows it 10 times, 3.0 times as often"),
        "{found:?}"
    );
    let yarn = of("yarn install");
    assert!(yarn.reasons.iter().any(|reason| reason.starts_with("fails for the same reason")), "{yarn:?}");
    assert!(
        yarn.reasons.iter().any(|reason| reason == "means the same: install node dependencies"),
        "{yarn:?}"
    );
    assert!(found.iter().all(|one| one.command != "echo done"));
    assert_eq!(related(&model, &thesaurus, "npm ci", 1).len(), 1);
    assert_eq!(related(&model, &thesaurus, "unknown", 5), []);
}

#[test]
fn users_add_terms() {
    let file = Path::new("terms.json");
    let own = r#"{"./x deploy": {"id": 11, "nterm": "publish", "url": "https://x.org"}}"#;
    let thesaurus = Thesaurus::built_in().with_json(file, own).unwrap();
    assert_eq!(thesaurus.concepts("./x deploy --now")[0].id, 11);
    assert_eq!(thesaurus.concepts("cd a && cargo test").len(), 1);
    assert!(thesaurus.concepts("my-cargo test-all").is_empty(), "only whole words");
    let named = format!(r#"{{"name": "ours", "data": {own}}}"#);
    assert!(Thesaurus::built_in().with_json(file, &named).is_ok());
    let error = Thesaurus::built_in().with_json(file, r#"{"x": {"idd": 1}}"#).unwrap_err();
    assert!(error.to_string().starts_with("terms.json: no thesaurus"), "{error}");
}
