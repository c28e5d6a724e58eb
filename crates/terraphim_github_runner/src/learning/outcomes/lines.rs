//! Formats with one line for each test.

use serde::Deserialize;

use super::TestOutcome::{Failed, Passed, Skipped};
use super::{Found, TestOutcome};
use crate::learning::signature::{clean_line, without_prefix};

pub(super) fn read(output: &str, found: &mut Found) {
    let mut javascript = JavaScript::default();
    for line in output.split('\n') {
        // No test has a name of that length; what is longer is data.
        if line.len() > 4096 {
            continue;
        }
        let line = clean_line(line);
        let text = without_prefix(&line).trim_end();
        if let Some((name, outcome)) =
            libtest(text).or_else(|| nextest(text)).or_else(|| pytest(text)).or_else(|| go(text))
        {
            found.add(name, outcome);
        } else if let Some((name, outcome)) = go_json(text) {
            found.add(&name, outcome);
        } else {
            javascript.line(text, found);
        }
    }
    javascript.end(found);
}

/// `test net::reconnects ... FAILED` (rustc book, "Tests"); `test src/lib.rs - f (line 3) ... ok` of documentation.
fn libtest(line: &str) -> Option<(&str, TestOutcome)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.split_once(" (line ").map_or(name, |(name, _)| name);
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some((name, word(end.split([' ', ',']).next()?)?))
}

/// `FAIL [   0.004s] my-crate net::reconnects`
fn nextest(line: &str) -> Option<(&str, TestOutcome)> {
    let (status, rest) = line.split_once(" [")?;
    let outcome = match status.trim() {
        "PASS" => Passed,
        "FAIL" | "TIMEOUT" | "SIGABRT" | "SIGSEGV" => Failed,
        _ => return None,
    };
    let (time, name) = rest.split_once(']')?;
    time.trim().ends_with('s').then_some((name, outcome))
}

/// `tests/test_a.py::test_b PASSED [ 50%]` with `-v`, and `FAILED tests/test_a.py::test_b - AssertionError: ...` in
/// the summary.
fn pytest(line: &str) -> Option<(&str, TestOutcome)> {
    let is_name = |name: &str| name.contains(".py::");
    if let Some((status, rest)) = line.split_once(' ')
        && let Some(outcome) = word(status)
    {
        let name = rest.split_once(" - ").map_or(rest, |(name, _)| name);
        return is_name(name).then_some((name, outcome));
    }
    let (name, rest) = line.split_once(' ').filter(|(name, _)| is_name(name))?;
    Some((name, word(rest.split_whitespace().next()?)?))
}

/// `--- FAIL: TestX/sub (0.01s)`
fn go(line: &str) -> Option<(&str, TestOutcome)> {
    let (status, rest) = line.strip_prefix("--- ")?.split_once(": ")?;
    let name = rest.split_once(" (").map_or(rest, |(name, _)| name);
    Some((name, word(status)?))
}

/// `{"Action":"fail","Package":"x","Test":"TestX"}` of `go test -json` (cmd/test2json).
fn go_json(line: &str) -> Option<(String, TestOutcome)> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "Action")]
        action: String,
        #[serde(rename = "Package", default)]
        package: String,
        #[serde(rename = "Test")]
        test: String,
    }
    if !line.starts_with('{') || !line.contains("\"Action\"") {
        return None;
    }
    let event: Event = serde_json::from_str(line).ok()?;
    let outcome = match event.action.as_str() {
        "pass" => Passed,
        "fail" => Failed,
        "skip" => Skipped,
        _ => return None,
    };
    Some((format!("{}.{}", event.package, event.test), outcome))
}

fn word(word: &str) -> Option<TestOutcome> {
    match word {
        "ok" | "PASSED" | "PASS" | "XFAIL" => Some(Passed),
        "FAILED" | "FAIL" | "ERROR" => Some(Failed),
        "ignored" | "SKIPPED" | "SKIP" => Some(Skipped),
        _ => None,
    }
}

/// jest and mocha: `✓ adds (2 ms)` and `✕ divides` below `PASS src/a.test.js`; without `--verbose` only failures are
/// named, as `● Maths › divides`.
#[derive(Default)]
struct JavaScript {
    file: String,
    /// With marks for what failed, the bullets only repeat them.
    has_failed_mark: bool,
    bullets: Vec<String>,
}

impl JavaScript {
    fn line(&mut self, line: &str, found: &mut Found) {
        for status in ["PASS ", "FAIL "] {
            if let Some(file) = line.strip_prefix(status).filter(|file| file.contains('.')) {
                file.split_whitespace().next().unwrap_or("").clone_into(&mut self.file);
                return;
            }
        }
        let marks =
            [("✓ ", Passed), ("✔ ", Passed), ("✕ ", Failed), ("✗ ", Failed), ("✖ ", Failed), ("○ ", Skipped)];
        for (mark, outcome) in marks {
            // `tci` itself and many others use these signs; below a file of tests they are tests.
            if let Some(name) = line.strip_prefix(mark).filter(|_| !self.file.is_empty()) {
                // Others print `✓` too, so one of those does not say that failures have marks.
                self.has_failed_mark |= outcome == Failed;
                found.add(&format!("{} › {}", self.file, without_time(name)), outcome);
                return;
            }
        }
        if let Some(name) = line.strip_prefix("● ").filter(|name| name.contains(" › ")) {
            self.bullets.push(name.to_owned());
        }
    }

    fn end(self, found: &mut Found) {
        if !self.has_failed_mark {
            for name in self.bullets {
                found.add(&name, Failed);
            }
        }
    }
}

/// `adds (2 ms)` without its time.
fn without_time(name: &str) -> &str {
    match name.rsplit_once(" (") {
        Some((name, time)) if time.ends_with("s)") => name,
        _ => name,
    }
}
