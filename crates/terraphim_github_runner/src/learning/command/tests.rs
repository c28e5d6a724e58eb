use super::CommandIdentity;

fn of(text: &str) -> CommandIdentity {
    CommandIdentity::of(text)
}

#[test]
fn what_does_not_matter_is_left_out() {
    for (a, b) in [
        ("make -j 8 all", "sudo make all -j 4"),
        ("make -j8", "make -j4"),
        ("FOO=1 BAR='x y' cargo test", "cargo test"),
        ("env -u HOME A=1 cargo test --release -p x", "cargo test -p x --release"),
        ("time nice -n 19 timeout -k 5 60 pytest -q", "pytest -q"),
        ("sudo -u ci -E env A=1 make", "make"),
        ("cargo  test   # a comment", "cargo test"),
        ("cargo test 2>&1 | tee /tmp/log.12", "cargo test | tee /tmp/log.77"),
        ("cargo test >/dev/null 2>&1", "cargo test"),
        ("(cd a && make)", "cd a && make"),
        ("bash -c 'cd a && make'", "cd a && make"),
        ("cat <<EOF\nrm -rf /\nEOF\nmake", "cat <<EOF\nls\nEOF\nmake"),
        ("git checkout 3f2a99c1b0aa", "git checkout 99aa77c10b11"),
        ("curl -o /tmp/tmp.Xy12/a https://x.org/a", "curl -o /tmp/tmp.99/a https://x.org/a"),
        ("make \\\n  all", "make all"),
        ("/usr/bin/make all", "make all"),
        ("if true; then\n  make\nfi", "true\nmake"),
    ] {
        assert_eq!(of(a).canonical, of(b).canonical, "{a:?} and {b:?}");
        assert_ne!(of(a).exact, of(b).exact, "{a:?}");
    }
}

#[test]
fn what_matters_stays() {
    for (a, b) in [
        ("cd a && make", "cd a && rm"),
        ("cargo test", "cargo build"),
        ("cargo test -p a", "cargo test -p b"),
        ("a && b", "a || b"),
        ("a | b", "a ; b"),
        ("make test", "make install"),
        ("npm run lint", "npm run build"),
        ("echo 'a && b'", "echo a && b"),
        ("python3 a.py", "python3 b.py"),
        ("cargo test -- --ignored", "cargo test --ignored"),
    ] {
        assert_ne!(of(a).canonical, of(b).canonical, "{a:?} and {b:?}");
    }
}

#[test]
fn tools_and_subcommands() {
    for (text, subcommand, tool) in [
        ("cargo +nightly test --all", "cargo test", "cargo"),
        ("cargo t -p x", "cargo test", "cargo"),
        ("cd a && make", "make", "make"),
        ("cd a && rm -rf b", "rm", "rm"),
        ("npm ci && npm run build", "npm ci && npm run build", "npm"),
        ("npm i", "npm install", "npm"),
        ("docker compose up -d db", "docker compose up", "docker"),
        ("python3.11 -m pytest -x tests", "pytest", "pytest"),
        ("python -m pip install x", "pip install", "pip"),
        ("./gradlew test", "gradle test", "gradle"),
        ("npx jest@29 --ci", "jest", "jest"),
        ("bash scripts/build.sh --fast", "bash build.sh", "bash"),
        ("cargo build && npm test", "cargo build && npm test", "cargo + npm"),
        ("for f in a b c; do\n  make $f\ndone", "make $f", "make"),
        ("cd somewhere", "cd", "cd"),
        ("", "", ""),
    ] {
        let identity = of(text);
        assert_eq!((identity.subcommand.as_str(), identity.tool.as_str()), (subcommand, tool), "{text:?}");
    }
}

#[test]
fn any_text_has_an_identity_of_bounded_size() {
    let long = "make ü ".repeat(100_000);
    for odd in
        ["'", "\"", "$(", "${", "`", "<<", "<<E\n", "&&", "|", "\\", "((", "a <", "bash -c", "sudo", &long]
    {
        let identity = of(odd);
        for level in [&identity.exact, &identity.canonical, &identity.subcommand, &identity.tool] {
            assert!(level.chars().count() <= 260, "{odd:.20}: {level}");
        }
    }
    assert_ne!(of(&long).exact, of(&format!("{long}x")).exact);
    let mut nested = "make".to_owned();
    for _ in 0..50 {
        nested = format!("bash -c '{}'", nested.replace('\'', "'\\''"));
        if nested.len() > 100_000 {
            break;
        }
    }
    let _ = of(&nested);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = of(&text);
        }

        #[test]
        fn shell_like_text_does_not_panic(text in "[a-z '\"$(){}`|&;<>\\\\\n#=-]{0,80}") {
            let identity = of(&text);
            prop_assert_eq!(&of(&text), &identity);
        }

        #[test]
        fn variables_before_a_command_and_the_order_of_flags_do_not_matter(
            name in "[A-Z]{1,5}", value in "[a-z0-9]{0,5}", flags in proptest::sample::subsequence(vec!["--release", "--all", "-q", "-v"], 0..4).prop_shuffle()
        ) {
            let mut ordered = flags.clone();
            ordered.sort_unstable();
            let a = of(&format!("{name}={value} cargo test {}", flags.join(" ")));
            prop_assert_eq!(a.canonical, of(&format!("cargo test {}", ordered.join(" "))).canonical);
        }
    }
}
