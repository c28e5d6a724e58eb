use super::template::{Node, assign};
use super::*;

fn of(output: &str) -> FailureSignature {
    FailureSignature::of(output)
}

/// Real outputs of programs, shortened, with the cause and a part of the signature.
const SAMPLES: [(&str, Cause, &str); 30] = [
    (
        "   Compiling x v0.1.0 (/workspace/x)\nerror[E0432]: unresolved import `serde`\n --> src/main.rs:1:5\nerror: aborting due to 1 previous error\nerror: could not compile `x` (bin \"x\") due to 1 previous error\n",
        Cause::Compile,
        "error[E0432]: unresolved import `serde`",
    ),
    (
        "running 2 tests\ntest a ... ok\ntest net::reconnects ... FAILED\n\nthread 'net::reconnects' panicked at src/net.rs:10:5:\nassertion failed\nerror: test failed, to rerun pass `--lib`\n",
        Cause::Test,
        "net::reconnects",
    ),
    (
        "/usr/bin/ld: /tmp/ccAbC1.o: in function `main':\na.c:(.text+0x5): undefined reference to `frob'\ncollect2: error: ld returned 1 exit status\n",
        Cause::Link,
        "undefined reference to `frob'",
    ),
    (
        "src/x.c:12:5: error: 'foo' undeclared (first use in this function)\nmake: *** [Makefile:3: x.o] Error 1\n",
        Cause::Compile,
        "'foo' undeclared",
    ),
    (
        "=== FAILURES ===\nE   AssertionError: 1 != 2\nFAILED tests/test_a.py::test_b - AssertionError: 1 != 2\n=== 1 failed in 0.12s ===\n",
        Cause::Test,
        "tests/test_a.py::test_b",
    ),
    ("--- FAIL: TestParse (0.00s)\n    x_test.go:12: got 1\nFAIL\nexit status 1\n", Cause::Test, "TestParse"),
    ("./main.go:12:2: undefined: frob\n", Cause::Compile, "undefined: frob"),
    (
        "FAIL src/a.test.js\n  ● Maths › divides\n    expect(received).toBe(expected)\n",
        Cause::Test,
        "Maths › divides",
    ),
    (
        "npm ERR! code ERESOLVE\nnpm ERR! ERESOLVE unable to resolve dependency tree\nnpm ERR! A complete log of this run can be found in: /root/.npm/_logs/2026-01-01T00_00_00_000Z-debug-0.log\n",
        Cause::Dependency,
        "ERESOLVE",
    ),
    ("src/a.ts(3,5): error TS2345: Argument of type 'string' is not assignable\n", Cause::Compile, "TS2345"),
    (
        "Exception in thread \"main\" java.lang.RuntimeException: x\n\tat A.main(A.java:3)\nCaused by: java.io.IOException: a\n\tat B\nCaused by: java.lang.IllegalStateException: deep\n",
        Cause::Crash,
        "java.lang.RuntimeException",
    ),
    (
        "[ERROR] /home/ci/x/src/main/java/A.java:[12,5] cannot find symbol\n[INFO] BUILD FAILURE\n",
        Cause::Compile,
        "cannot find symbol",
    ),
    ("Killed\nfatal: Out of memory: Killed process 1234 (cc1plus)\n", Cause::OutOfMemory, "Out of memory"),
    (
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n",
        Cause::OutOfMemory,
        "heap out of memory",
    ),
    (
        "tar: x: Cannot write: No space left on device\ntar: Exiting with failure status due to previous errors\n",
        Cause::DiskFull,
        "No space left on device",
    ),
    (
        "fatal: unable to access 'https://x.org/': Could not resolve host: x.org\n",
        Cause::Dns,
        "Could not resolve host",
    ),
    ("npm error getaddrinfo ENOTFOUND registry.npmjs.org\n", Cause::Dns, "ENOTFOUND"),
    (
        "Error response from daemon: toomanyrequests: You have reached your pull rate limit\n",
        Cause::RateLimit,
        "toomanyrequests",
    ),
    (
        "curl: (7) Failed to connect to x.org port 443: Connection refused\n",
        Cause::Network,
        "Connection refused",
    ),
    ("error: test timed out after 60 s\n", Cause::Timeout, "timed out"),
    ("bash: line 1: frobnicate: command not found\n", Cause::NotFound, "command not found"),
    (
        "Traceback (most recent call last):\n  File \"a.py\", line 1\nModuleNotFoundError: No module named 'x'\n",
        Cause::NotFound,
        "No module named 'x'",
    ),
    (
        "Error: Cannot find module 'express'\nRequire stack:\n",
        Cause::NotFound,
        "Cannot find module 'express'",
    ),
    ("ERROR: No matching distribution found for frob==9\n", Cause::Dependency, "No matching distribution"),
    ("error: failed to select a version for `x`.\n", Cause::Dependency, "failed to select a version"),
    ("make: *** No rule to make target 'all'.  Stop.\n", Cause::NotFound, "No rule to make target 'all'"),
    ("cp: cannot open '/root/x': Permission denied\n", Cause::Permission, "Permission denied"),
    ("Segmentation fault (core dumped)\n", Cause::Crash, "Segmentation fault"),
    (
        "panic: runtime error: index out of range [3] with length 3\n\ngoroutine 1 [running]:\n",
        Cause::Crash,
        "index out of range",
    ),
    ("just some words\n\n", Cause::Other, "just some words"),
];

#[test]
fn causes_of_real_outputs_are_found() {
    for (output, cause, part) in SAMPLES {
        let signature = of(output);
        assert_eq!(signature.cause, cause, "{output}\n{signature:?}");
        assert!(signature.text.contains(part), "{output}\n{signature:?}");
    }
}

#[test]
fn different_causes_differ() {
    let mut ids: Vec<_> = SAMPLES.iter().map(|(output, ..)| of(output).id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), SAMPLES.len());
    for (a, b) in [
        ("error[E0432]: unresolved", "error[E0433]: unresolved"),
        ("cannot find x", "cannot find y"),
        ("error: no field `a` on type `T`", "error: no field `b` on type `T`"),
        ("test a ... FAILED", "test b ... FAILED"),
        ("test a ... FAILED\ntest b ... FAILED", "test a ... FAILED\ntest c ... FAILED"),
        ("src/a.c:1: error: x", "src/b.c:1: error: x"),
        ("Cannot find module 'a'", "Cannot find module 'b'"),
        ("Could not resolve host: a.org", "Could not resolve host: b.org"),
    ] {
        assert_ne!(of(a).id(), of(b).id(), "{a:?} and {b:?}");
        let mut node = Node::default();
        assert_ne!(assign(&mut node, &of(a)).0, assign(&mut node, &of(b)).0, "{a:?} and {b:?}");
    }
}

#[test]
fn silent_ends_are_told_by_their_exit_code() {
    let of = |output: &str, code| FailureSignature::with_exit(output, Some(code));
    assert_eq!(of("", 137).cause, Cause::OutOfMemory);
    assert_eq!(of("compiling\nerror: earlier\n", 137).cause, Cause::OutOfMemory);
    assert_eq!(of("", 124).cause, Cause::Timeout);
    assert_eq!(of("", 1).text, "no output");
    assert_eq!(of("x: command not found", 127).text, "command not found");
    assert_eq!(of("No space left on device", 137).cause, Cause::DiskFull);
}

#[test]
fn words_that_look_generated_are_joined_by_the_tree() {
    let mut node = Node::default();
    let ids: Vec<_> = ["k8sw9x", "q2zz7p", "a1b2c3"]
        .iter()
        .map(|pod| FailureSignature {
            cause: Cause::Other,
            text: format!("error: {pod} did not become ready"),
        })
        .map(|signature| assign(&mut node, &signature))
        .collect();
    assert!(ids.iter().all(|(id, _)| *id == ids[0].0), "{ids:?}");
    assert_eq!(ids[2].1, "error: <*> did not become ready");
}

#[test]
fn any_output_gives_a_short_signature() {
    let huge = format!("{}é\nerror: x\n{}", "ü".repeat(1 << 20), "line\n".repeat(1 << 18));
    for odd in [
        "",
        "\u{1b}",
        "\u{1b}[",
        "\u{1b}[12",
        "\u{1b}]0;x",
        "/tmp/",
        "-7",
        "\0",
        "1-",
        "\r\r\n",
        "µ",
        "1 µ",
        &huge,
    ] {
        let signature = of(odd);
        assert!(signature.text.chars().count() <= 220, "{signature:?}");
        assert!(!signature.text.is_empty() || odd.trim_matches(|c: char| c.is_control()).is_empty());
    }
}

mod mutations {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::*;

    /// What differs between two runs with the same cause.
    #[derive(Clone, Debug)]
    struct Run {
        directory: String,
        hash: String,
        number: u32,
        hour: u32,
        has_colours: bool,
        has_times: bool,
        noise: Vec<(usize, String)>,
    }

    fn run() -> impl Strategy<Value = Run> {
        let noise = prop_oneof![
            Just("   Compiling serde v1.0.1".to_owned()),
            Just("warning: unused variable: `x`".to_owned()),
            "Downloading [=>  ] [0-9]{1,3}%",
            "[0-9]{1,4} tests passed",
            "[a-zäöü✓ ]{0,40}".prop_filter("noise names no cause", |line| lexicon_is_silent(line)),
        ];
        (
            "/(home|build|mnt)/[a-z]{1,8}/[a-z0-9]{1,8}",
            "[0-9][a-f][a-f0-9]{5,38}",
            1..100_000_u32,
            0..24_u32,
            any::<bool>(),
            any::<bool>(),
            proptest::collection::vec((0..20_usize, noise), 0..12),
        )
            .prop_map(|(directory, hash, number, hour, has_colours, has_times, noise)| Run {
                directory,
                hash,
                number,
                hour,
                has_colours,
                has_times,
                noise,
            })
    }

    fn lexicon_is_silent(line: &str) -> bool {
        super::super::lexicon::look_up(line).is_none()
    }

    /// The output of one run. `TEMPLATES` name what changes.
    fn output(template: &str, run: &Run) -> String {
        let text = template
            .replace("{dir}", &run.directory)
            .replace("{hash}", &run.hash)
            .replace("{n}", &run.number.to_string())
            .replace("{tmp}", &format!("/tmp/tmp.{}", run.hash));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, noise) in &run.noise {
            // Before the cause or after it; never the only or the last word.
            let at = (*at).min(lines.len() - 1);
            lines.insert(at, noise.clone());
        }
        let decorated = lines.iter().map(|line| {
            let line = if run.has_colours { format!("\u{1b}[1;31m{line}\u{1b}[0m") } else { line.clone() };
            if run.has_times {
                format!(
                    "2026-11-{:02}T{:02}:30:{:02}.{:03}Z {line}\n",
                    run.number % 28 + 1,
                    run.hour,
                    run.number % 60,
                    run.number % 1000
                )
            } else {
                line + "\n"
            }
        });
        decorated.collect()
    }

    const TEMPLATES: [&str; 20] = [
        "error[E0432]: unresolved import `serde`\n --> {dir}/src/main.rs:{n}:5\nerror: aborting due to {n} previous errors",
        "running 2 tests\ntest net::reconnects ... FAILED\ntest result: FAILED. {n} passed; 1 failed; finished in {n}.12s",
        "/usr/bin/ld: {tmp}/cc.o: in function `main':\na.c:(.text+0x{hash}): undefined reference to `frob'\ncollect2: error: ld returned 1 exit status",
        "{dir}/src/x.c:{n}:5: error: 'foo' undeclared\nmake: *** [Makefile:{n}: x.o] Error 1",
        "FAILED tests/test_a.py::test_b - AssertionError: {n} != 2\n=== 1 failed in {n}.5s ===",
        "--- FAIL: TestParse (0.{n}s)\n    x_test.go:{n}: got {n}\nFAIL",
        "npm ERR! code ERESOLVE\nnpm ERR! A complete log of this run can be found in: {dir}/_logs/{hash}.log",
        "fatal: unable to access 'https://x.org/{hash}': Could not resolve host: x.org\nretry {n}",
        "curl: (7) Failed to connect to 10.0.0.{n} port {n} after {n} ms: Connection refused\ndone",
        "Error: Cannot find module 'express'\nRequire stack:\n- {dir}/index.js",
        "error: lost connection {n} to 0x{hash} after {n} ms\nsee {tmp}/log",
        "fatal: bad object {hash}\nwhile reading {dir}/pack-{hash}.idx",
        "FAIL src/a.test.js ({n}.5 s)\n  ● Maths › divides\n    expect(received).toBe(expected)\n    at {dir}/a.test.js:{n}:{n}",
        "Exception in thread \"main\" java.lang.RuntimeException: lost {n}\n\tat A.main(A.java:{n})",
        "[ERROR] {dir}/src/main/java/A.java:[{n},5] cannot find symbol\n[INFO] BUILD FAILURE",
        "make: *** No rule to make target 'all'.  Stop.\nafter {n} s",
        "Killed\nfatal: Out of memory: Killed process {n} (cc1plus)",
        "tar: {dir}/x: Cannot write: No space left on device\ntar: Exiting with failure status due to previous errors",
        "npm error code E429\nnpm error 429 Too Many Requests - GET https://x.org/{hash}\nafter {n} ms",
        "error: test timed out after {n} s\nsee {tmp}/log",
    ];

    #[test]
    fn a_thousand_mutations_of_one_cause_have_one_signature() {
        let mut of_templates = Vec::new();
        for template in TEMPLATES {
            let mut runner = TestRunner::new_with_rng(
                Config { cases: 1000, failure_persistence: None, ..Config::default() },
                TestRng::deterministic_rng(RngAlgorithm::ChaCha),
            );
            let ids = std::cell::RefCell::new(std::collections::BTreeMap::new());
            let tree = std::cell::RefCell::new(std::collections::BTreeMap::<String, Node>::new());
            let mutations = std::cell::Cell::new(0);
            runner
                .run(&run(), |run| {
                    let output = output(template, &run);
                    let signature = FailureSignature::of(&output);
                    let mut tree = tree.borrow_mut();
                    let node = tree.entry(super::super::template_leaf(&signature)).or_default();
                    let (id, _) = assign(node, &signature);
                    ids.borrow_mut().entry(id).or_insert((signature, output));
                    mutations.set(mutations.get() + 1);
                    Ok(())
                })
                .unwrap();
            let ids = ids.into_inner();
            assert_eq!(mutations.get(), 1000);
            assert_eq!(ids.len(), 1, "{template}\n{ids:#?}");
            of_templates.extend(ids.into_keys());
        }
        of_templates.sort();
        of_templates.dedup();
        assert_eq!(of_templates.len(), TEMPLATES.len(), "different causes differ");
        println!(
            "signatures: {} causes, 1,000 mutations of each: {} signatures",
            TEMPLATES.len(),
            of_templates.len()
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(output in "(error|\u{1b}\\[|/|[0-9]{1,3}|[a-f0-9]{8}| |\n|\r|:|\\PC){0,60}") {
        let signature = FailureSignature::of(&output);
        proptest::prop_assert_eq!(FailureSignature::of(&output), signature);
    }
}
