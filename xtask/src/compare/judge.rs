//! Whether what a program did is what a behaviour says.

use serde_json::Value;

use super::programs::Ran;

/// What became of a behaviour.
pub(super) enum Verdict {
    Kept,
    /// What was otherwise.
    Broken(Vec<String>),
    /// Why it was not run.
    NotRun(&'static str),
}

impl Verdict {
    /// In a table.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Verdict::Kept => "kept",
            Verdict::Broken(_) => "broken",
            Verdict::NotRun(_) => "-",
        }
    }

    fn of(problems: Vec<String>) -> Verdict {
        if problems.is_empty() { Verdict::Kept } else { Verdict::Broken(problems) }
    }
}

/// What act says when it cannot reach GitHub, which it asks for the official actions.
const NO_NETWORK: [&str; 3] = ["dial tcp", "no such host", "Could not resolve host"];

/// Judges a run of `tci`: everything that the behaviour says.
pub(super) fn tci(expected: &Value, ran: &Ran) -> Verdict {
    let mut problems = end(expected, ran);
    let said = |key: &str| expected[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    let wanted = said("output").chain(said("notices")).chain(expected["error"].as_str());
    problems.extend(words(wanted, said("lacks"), ran));
    holds("report", &expected["report"], &ran.report, &mut problems);
    Verdict::of(problems)
}

/// Judges a run of act: how it ended, what the processes wrote, and how its jobs and steps ended, where `tci`, whose run
/// was judged before, has a report to compare with. Notices are in the words of `tci`, so they are not looked for.
pub(super) fn act(expected: &Value, ours: &Ran, ran: &Ran) -> Verdict {
    if !ran.succeeded && NO_NETWORK.iter().any(|text| ran.words.contains(text)) {
        return Verdict::NotRun("needs GitHub");
    }
    let mut problems = end(expected, ran);
    let said = |key: &str| expected[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    problems.extend(words(said("output"), said("lacks"), ran));
    let own = own_jobs(&ours.report);
    let (want, got) = (ends(&ours.report, &own), ends(&ran.report, &own));
    // What is refused runs no step; what ran elsewhere ended as here.
    if want != got && (!want.is_empty() || got.iter().any(|job| !job.ends_with("()"))) {
        problems.push(format!("jobs: {}, not {}", got.join("; "), want.join("; ")));
    }
    Verdict::of(problems)
}

fn end(expected: &Value, ran: &Ran) -> Vec<String> {
    let wanted = expected["error"].is_null() && expected["report"]["conclusion"] != "failure";
    let ended = if ran.succeeded { "success" } else { "failure" };
    if ran.succeeded == wanted { Vec::new() } else { vec![format!("the run is a {ended}")] }
}

fn words<'a>(
    wanted: impl Iterator<Item = &'a str>,
    unwanted: impl Iterator<Item = &'a str>,
    ran: &Ran,
) -> Vec<String> {
    let has = |text: &str| ran.words.contains(text.trim_end());
    let lacks = wanted.filter(|text| !has(text)).map(|text| format!("lacks {text:?}"));
    let shows = unwanted.filter(|text| has(text)).map(|text| format!("shows {text:?}"));
    lacks.chain(shows).collect()
}

/// The ids of the jobs of the workflow itself, in a report of `tci`. act tells those of called workflows apart by nothing.
fn own_jobs(report: &Value) -> Vec<&str> {
    let jobs = report["jobs"].as_array().into_iter().flatten();
    let own = jobs.filter_map(|job| {
        let (id, key) = (job["id"].as_str()?, job["key"].as_str()?);
        let rest = key.strip_prefix(id)?;
        (rest.is_empty() || rest[1..].chars().all(|c| c.is_ascii_digit())).then_some(id)
    });
    own.collect()
}

/// How jobs ended and the steps in them, without what was skipped and without the stages of actions before and after their
/// steps: of these act does not tell truly.
fn ends(report: &Value, own: &[&str]) -> Vec<String> {
    let mut ends = Vec::new();
    for job in report["jobs"].as_array().into_iter().flatten() {
        let is_own = own.is_empty() || job["id"].as_str().is_some_and(|id| own.contains(&id));
        if job["conclusion"] == "skipped" || !is_own {
            continue;
        }
        let steps = job["steps"].as_array().into_iter().flatten();
        let is_stage = |step: &&Value| {
            step["name"].as_str().is_some_and(|name| name.starts_with("Pre ") || name.starts_with("Post "))
        };
        let outcomes = steps.filter(|step| !is_stage(step)).filter_map(|step| step["outcome"].as_str());
        let steps: Vec<&str> = outcomes.filter(|outcome| *outcome != "skipped").collect();
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        ends.push(format!("{} {} ({})", text(&job["id"]), text(&job["conclusion"]), steps.join(" ")));
    }
    ends.sort();
    ends
}

/// What is expected must be there: of objects at least these keys, of lists all entries.
fn holds(path: &str, expected: &Value, got: &Value, problems: &mut Vec<String>) {
    match (expected, got) {
        (Value::Null, _) if path == "report" => {}
        (Value::Object(expected), Value::Object(object)) => {
            for (key, value) in expected {
                let got = object.get(key).unwrap_or(&Value::Null);
                holds(&format!("{path}.{key}"), value, got, problems);
            }
        }
        (Value::Array(expected), Value::Array(list)) if expected.len() == list.len() => {
            for (index, (expected, got)) in expected.iter().zip(list).enumerate() {
                holds(&format!("{path}[{index}]"), expected, got, problems);
            }
        }
        _ if expected == got => {}
        _ => problems.push(format!("{path} is {got}, not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ran(succeeded: bool, words: &str, report: Value) -> Ran {
        Ran { succeeded, words: words.to_owned(), report }
    }

    fn is_kept(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Kept)
    }

    #[test]
    fn a_run_is_judged_by_its_end_its_words_and_its_report() {
        let expected = json!({
            "report": {"conclusion": "failure", "jobs": [{"id": "a"}]}, "output": ["yes\n"], "lacks": ["secret"]
        });
        let report = json!({"conclusion": "failure", "jobs": [{"id": "a", "more": 1}]});
        assert!(is_kept(&tci(&expected, &ran(false, "yes", report.clone()))));
        for (succeeded, words, report) in [
            (true, "yes", report.clone()),
            (false, "no", report.clone()),
            (false, "yes secret", report.clone()),
            (false, "yes", json!({"conclusion": "failure", "jobs": []})),
        ] {
            assert!(!is_kept(&tci(&expected, &ran(succeeded, words, report))));
        }
        assert!(!is_kept(&tci(&json!({"error": "x"}), &ran(true, "x", Value::Null))));
        assert!(!is_kept(&tci(&json!({"error": "x"}), &ran(false, "y", Value::Null))));
    }

    #[test]
    fn act_is_judged_by_how_jobs_and_steps_end() {
        let job = |outcome: &str| json!({"jobs": [{"id": "a", "conclusion": "success", "steps": [{"outcome": outcome}]}]});
        let ours = ran(true, "", job("failure"));
        assert!(is_kept(&act(&json!({}), &ours, &ran(true, "", job("failure")))));
        assert!(!is_kept(&act(&json!({}), &ours, &ran(true, "", job("success")))));
        let called = json!({"jobs": [{"id": "a", "key": "a.0"}, {"id": "b", "key": "call.b"}]});
        assert_eq!(own_jobs(&called), ["a"]);
        let refused = json!({"error": "x"});
        let nothing = ran(false, "x", Value::Null);
        assert!(is_kept(&act(&refused, &nothing, &ran(false, "y", json!({"jobs": [{"id": "a"}]})))));
        assert!(!is_kept(&act(&refused, &nothing, &ran(false, "y", job("success")))));
        let nobody = ran(false, "dial tcp: no route", Value::Null);
        assert!(matches!(act(&json!({}), &ours, &nobody), Verdict::NotRun(_)));
    }
}
