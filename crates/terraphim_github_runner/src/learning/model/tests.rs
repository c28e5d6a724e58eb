use super::*;
use crate::learning::command::CommandIdentity;
use crate::learning::event::{CommandOutcome, EventKind, LearningEvent};
use crate::learning::signature::{Cause, FailureSignature};

pub(super) fn event(run: u32, command: &str, previous: &str, success: bool) -> LearningEvent {
    let outcome = if success { CommandOutcome::Success } else { CommandOutcome::Failure };
    LearningEvent {
        uid: format!("{run}-{command}-{previous}"),
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        step: "Step".to_owned(),
        number: 1,
        previous: previous.to_owned(),
        duration_ms: 1000,
        signature: (!success).then(|| FailureSignature::of("error: lost connection 12")),
        commit: format!("c{run}"),
        environment: "debian".to_owned(),
        output_lines: 10,
        at_ms: i64::from(run) * 3_600_000,
        ..LearningEvent::of_command("octo/a", &run.to_string(), command, outcome)
    }
}

fn probability(model: &Model, command: &str, previous: &str) -> Prediction {
    model.predict(None, &CommandIdentity::of(command), previous, 0)
}

#[test]
fn nothing_known_is_even_odds() {
    let prediction = probability(&Model::new(), "make", "");
    assert_eq!((prediction.probability, prediction.effective_n), (0.5, 0.0));
    assert_eq!((prediction.low, prediction.high), (0.0, 1.0));
    assert_eq!(prediction.evidence, []);
}

#[test]
fn what_is_unknown_about_a_command_is_taken_from_what_is_like_it() {
    let mut model = Model::new();
    for run in 0..20 {
        model.apply(None, &event(run, "cargo test -p a", "cargo build", true));
        model.apply(None, &event(run, "cargo fmt", "", false));
    }
    let known = probability(&model, "cargo test -p a", "cargo build");
    assert!(known.probability > 0.93, "{known:?}");
    assert!(known.low < known.probability && known.probability < known.high);
    let like_it = probability(&model, "cargo test -p new", "");
    assert!(like_it.probability > 0.8 && like_it.effective_n < known.effective_n, "{like_it:?}");
    let same_tool = probability(&model, "cargo doc", "");
    assert!((0.3..0.7).contains(&same_tool.probability), "{same_tool:?}");
    assert!(probability(&model, "cargo fmt", "").probability < 0.1);
    let levels: Vec<Level> = known.evidence.iter().map(|evidence| evidence.level).collect();
    assert_eq!(
        levels,
        [Level::All, Level::Tool, Level::RepositorySubcommand, Level::Command, Level::Exact, Level::Pair]
    );
}

#[test]
fn three_successes_and_a_failure_of_the_first_are_above_even_odds() {
    let mut model = Model::new();
    for run in 0..3 {
        model.apply(None, &event(run, "b", "a", true));
    }
    model.apply(None, &event(3, "a", "", false));
    assert!(probability(&model, "b", "a").probability > 0.5);
}

#[test]
fn what_is_old_counts_less() {
    let mut model = Model::new();
    for run in 0..50 {
        model.apply(None, &event(run, "make", "", false));
    }
    let identity = CommandIdentity::of("make");
    let year_ms = 365 * 24 * 3_600_000;
    let (now, later) = (50 * 3_600_000, 50 * 3_600_000 + year_ms);
    assert!(model.predict(None, &identity, "", now).probability < 0.05);
    let old = model.predict(None, &identity, "", later);
    assert!(old.probability > 0.4 && old.effective_n < 5.0, "{old:?}");
}

#[test]
fn repositories_share_rates_of_tools_and_nothing_that_can_be_read() {
    let (mut a, mut b, mut shared) = (Model::new(), Model::new(), Model::shared());
    for run in 0..30_u32 {
        a.apply(Some(&mut shared), &event(run, "./deploy-secret-customer.sh", "", false));
    }
    let identity = CommandIdentity::of("./deploy-secret-customer.sh");
    let elsewhere = b.predict(Some(&shared), &identity, "", 0);
    assert!(elsewhere.probability < 0.2, "{elsewhere:?}");
    assert_eq!(b.predict(None, &identity, "", 0).probability, 0.5);
    let text = format!("{:?}", shared.rows());
    assert!(!text.contains("deploy") && !text.contains("octo"), "{text}");
    b.apply(Some(&mut shared), &event(1, "make", "", true));
    assert!(b.commands().all(|(canonical, _)| canonical == "make"));
}

#[test]
fn a_failure_that_repeats_is_a_lesson_until_it_is_over() {
    let mut model = Model::new();
    let states = |model: &Model| model.command("make").unwrap().reasons[0].state(model.lesson_threshold());
    model.apply(None, &event(0, "make", "", true));
    for run in 1..=3 {
        let mut failed = event(run, "make", "", false);
        failed.changed = vec!["src/parser/a.rs".to_owned()];
        let learned = model.apply(None, &failed);
        assert_eq!(learned.new_lesson.is_some(), run == 3, "run {run}");
    }
    let reason = model.command("make").unwrap().reasons[0].clone();
    assert_eq!((states(&model), reason.count), (LessonState::Active, 3));
    assert_eq!((reason.first_commit.as_str(), reason.last_good.as_deref()), ("c1", Some("c0")));
    assert_eq!(
        (reason.suspects, reason.runs),
        (vec!["src/parser/a.rs".to_owned()], vec!["1".into(), "2".into(), "3".into()])
    );
    for run in 4..8 {
        model.apply(None, &event(run, "make", "", true));
        assert_eq!(states(&model), LessonState::Active);
    }
    model.apply(None, &event(8, "make", "", true));
    assert_eq!(states(&model), LessonState::Retired);
    // Once more is no noise; it has to repeat to come back.
    assert_eq!(model.apply(None, &event(9, "make", "", false)).new_lesson, None);
    model.apply(None, &event(10, "make", "", false));
    assert!(model.apply(None, &event(11, "make", "", false)).new_lesson.is_some());
    assert_eq!(model.totals().lessons, 2);
}

/// The threshold says what is told, of everything that was ever learned, and changes no counter.
#[test]
fn a_lesson_is_one_from_the_chosen_number_of_failures_on() {
    let threshold = |failures| LessonThreshold::new(failures).unwrap();
    let outcomes: Vec<bool> = [vec![false; 4], vec![true; 5], vec![false; 2]].concat();
    let learned = |failures: u64| {
        let mut model = Model::new();
        model.set_lesson_threshold(threshold(failures));
        let runs = (0..).zip(&outcomes).filter(|(run, success)| {
            model.apply(None, &event(*run, "make", "", **success)).new_lesson.is_some()
        });
        let lessons: Vec<u32> = runs.map(|(run, _)| run).collect();
        (model, lessons)
    };
    let (three, told) = learned(3);
    assert_eq!(told, [2]);
    for (failures, lessons_at, state) in [
        (2, vec![1, 10], LessonState::Active),
        (4, vec![3], LessonState::Retired),
        (5, vec![], LessonState::Candidate),
        (20, vec![], LessonState::Candidate),
    ] {
        let (mut model, told) = learned(failures);
        assert_eq!(
            (told, model.totals().lessons),
            (lessons_at.clone(), lessons_at.len() as u64),
            "{failures}"
        );
        assert_eq!(model.command("make").unwrap().reasons[0].state(threshold(failures)), state, "{failures}");
        assert_eq!(model.rows(), three.rows(), "counters are a function of the events alone");
        model.set_lesson_threshold(threshold(3));
        assert_eq!(model.totals(), three.totals());
    }
    assert!([0, 1, 21, u64::MAX].into_iter().all(|failures| LessonThreshold::new(failures).is_none()));
}

/// A baseline of an earlier version has states in place of numbers.
#[test]
fn a_baseline_of_before_the_threshold_could_be_chosen_is_read() {
    let mut model = Model::new();
    for run in 0..3 {
        model.apply(None, &event(run, "make", "", false));
    }
    let old = |state: &str| {
        let rows = model.rows().into_iter().filter(|row| row.kind != "repetitions").map(|mut row| {
            row.value = row.value.replace("\"peak\":3", &format!("\"state\":\"{state}\""));
            row.value = row.value.replace("\"lessons\":0", "\"lessons\":1");
            row
        });
        let mut read = Model::new();
        read.load(rows).unwrap();
        read
    };
    let mut read = old("active");
    assert_eq!((read.totals(), read.command("make").unwrap().reasons[0].peak), (model.totals(), 3));
    for run in 3..8 {
        read.apply(None, &event(run, "make", "", true));
    }
    let state = |model: &Model| model.command("make").unwrap().reasons[0].state(model.lesson_threshold());
    assert_eq!(state(&read), LessonState::Retired);
    assert_eq!(old("candidate").command("make").unwrap().reasons[0].peak, 0);
    assert_eq!(old("retired").command("make").unwrap().reasons[0].peak, 3);
}

/// When there are too many reasons, none that repeats makes room for one that came once.
#[test]
fn what_repeats_stays_however_many_other_failures_there_are() {
    let mut model = Model::new();
    let failing = |run: u32, text: &str| {
        let signature = Some(FailureSignature { cause: Cause::Other, text: text.to_owned() });
        LearningEvent { signature, ..event(run, "make", "", false) }
    };
    for run in 0..3 {
        model.apply(None, &failing(run, "error: the depot is closed"));
    }
    let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];
    for (run, (first, second)) in
        (3..).zip(words.iter().flat_map(|first| words.iter().map(move |second| (first, second))))
    {
        model.apply(None, &failing(run, &format!("error: {first} and {second} fell out")));
    }
    let reasons = &model.command("make").unwrap().reasons;
    assert_eq!(reasons.len(), 16);
    assert_eq!((reasons[0].text.as_str(), reasons[0].count), ("error: the depot is closed", 3));
    assert_eq!(reasons[15].text, "error: kappa and kappa fell out");
}

#[test]
fn faults_of_the_host_count_neither_way() {
    let mut model = Model::new();
    for run in 0..10_u32 {
        model.apply(None, &LearningEvent { outcome: CommandOutcome::Fault, ..event(run, "make", "", false) });
    }
    assert_eq!(probability(&model, "make", "").probability, 0.5);
    let totals = model.totals();
    assert_eq!((totals.faults, totals.failures, totals.events), (10, 0, 10));
}

#[test]
fn paths_have_rates_of_their_own() {
    let mut model = Model::new();
    for run in 0..10_u32 {
        let mut one = event(run, "cargo test", "", run.is_multiple_of(2));
        let directory = if run.is_multiple_of(2) { "docs/x.md" } else { "src/parser/lexer.rs" };
        one.changed = vec![directory.to_owned()];
        model.apply(None, &one);
    }
    assert_eq!(model.rate_for_path("cargo test", "src/parser").unwrap().failure_share(), 1.0);
    assert_eq!(model.rate_for_path("cargo test", "docs").unwrap().failure_share(), 0.0);
    assert!(model.rate_for_path("cargo test", "src/parser/lexer.rs").is_none());
}

/// A stream that uses everything the model has.
pub(super) fn stream(n: u32) -> Vec<LearningEvent> {
    let mut events = Vec::new();
    for i in 0..n {
        let success = !(i * 7).is_multiple_of(5);
        let mut one = event(
            i,
            ["make -j 4", "cargo test", "npm ci"][(i % 3) as usize],
            ["", "make -j #"][(i % 2) as usize],
            success,
        );
        one.changed = vec![format!("src/m{}/a.rs", i % 4), "README.md".to_owned()];
        one.duration_ms = u64::from(1000 + i * 37 % 500);
        if !success {
            one.tests.failed = vec![format!("t{}", i % 6)];
        } else {
            one.tests.recovered = vec![format!("t{}", i % 3)];
        }
        events.push(one);
        let job = format!("test.{}", i % 2);
        events.push(LearningEvent {
            kind: EventKind::Job,
            job,
            run: (i / 2).to_string(),
            command: String::new(),
            ..event(i, "j", "", success)
        });
        events.push(LearningEvent { kind: EventKind::Run, ..event(i, "r", "", success) });
    }
    events
}

#[test]
fn rows_come_back_bit_by_bit_and_the_same_events_give_the_same_rows() {
    let (mut once, mut again) = ((Model::new(), Model::shared()), (Model::new(), Model::shared()));
    let mut stored = std::collections::BTreeMap::new();
    for one in stream(400) {
        once.0.apply(Some(&mut once.1), &one);
        for row in once.0.take_changes() {
            stored.insert((row.kind.clone(), row.key.clone()), row);
        }
    }
    for one in stream(400) {
        again.0.apply(Some(&mut again.1), &one);
    }
    assert_eq!(once.0.rows(), again.0.rows());
    assert_eq!(once.1.rows(), again.1.rows());
    let mut loaded = Model::new();
    loaded.load(stored.into_values()).unwrap();
    assert_eq!(loaded.rows(), once.0.rows());
    // And it goes on as if it had never been stored.
    for one in stream(450).split_off(1200) {
        once.0.apply(None, &one);
        loaded.apply(None, &one);
    }
    assert_eq!(loaded.rows(), once.0.rows());
    assert!(loaded.load([FactRow { kind: "x".into(), key: String::new(), value: "1".into() }]).is_err());
}

#[test]
fn a_leg_that_never_differs_is_known() {
    let mut model = Model::new();
    for run in 0..30_u32 {
        for leg in 0..3 {
            let success = !(leg == 2 && run.is_multiple_of(5));
            let job = format!("test.{leg}");
            model.apply(None, &LearningEvent { kind: EventKind::Job, job, ..event(run, "", "", success) });
        }
    }
    let (_, _, fact) = model.jobs().next().unwrap();
    assert_eq!((fact.compared, fact.differing.get("2"), fact.differing.get("0")), (29, Some(&6), None));
}

/// Values with a long tail; any distribution does.
fn long_tail(random: &mut super::verdict_tests::Random) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
    let value = (1000.0 * (-random.uniform().ln())) as u64 + 1;
    value
}

#[test]
fn alarms_of_duration_and_output_keep_to_their_rate() {
    let mut random = super::verdict_tests::Random::new(12_345);
    let mut model = Model::new();
    let mut alarms = std::collections::BTreeMap::new();
    let runs = 20_000;
    for run in 0..runs {
        let (duration_ms, output_lines) = (long_tail(&mut random), long_tail(&mut random));
        let one = LearningEvent { duration_ms, output_lines, ..event(run, "make", "", true) };
        for anomaly in model.apply(None, &one).anomalies {
            *alarms.entry(format!("{:?}", anomaly.kind)).or_insert(0_u32) += 1;
        }
    }
    assert_eq!(alarms.len(), 3, "{alarms:?}");
    for (kind, count) in &alarms {
        let rate = f64::from(*count) / f64::from(runs);
        println!(
            "anomalies: {kind}: {count} false alarms in {runs} runs, {:.2} %, promised at most {:.2} %",
            rate * 100.0,
            100.0 / 64.0
        );
        assert!(rate <= 1.0 / 64.0 * 1.15, "{kind}: {rate}");
    }
    let odd = LearningEvent { duration_ms: 1_000_000, output_lines: 0, ..event(runs, "make", "", true) };
    let found: Vec<_> = model.apply(None, &odd).anomalies.iter().map(|anomaly| anomaly.kind).collect();
    assert_eq!(found, [AnomalyKind::Slow, AnomalyKind::LittleOutput]);
}

#[test]
fn less_than_a_second_more_is_not_told() {
    let mut model = Model::new();
    let took = |run, duration_ms| LearningEvent { duration_ms, ..event(run, "true", "", true) };
    for run in 0..30 {
        model.apply(None, &took(run, 30));
    }
    assert!(model.apply(None, &took(30, 1029)).anomalies.is_empty(), "34 times as long, and 999 ms");
    let told = model.apply(None, &took(31, 1030)).anomalies;
    assert_eq!(told.len(), 1, "{told:?}");
}
