//! Runs a behaviour with `tci` and with act.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::behaviour::Behaviour;

/// Seconds after which a program is ended that hangs. The slowest behaviour takes a minute in an emulated VM.
const LIMIT_S: &str = "300";

/// Which act answers with a copy of the working tree.
const CHECKOUT: &str = "actions/checkout@v4";

/// What a program made of a behaviour.
pub(super) struct Ran {
    /// It ended with 0.
    pub(super) succeeded: bool,
    /// Everything that it wrote and kept, and what the processes of each job wrote in one piece.
    pub(super) words: String,
    /// The report of `tci run --json`; of act as much as can be read out of its lines.
    pub(super) report: Value,
}

/// The program under test.
pub(super) struct Tci {
    pub(super) program: PathBuf,
    /// A data directory with guest images.
    pub(super) images: PathBuf,
}

impl Tci {
    /// Runs a behaviour in a VM.
    pub(super) fn run(&self, behaviour: &Behaviour, repository: &Path) -> Result<Ran> {
        let data = repository.with_file_name("data");
        fs::create_dir_all(&data)?;
        for name in ["images", "cache"] {
            let shared = self.images.join(name);
            fs::create_dir_all(&shared)?;
            std::os::unix::fs::symlink(shared, data.join(name))?;
        }
        self.store_settings(&behaviour.how, repository)?;
        let report = repository.with_file_name("report.json");
        let mut command = self.command(repository);
        command.args(["run", ".github/workflows/workflow.yml", "--json"]).arg(&report);
        let mirror = repository.with_file_name("mirror");
        behaviour.serve(&mirror)?;
        if mirror.is_dir() {
            command.arg("--action-mirror").arg(&mirror);
        }
        if let Some(isolation) = behaviour.how["isolation"].as_str() {
            command.args(["--isolation", isolation]);
        }
        command.args(["--event", event_name(&behaviour.how)]);
        give(&mut command, &behaviour.how, repository)?;
        let output = end(&mut command)?;
        // A workflow that is refused has no run.
        let log = self.command(repository).args(["runs", "logs", "1"]).output()?;
        let show = self.command(repository).args(["runs", "show", "1", "--json"]).output()?;
        let report = fs::read_to_string(&report).unwrap_or_default();
        let log = text(&log.stdout);
        let words = [text(&output.stdout), text(&output.stderr), without_groups(&log), log].concat();
        Ok(Ran {
            succeeded: output.status.success(),
            words: words + &text(&show.stdout) + &report,
            report: serde_json::from_str(&report).unwrap_or(Value::Null),
        })
    }

    fn command(&self, repository: &Path) -> Command {
        let mut command = within(LIMIT_S, &self.program, repository);
        command.arg("--data-dir").arg(repository.with_file_name("data"));
        command
    }

    /// What a run is not given but finds.
    fn store_settings(&self, how: &Value, repository: &Path) -> Result<()> {
        let environments = how["environments"].as_object().into_iter().flatten();
        // Those of the repository too: what is given with a run is stronger than an environment.
        let all = how.get("environments").map(|_| ("", how));
        for (environment, own) in all.into_iter().chain(environments.map(|(name, own)| (name.as_str(), own)))
        {
            for (name, kind) in [("secret", "secrets"), ("var", "vars")] {
                let pairs = own[kind].as_object().into_iter().flatten();
                let line = |(name, value): (&String, &Value)| {
                    format!("{name}={}\n", value.as_str().unwrap_or_default())
                };
                let file = repository.with_file_name("settings.env");
                fs::write(&file, pairs.map(line).collect::<String>())?;
                let mut command = self.command(repository);
                command.args([name, "set", "-f"]).arg(&file);
                if !environment.is_empty() {
                    command.args(["--env", environment]);
                }
                let output = end(&mut command)?;
                ensure!(output.status.success(), "cannot set settings: {}", text(&output.stderr));
            }
        }
        Ok(())
    }
}

/// Why act is not run.
pub(super) fn why_not_act(behaviour: &Behaviour, has_act: bool) -> Option<&'static str> {
    let how = &behaviour.how;
    if !has_act {
        Some("not installed")
    } else if behaviour.is_own() {
        Some("a rule of tci alone")
    } else if !how["environments"].is_null() || !how["isolation"].is_null() {
        Some("has no such setting")
    } else if how["jobs"].as_array().is_some_and(|jobs| jobs.len() > 1) {
        Some("runs one job or all")
    } else {
        None
    }
}

/// Runs a behaviour with act as processes of this machine.
pub(super) fn act(behaviour: &Behaviour, repository: &Path) -> Result<Ran> {
    let mut command = within(LIMIT_S, Path::new("act"), repository);
    command.args([event_name(&behaviour.how), "--json", "-W", ".github/workflows/workflow.yml"]);
    command.args(["-P", "ubuntu-latest=-self-hosted"]);
    let is_checkout_added = behaviour.takes_its_tree_for_granted();
    if is_checkout_added {
        add_checkout(&repository.join(".github/workflows/workflow.yml"))?;
    }
    for (owner, name, directory) in behaviour.repositories()? {
        let tags = fs::read_dir(&directory)?.collect::<Result<Vec<_>, _>>()?;
        let newest = tags.iter().map(fs::DirEntry::path).max().context("a repository has a tag")?;
        let tags = tags.iter().map(|tag| (tag.file_name().to_string_lossy().into_owned(), tag.path()));
        for (reference, path) in tags.chain([("main".to_owned(), newest)]) {
            let place = format!("{owner}/{name}@{reference}={}", path.display());
            command.args(["--local-repository", &place]);
        }
    }
    give(&mut command, &behaviour.how, repository)?;
    let output = end(&mut command)?;
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    let mut jobs = Jobs { is_checkout_added, ..Jobs::default() };
    let other: String = said.lines().filter(|line| !jobs.take(line)).collect();
    Ok(Ran {
        succeeded: output.status.success(),
        words: jobs.words() + &other + &error,
        report: jobs.report(),
    })
}

/// Puts a checkout before the steps of every job.
fn add_checkout(workflow: &Path) -> Result<()> {
    let text = fs::read_to_string(workflow)?;
    let mut with = String::new();
    for line in text.lines() {
        match line.split_once("steps:") {
            Some((before, "")) => with += &format!("{line}\n{before}  - {{uses: {CHECKOUT}}}\n"),
            Some((before, rest)) if rest.starts_with(" [") => {
                with += &format!("{before}steps: [{{uses: {CHECKOUT}}}, {}\n", &rest[2..]);
            }
            _ => with += &format!("{line}\n"),
        }
    }
    Ok(fs::write(workflow, with)?)
}

/// The jobs that act's lines of JSON tell of, by id and matrix.
#[derive(Default)]
struct Jobs {
    by_id: BTreeMap<(String, String), ActJob>,
    /// The first step of each is ours.
    is_checkout_added: bool,
}

#[derive(Default)]
struct ActJob {
    written: String,
    said: String,
    steps: Vec<Value>,
    conclusion: Value,
}

impl Jobs {
    /// Reads a line; `false` for one of no job.
    fn take(&mut self, line: &str) -> bool {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
        let Some(id) = line["jobID"].as_str() else { return false };
        let job = self.by_id.entry((id.to_owned(), line["matrix"].to_string())).or_default();
        let words = line["msg"].as_str().unwrap_or_default();
        if line["raw_output"] == true {
            job.written += words;
        } else {
            job.said += &format!("{words}\n");
        }
        let is_ours = self.is_checkout_added && line["step"] == CHECKOUT;
        // A step of a composite action has the ids of those around it before its own.
        let is_of_job = line["stepID"].as_array().is_some_and(|path| path.len() == 1);
        // Of actions, it tells of stages that they do not have.
        if !line["stepResult"].is_null() && line["stage"] == "Main" && is_of_job && !is_ours {
            job.steps.push(json!({"outcome": line["stepResult"]}));
        }
        if !line["jobResult"].is_null() {
            job.conclusion = line["jobResult"].clone();
        }
        true
    }

    fn words(&self) -> String {
        self.by_id.values().map(|job| format!("{}{}", job.written, job.said)).collect()
    }

    fn report(self) -> Value {
        let job = |((id, _), job): ((String, String), ActJob)| json!({"id": id, "conclusion": job.conclusion, "steps": job.steps});
        json!({"jobs": self.by_id.into_iter().map(job).collect::<Vec<_>>()})
    }
}

/// A program in the repository that is killed when it hangs, with a home of its own. act asks for a configuration on the
/// terminal unless it has one.
fn within(limit: &str, program: &Path, repository: &Path) -> Command {
    let home = repository.with_file_name("home");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", limit]).arg(program).current_dir(repository).stdin(Stdio::null());
    for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", home);
    command
}

fn end(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot start {command:?}"))
}

fn event_name(how: &Value) -> &str {
    how["event_name"].as_str().unwrap_or("push")
}

/// The flags that both programs have.
fn give(command: &mut Command, how: &Value, repository: &Path) -> Result<()> {
    let home = repository.with_file_name("home");
    fs::create_dir_all(home.join(".config/act"))?;
    fs::write(home.join(".config/act/actrc"), "")?;
    if !how["event"].is_null() {
        let path = repository.with_file_name("event.json");
        fs::write(&path, how["event"].to_string())?;
        command.arg("--eventpath").arg(path);
    }
    for (flag, key) in [("--env", "env"), ("--var", "vars"), ("--secret", "secrets"), ("--input", "inputs")] {
        let is_stored = how.get("environments").is_some() && matches!(key, "vars" | "secrets");
        for (name, value) in how[key].as_object().filter(|_| !is_stored).unwrap_or(&Map::new()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.arg(flag).arg(format!("{name}={text}"));
        }
    }
    if let Some(token) = how["token"].as_str() {
        command.args(["--secret", &format!("GITHUB_TOKEN={token}")]);
    }
    for job in how["jobs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        command.args(["--job", job]);
    }
    for (key, values) in how["matrix"].as_object().into_iter().flatten() {
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            command.args(["--matrix", &format!("{key}:{value}")]);
        }
    }
    Ok(())
}

/// A log without the lines that begin and end groups.
fn without_groups(log: &str) -> String {
    let is_mark = |line: &&str| line.starts_with("##[group]") || line.starts_with("##[endgroup]");
    log.lines().filter(|line| !is_mark(line)).map(|line| format!("{line}\n")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_comes_before_all_steps() {
        let directory = std::env::temp_dir().join(format!("tci-compare-{}", std::process::id()));
        fs::write(&directory, "jobs:\n  a:\n    steps:\n      - run: x\n  b:\n    steps: [{run: y}]\n")
            .unwrap();
        add_checkout(&directory).unwrap();
        let text = fs::read_to_string(&directory).unwrap();
        fs::remove_file(&directory).unwrap();
        let step = "{uses: actions/checkout@v4}";
        assert_eq!(
            text,
            format!(
                "jobs:\n  a:\n    steps:\n      - {step}\n      - run: x\n  b:\n    steps: [{step}, {{run: y}}]\n"
            )
        );
    }

    #[test]
    fn lines_of_act_are_read_job_by_job() {
        let mut jobs = Jobs::default();
        for line in [
            r#"{"jobID":"a","matrix":{},"msg":"one\n","raw_output":true}"#,
            r#"{"jobID":"b","matrix":{},"msg":"between\n","raw_output":true}"#,
            r#"{"jobID":"a","matrix":{},"msg":"two\n","raw_output":true}"#,
            r#"{"jobID":"a","matrix":{},"msg":"inner","stage":"Main","stepID":["x","y"],"stepResult":"failure"}"#,
            r#"{"jobID":"a","matrix":{},"msg":"done","stage":"Main","stepID":["x"],"stepResult":"success"}"#,
            r#"{"jobID":"a","matrix":{},"msg":"done","stage":"Post","stepID":["x"],"stepResult":"success"}"#,
            r#"{"jobID":"a","matrix":{},"msg":"end","jobResult":"success"}"#,
        ] {
            assert!(jobs.take(line));
        }
        assert!(!jobs.take("no JSON") && !jobs.take(r#"{"msg":"no job"}"#));
        assert!(jobs.words().contains("one\ntwo\n"));
        assert_eq!(
            jobs.report()["jobs"][0],
            json!({"id": "a", "conclusion": "success", "steps": [{"outcome": "success"}]})
        );
    }
}
