//! What a repository says about itself by its files.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde::Serialize;

/// A language, or a way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// `Cargo.toml`
    Rust,
    /// `package.json`
    Node,
    /// `pyproject.toml`, `setup.py`, `requirements.txt`, ...
    Python,
    /// `go.mod`
    Go,
    /// `pom.xml`
    Maven,
    /// `build.gradle`, `build.gradle.kts`
    Gradle,
    /// `CMakeLists.txt`
    Cmake,
    /// `meson.build`
    Meson,
    /// `Makefile`
    Make,
    /// `Dockerfile`
    Docker,
}

/// What is known of a repository. Without one, everything is empty and only tools that a sentence names are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepositoryFacts {
    /// What it is written in, in a fixed order.
    pub languages: BTreeSet<Language>,
    /// Files in its top directory that matter, such as lock files.
    pub files: BTreeSet<String>,
    /// The scripts of `package.json`.
    pub scripts: BTreeSet<String>,
    /// The targets of the `Makefile`.
    pub targets: BTreeSet<String>,
}

/// A file of the top directory and what it tells.
const SIGNS: &[(&str, Option<Language>)] = &[
    ("Cargo.toml", Some(Language::Rust)),
    ("package.json", Some(Language::Node)),
    ("pyproject.toml", Some(Language::Python)),
    ("setup.py", Some(Language::Python)),
    ("setup.cfg", Some(Language::Python)),
    ("requirements.txt", Some(Language::Python)),
    ("Pipfile", Some(Language::Python)),
    ("tox.ini", Some(Language::Python)),
    ("go.mod", Some(Language::Go)),
    ("pom.xml", Some(Language::Maven)),
    ("build.gradle", Some(Language::Gradle)),
    ("build.gradle.kts", Some(Language::Gradle)),
    ("CMakeLists.txt", Some(Language::Cmake)),
    ("meson.build", Some(Language::Meson)),
    ("Makefile", Some(Language::Make)),
    ("makefile", Some(Language::Make)),
    ("GNUmakefile", Some(Language::Make)),
    ("Dockerfile", Some(Language::Docker)),
    ("Cargo.lock", None),
    ("rust-toolchain.toml", None),
    ("rust-toolchain", None),
    ("package-lock.json", None),
    ("yarn.lock", None),
    ("pnpm-lock.yaml", None),
    (".nvmrc", None),
    (".node-version", None),
    (".python-version", None),
    ("poetry.lock", None),
    ("uv.lock", None),
    ("go.sum", None),
    ("gradlew", None),
    ("mvnw", None),
];

/// More of a `package.json` or `Makefile` is not read.
const MAX_FILE: u64 = 1 << 20;

impl RepositoryFacts {
    /// Looks into the top directory of a repository.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn read(directory: &Path) -> io::Result<RepositoryFacts> {
        let mut facts = RepositoryFacts::default();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let Some((sign, language)) = SIGNS.iter().find(|(sign, _)| name == *sign) else { continue };
            facts.files.insert((*sign).to_owned());
            facts.languages.extend(*language);
        }
        if facts.has("package.json") {
            facts.scripts = scripts(&text(&directory.join("package.json")));
        }
        if let Some(makefile) = ["GNUmakefile", "makefile", "Makefile"].iter().find(|name| facts.has(name)) {
            facts.targets = targets(&text(&directory.join(makefile)));
        }
        Ok(facts)
    }

    /// Facts of a repository with these files in its top directory.
    #[must_use]
    pub fn of_files(names: &[&str]) -> RepositoryFacts {
        let mut facts = RepositoryFacts::default();
        for (sign, language) in SIGNS.iter().filter(|(sign, _)| names.contains(sign)) {
            facts.files.insert((*sign).to_owned());
            facts.languages.extend(*language);
        }
        facts
    }

    /// Whether the top directory has this file.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.contains(name)
    }
}

/// A file that cannot be read says nothing.
fn text(path: &Path) -> String {
    let is_small = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX_FILE);
    if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

fn scripts(package: &str) -> BTreeSet<String> {
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    package["scripts"].as_object().map(|scripts| scripts.keys().cloned().collect()).unwrap_or_default()
}

/// Names before a `:` at the start of a line, without variables and special targets.
fn targets(makefile: &str) -> BTreeSet<String> {
    let named = makefile.lines().filter_map(|line| {
        let (names, rest) = line.split_once(':')?;
        (!rest.starts_with('=') && !names.starts_with(['\t', ' ', '#', '.'])).then_some(names)
    });
    let plain = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    named.flat_map(str::split_whitespace).filter(plain).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_recognised_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("package.json", r#"{"scripts": {"lint": "eslint", "build": "x"}}"#);
        write("Makefile", "X := 1\nall: build\nbuild test: x.c\n\tcc x.c\n.PHONY: all\n%.o: %.c\n# c: d\n");
        write("Cargo.toml", "");
        write("notes.txt", "");
        let facts = RepositoryFacts::read(dir.path()).unwrap();
        assert_eq!(facts.languages, BTreeSet::from([Language::Rust, Language::Node, Language::Make]));
        assert_eq!(facts.scripts, BTreeSet::from(["build".into(), "lint".into()]));
        assert_eq!(facts.targets, BTreeSet::from(["all".into(), "build".into(), "test".into()]));
        write("package.json", "{");
        assert!(RepositoryFacts::read(dir.path()).unwrap().scripts.is_empty());
        assert!(RepositoryFacts::read(&dir.path().join("none")).is_err());
    }
}
