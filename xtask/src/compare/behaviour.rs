//! A directory of `testdata/workflows`, and a repository made of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

/// How the rule of a behaviour begins that is no rule of GitHub's: what only this program refuses or says.
const OWN_RULE: &str = "tci: ";

/// A behaviour.
pub(super) struct Behaviour {
    pub(super) name: String,
    directory: PathBuf,
    /// Whose rule it shows, and where it is written.
    pub(super) rule: String,
    /// `run.json`: events, secrets and the like.
    pub(super) how: Value,
    /// `expected.json`.
    pub(super) expected: Value,
}

/// The behaviours below `root`, by name.
pub(super) fn all(root: &Path) -> Result<Vec<Behaviour>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let directory = entry?.path();
        if directory.join("workflow.yml").is_file() {
            all.push(Behaviour::read(directory)?);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

impl Behaviour {
    fn read(directory: PathBuf) -> Result<Behaviour> {
        let json = |name: &str| match fs::read_to_string(directory.join(name)) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("{}: {name}", directory.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Object(Map::new())),
            Err(error) => Err(error).with_context(|| format!("{}: {name}", directory.display())),
        };
        let expected = json("expected.json")?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rule = expected["rule"].as_str().with_context(|| format!("{name} cites no rule"))?.to_owned();
        Ok(Behaviour { name, rule, how: json("run.json")?, expected, directory })
    }

    /// Whether the rule is one of this program alone, so that others cannot break it.
    pub(super) fn is_own(&self) -> bool {
        self.rule.starts_with(OWN_RULE)
    }

    /// Whether it uses files of its repository without a checkout. `tci` has them in the workspace in any case, others do
    /// not.
    pub(super) fn takes_its_tree_for_granted(&self) -> bool {
        let text = fs::read_to_string(self.directory.join("workflow.yml")).unwrap_or_default();
        self.directory.join("files").is_dir() && !text.contains("actions/checkout")
    }

    /// The repositories of actions: owner, name and directory, which has a directory for each tag.
    pub(super) fn repositories(&self) -> Result<Vec<(String, String, PathBuf)>> {
        let mut found = Vec::new();
        for owner in sorted(&self.directory.join("repositories"))? {
            for repository in sorted(&owner)? {
                found.push((file_name(&owner), file_name(&repository), repository));
            }
        }
        Ok(found)
    }

    /// Makes a repository out of it in `scratch`, from which all else is removed. A commit, because both programs say
    /// which one runs; an origin, because both name the repository after it.
    pub(super) fn place(&self, scratch: &Path) -> Result<PathBuf> {
        if scratch.exists() {
            fs::remove_dir_all(scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
        }
        let repository = scratch.join("rocket");
        let workflows = repository.join(".github/workflows");
        fs::create_dir_all(&workflows)?;
        copy(&self.directory.join("files"), &repository)?;
        copy(&self.directory.join("called"), &workflows)?;
        fs::copy(self.directory.join("workflow.yml"), workflows.join("workflow.yml"))?;
        git(&repository, &["init", "--quiet"])?;
        git(&repository, &["remote", "add", "origin", "https://github.com/acme/rocket.git"])?;
        commit(&repository, "first")?;
        Ok(repository)
    }

    /// Makes its repositories of actions below `to`: a commit and a tag for each directory of one.
    pub(super) fn serve(&self, to: &Path) -> Result<()> {
        for (owner, name, from) in self.repositories()? {
            let target = to.join(owner).join(name);
            fs::create_dir_all(&target)?;
            git(&target, &["init", "--quiet"])?;
            for tag in sorted(&from)? {
                git(&target, &["rm", "-r", "--quiet", "--ignore-unmatch", "."])?;
                copy(&tag, &target)?;
                commit(&target, &file_name(&tag))?;
                git(&target, &["tag", &file_name(&tag)])?;
            }
        }
        Ok(())
    }
}

fn commit(repository: &Path, message: &str) -> Result<()> {
    git(repository, &["add", "--all"])?;
    git(repository, &["commit", "--quiet", "--allow-empty", "--message", message])
}

fn git(directory: &Path, args: &[&str]) -> Result<()> {
    let settings = ["init.defaultBranch=main", "user.name=tci", "user.email=tci@example.org"];
    let mut command = Command::new("git");
    command.current_dir(directory).args(settings.iter().flat_map(|setting| ["-c", setting]));
    let status = command.args(args).status().context("cannot start git")?;
    ensure!(status.success(), "git {} failed in {}", args.join(" "), directory.display());
    Ok(())
}

/// Copies what is in `from`, if it is there, with the modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in sorted(from)? {
        let target = to.join(file_name(&path));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}

/// What a directory has; nothing if it is not there.
fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<Result<Vec<PathBuf>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_cites_a_rule_and_there_are_sixty() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/workflows");
        let all = all(&root).unwrap();
        assert!(all.len() >= 60, "{}", all.len());
        for behaviour in all {
            let cited = ["GitHub: ", OWN_RULE].iter().any(|whose| behaviour.rule.starts_with(whose));
            assert!(cited, "{}: {}", behaviour.name, behaviour.rule);
        }
    }
}
