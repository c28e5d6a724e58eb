//! Every sentence of `testdata/words` with its expected structure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use terraphim_actions::workflow::{StepKind, Workflow};

use super::*;

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/words").join(name)
}

fn cases() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(testdata("sentences.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let split = |line: &str| {
        let (files, sentence) = line.split_once(" | ").unwrap_or_else(|| panic!("no ` | ` in {line:?}"));
        (files.to_owned(), sentence.to_owned())
    };
    lines.map(split).collect()
}

fn facts(files: &str) -> RepositoryFacts {
    RepositoryFacts::of_files(&files.split(' ').collect::<Vec<_>>())
}

/// What the workflow is made of, as the checker's own model has it, and not as the translator thinks.
fn structure(workflow: &str) -> String {
    let parsed = Workflow::parse(workflow, "w.yml").unwrap();
    let mut out = String::new();
    if let Some(name) = parsed.name.as_ref().filter(|name| name.value != "CI") {
        let _ = writeln!(out, "  name: {}", name.value);
    }
    for (name, trigger) in &parsed.on.events {
        let mut line = format!("  on {name}");
        let lists = [
            ("branches", &trigger.branches),
            ("tags", &trigger.tags),
            ("paths", &trigger.paths),
            ("paths-ignore", &trigger.paths_ignore),
            ("types", &trigger.types),
            ("workflows", &trigger.workflows),
        ];
        for (key, list) in lists {
            if let Some(list) = list {
                let values: Vec<&str> = list.list.iter().map(|one| one.value.as_str()).collect();
                let _ = write!(line, " {key}={}", values.join(","));
            }
        }
        for time in &trigger.schedule {
            let _ = write!(line, " [{}]", time.cron.value);
        }
        for input in trigger.dispatch_inputs.keys() {
            let _ = write!(line, " input={input}");
        }
        let _ = writeln!(out, "{line}");
    }
    for line in explain(&parsed) {
        let matters = ["Job ", "  In the env", "  With the ser", "  At most", "  One ", "One ", "It reads"];
        let is_matrix = line.contains("for each of");
        if is_matrix || matters.iter().any(|start| line.starts_with(start)) {
            let _ = writeln!(out, "  {line}");
        }
    }
    for job in parsed.jobs.values() {
        for step in &job.steps {
            let text = match &step.kind {
                StepKind::Run { run, .. } => {
                    let text = run
                        .literal_text()
                        .map_or_else(|| "(expression)".to_owned(), |text| text.trim().to_owned());
                    if text.contains("sh.rustup.rs") {
                        "(install rust)".to_owned()
                    } else {
                        text.replace('\n', " ; ")
                    }
                }
                StepKind::Uses { uses, with } => {
                    let path = with
                        .as_ref()
                        .and_then(|with| with.get("path"))
                        .and_then(|path| path.as_str().map(str::to_owned));
                    let path =
                        path.map(|path| format!(" {}", path.trim().replace('\n', ","))).unwrap_or_default();
                    format!("{}{path}", uses.value.trim_start_matches("actions/"))
                }
                _ => "(other)".to_owned(),
            };
            if text == "checkout@v4" {
                continue;
            }
            let may_fail = if step.continue_on_error.is_some() { " (may fail)" } else { "" };
            let _ = writeln!(out, "    {}: {text}{may_fail}", job.id.value);
        }
    }
    if let Some(env) = &parsed.env {
        for (name, value) in env.entries() {
            let _ = writeln!(out, "  env {}={}", name.literal_text().unwrap(), value.literal_text().unwrap());
        }
    }
    out
}

fn describe(files: &str, sentence: &str) -> String {
    let mut out = format!("{files} | {sentence}\n");
    let lost = |out: &mut String, lost: &[NotUnderstood]| {
        for one in lost {
            assert_eq!(&sentence[one.start..one.start + one.text.len()], one.text);
            let _ = writeln!(out, "  NOT UNDERSTOOD: {}", one.text);
        }
    };
    match translate(sentence, &facts(files)) {
        Ok(translation) => {
            out.push_str(&structure(&translation.workflow));
            lost(&mut out, &translation.not_understood);
        }
        Err(TranslateError::Nothing { not_understood, .. }) => {
            out.push_str("  NOTHING\n");
            lost(&mut out, &not_understood);
        }
        Err(error) => panic!("{sentence:?}: {error:?}"),
    }
    out
}

#[test]
fn two_hundred_sentences_have_their_expected_structure() {
    let cases = cases();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let actual: String = cases.iter().map(|(files, sentence)| describe(files, sentence) + "\n").collect();
    let path = testdata("expected.txt");
    if std::env::var_os("TCI_BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let blocks = |text: &str| -> BTreeMap<String, String> {
        let split =
            |block: &str| block.split_once('\n').map(|(head, rest)| (head.to_owned(), rest.to_owned()));
        text.split("\n\n").filter_map(|block| split(block.trim_start_matches('\n'))).collect()
    };
    let (actual, expected) = (blocks(&actual), blocks(&expected));
    for (head, structure) in &actual {
        assert_eq!(Some(structure), expected.get(head), "{head}");
    }
    assert_eq!(actual.len(), expected.len(), "expected.txt has cases that are no more");
}

/// What a language model proposes is checked so, and told the faults.
#[test]
fn zones_that_do_not_exist_and_keys_that_are_not_executed_are_faults() {
    let job = "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [run: make]\n";
    let zone = |name: &str| {
        format!("on:\n  schedule: [{{cron: '0 3 * * *', timezone: {name}}}]\npermissions: {{}}\n{job}")
    };
    validate(&zone("Europe/Berlin")).unwrap();
    let faults = validate(&zone("Europe/Atlantis")).unwrap_err();
    assert_eq!(faults[0].message, "There is no time zone `Europe/Atlantis`");
    let kept = format!("on: push\npermissions: {{}}\n{job}    snapshot: my-image\n");
    validate(&kept).unwrap();
    let faults = validate_to_run(&kept).unwrap_err();
    assert_eq!(faults[0].message, "`snapshot` is not executed by this version");
    assert_eq!(faults[0].hint.as_deref(), Some("remove it"));
}

#[test]
fn a_phrase_is_commands_when_every_word_of_it_is_understood() {
    assert_eq!(commands("test with pytest").unwrap(), ["python -m pytest"]);
    assert_eq!(commands("lint with clippy and run cargo test").unwrap().len(), 2);
    for phrase in ["", "build it", "deploy to production with make", "cargo test on mars"] {
        assert_eq!(commands(phrase), None, "{phrase}");
    }
}
