use super::TestOutcome::{Failed, Passed, Skipped};
use super::*;

fn of(output: &str) -> Vec<(String, TestOutcome)> {
    test_results(output).into_iter().map(|test| (test.name, test.outcome)).collect()
}

fn want(tests: &[(&str, TestOutcome)]) -> Vec<(String, TestOutcome)> {
    let mut tests: Vec<_> = tests.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect();
    tests.sort();
    tests
}

#[test]
fn libtest_and_nextest() {
    let output = "running 4 tests\ntest net::reconnects ... FAILED\ntest net::closes ... ok\n\
        test slow ... ignored, takes an hour\ntest src/lib.rs - add (line 12) ... ok\n\
        \u{1b}[31mtest coloured ... FAILED\u{1b}[0m\n\
        \x20       PASS [   0.004s] my-crate a::b\n        FAIL [   1.204s] my-crate a::c\n\
        test result: FAILED. 1 passed; 1 failed\n";
    assert_eq!(
        of(output),
        want(&[
            ("net::reconnects", Failed),
            ("net::closes", Passed),
            ("slow", Skipped),
            ("src/lib.rs - add", Passed),
            ("coloured", Failed),
            ("my-crate a::b", Passed),
            ("my-crate a::c", Failed),
        ])
    );
}

#[test]
fn pytest() {
    let output = "tests/test_a.py::test_b PASSED  [ 50%]\ntests/test_a.py::test_c[x y] FAILED [100%]\n\
        FAILED tests/test_a.py::TestX::test_d - AssertionError: 1 != 2\nERROR tests/test_b.py::test_e\n\
        ERROR: not found\nFAILED build\n";
    let found = of(output);
    assert!(found.contains(&("tests/test_a.py::test_b".to_owned(), Passed)), "{found:?}");
    assert!(found.contains(&("tests/test_a.py::TestX::test_d".to_owned(), Failed)), "{found:?}");
    assert!(found.contains(&("tests/test_b.py::test_e".to_owned(), Failed)), "{found:?}");
    assert!(found.iter().all(|(name, _)| name.contains(".py::")), "{found:?}");
}

#[test]
fn go_test() {
    let output = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.01s)\n    --- FAIL: TestB/sub (0.00s)\n\
        --- SKIP: TestC (0.00s)\nFAIL\tx/y\t0.01s\n\
        {\"Time\":\"2026-01-01T00:00:00Z\",\"Action\":\"fail\",\"Package\":\"x/y\",\"Test\":\"TestJ\"}\n\
        {\"Action\":\"output\",\"Package\":\"x/y\",\"Test\":\"TestJ\",\"Output\":\"x\"}\n{\"Action\":\"fail\",\"Package\":\"x/y\"}\n";
    assert_eq!(
        of(output),
        want(&[
            ("TestA", Passed),
            ("TestB", Failed),
            ("TestB/sub", Failed),
            ("TestC", Skipped),
            ("x/y.TestJ", Failed),
        ])
    );
}

#[test]
fn jest() {
    let output = "FAIL src/maths.test.js\n  Maths\n    ✓ adds (2 ms)\n    ✕ divides (5 ms)\n    ○ skipped later\n\n  ● Maths › divides\n";
    assert_eq!(
        of(output),
        want(&[
            ("src/maths.test.js › adds", Passed),
            ("src/maths.test.js › divides", Failed),
            ("src/maths.test.js › skipped later", Skipped),
        ])
    );
    assert_eq!(of("FAIL src/a.test.js\n  ● Maths › divides\n"), want(&[("Maths › divides", Failed)]));
    assert_eq!(of("✓ Demo CI: success\n"), []);
}

#[test]
fn junit_xml() {
    let output = "some text\n<?xml version=\"1.0\"?><testsuites><testsuite name=\"s\">\
        <testcase classname=\"a.B\" name=\"one &lt;1&gt;\" time=\"0.1\"/>\
        <testcase classname=\"a.B\" name=\"two\"><failure message=\"no\">x</failure></testcase>\
        <testcase name=\"three\"><skipped/></testcase>\
        <testcase classname=\"a.B\" name=\"four\"><error>x</error></testcase>\
        </testsuite></testsuites>\nmore\n<testsuite><testcase name=\"five\"/></testsuite> <testsuite <<<";
    assert_eq!(
        of(output),
        want(&[
            ("a.B.one <1>", Passed),
            ("a.B.two", Failed),
            ("three", Skipped),
            ("a.B.four", Failed),
            ("five", Passed),
        ])
    );
}

#[test]
fn the_worst_of_several_results_counts() {
    assert_eq!(of("test a ... ok\ntest a ... FAILED\ntest a ... ok\n"), want(&[("a", Failed)]));
}

proptest::proptest! {
    #[test]
    fn no_output_panics(output in "(test |--- |PASS|FAIL| \\.\\.\\. |ok|<testsuite|<testcase name=|\"|>|\n|\\PC){0,60}") {
        let _ = test_results(&output);
    }
}
