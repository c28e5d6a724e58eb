//! Results of single tests, read from what test programs write: libtest and nextest, pytest, go test (text and JSON),
//! jest and mocha, JUnit XML.

mod junit;
mod lines;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A run of more tests than this is cut; it bounds memory against output that only looks like tests.
const MAX_TESTS: usize = 50_000;

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// It passed.
    Passed,
    /// It was not run.
    Skipped,
    /// It failed.
    Failed,
}

/// One test and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its full name, as its program writes it.
    pub name: String,
    /// How it ended; the worst if it ran more than once.
    pub outcome: TestOutcome,
}

/// The tests of an output by name, each once.
#[must_use]
pub fn test_results(output: &str) -> Vec<TestResult> {
    let mut found = Found::default();
    lines::read(output, &mut found);
    junit::read(output, &mut found);
    found.tests.into_iter().map(|(name, outcome)| TestResult { name, outcome }).collect()
}

/// The names of the tests that failed.
pub(super) fn failed_tests(output: &str) -> Vec<String> {
    let failed = test_results(output).into_iter().filter(|test| test.outcome == TestOutcome::Failed);
    failed.map(|test| test.name).collect()
}

#[derive(Default)]
struct Found {
    tests: BTreeMap<String, TestOutcome>,
}

impl Found {
    fn add(&mut self, name: &str, outcome: TestOutcome) {
        let name = name.trim();
        if name.is_empty() || name.len() > 400 {
            return;
        }
        if let Some(known) = self.tests.get_mut(name) {
            *known = (*known).max(outcome);
        } else if self.tests.len() < MAX_TESTS {
            self.tests.insert(name.to_owned(), outcome);
        }
    }
}

#[cfg(test)]
mod tests;
