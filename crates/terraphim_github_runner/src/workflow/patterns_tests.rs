use super::*;

fn refused(description: &str) -> String {
    match parse(description) {
        Err(LlmError::NotUnderstood { sentence }) => sentence,
        other => panic!("{description:?}: {other:?}"),
    }
}

fn commands(description: &str) -> Vec<String> {
    parse(description).unwrap().steps.into_iter().map(|step| step.command).collect()
}

#[test]
fn a_whole_description_is_read() {
    let workflow = parse(
        "Name: Nightly\nOn every push.\n\
         1. First run `apt-get install -y jq`.\n\
         2. Build the Rust project within 10 minutes, then test it with cargo.\n\
         - run `npm ci; npm test` in /workspace/web within 30 s, it may fail\n\
         Finally: `rm -rf /tmp/x.y`; clean up with `docker ps`",
    )
    .unwrap();
    let step = |command: &str, dir: &str, may_fail, seconds| WorkflowStep {
        name: command.into(),
        command: command.into(),
        working_dir: dir.into(),
        continue_on_error: may_fail,
        timeout_seconds: seconds,
    };
    assert_eq!((workflow.name.as_str(), workflow.trigger.as_str()), ("Nightly", "push"));
    assert_eq!(workflow.setup_commands, ["apt-get install -y jq"]);
    assert_eq!(
        workflow.steps,
        [
            step("cargo build --all-targets", "/workspace", false, 600),
            step("cargo test", "/workspace", false, 300),
            step("npm ci; npm test", "/workspace/web", true, 30),
        ]
    );
    assert_eq!(workflow.cleanup_commands, ["rm -rf /tmp/x.y", "docker ps"]);
    workflow.check().unwrap();
}

#[test]
fn activities_with_tools_are_known() {
    for (description, command) in [
        ("lint with clippy", "cargo clippy --all-targets -- -D warnings"),
        ("check the Rust formatting", "cargo fmt --all --check"),
        ("install the npm packages", "npm ci"),
        ("install the pip packages", "python3 -m pip install -r requirements.txt"),
        ("run the python unit tests", "python3 -m pytest"),
        ("compile it with Go", "go build ./..."),
        ("make test", "make test"),
    ] {
        assert_eq!(commands(description), [command], "{description}");
    }
}

#[test]
fn what_is_not_understood_is_refused_whole() {
    assert_eq!(refused("run `make`. Deploy it to the moon"), "Deploy it to the moon");
    assert_eq!(refused("run `make` unless it rains"), "run `make` unless it rains");
    assert_eq!(refused("build it"), "build it");
    assert_eq!(refused("run `make` within ten minutes"), "run `make` within ten minutes");
    assert_eq!(refused("run `make` within 7 h"), "run `make` within 7 h");
    assert_eq!(refused("finally run `make` in /x"), "finally run `make` in /x");
    assert_eq!(refused("do not run `rm -rf /`"), "do not run `rm -rf /`");
    assert!(matches!(parse("on push"), Err(LlmError::NoSteps)));
}

#[test]
fn code_is_never_split_or_changed() {
    assert_eq!(commands("run `a; b. c\nthen d` then `E F`"), ["a; b. c\nthen d", "E F"]);
    assert_eq!(commands("`one` and `two`"), ["one", "two"]);
}

#[test]
fn the_same_description_gives_the_same_workflow() {
    let text = "on pull requests\nbuild with cargo then `x`";
    assert_eq!(parse(text).unwrap(), parse(text).unwrap());
    assert_eq!(parse(text).unwrap().trigger, "pull_request");
}

#[test]
fn any_text_is_read_without_panic() {
    for text in ["", "`", "``", "```", "name:", ".", "…", "1)", "in /", "within", "timeout 1", "\0", "- - -"]
    {
        let _ = parse(text);
    }
}
