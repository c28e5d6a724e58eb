//! Commands that mean the same: `npm ci`, `yarn install`, `pnpm i`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a term means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concept {
    /// Equal for terms that mean the same.
    pub id: u64,
    /// The normal term.
    pub nterm: String,
    /// Where it is explained.
    #[serde(default)]
    pub url: Option<String>,
}

/// A thesaurus file cannot be used.
#[derive(Debug, Error)]
pub enum ThesaurusError {
    /// It is no JSON object of terms.
    #[error("{}: no thesaurus: an object of term -> {{\"id\", \"nterm\", \"url\"}} is wanted", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Too many or too long terms.
    #[error("cannot make an automaton of {terms} terms")]
    TooLarge {
        /// How many terms there are.
        terms: usize,
        /// Why.
        #[source]
        source: aho_corasick::BuildError,
    },
}

const BUILT_IN: [(u64, &str, &[&str]); 12] = [
    (
        1,
        "install node dependencies",
        &["npm ci", "npm install", "npm i", "yarn install", "pnpm install", "pnpm i", "bun install"],
    ),
    (
        2,
        "install python dependencies",
        &["pip install", "poetry install", "uv sync", "uv pip install", "pipenv install"],
    ),
    (
        3,
        "run tests",
        &[
            "cargo test",
            "cargo nextest",
            "pytest",
            "npm test",
            "npm run test",
            "yarn test",
            "go test",
            "mvn test",
            "gradle test",
            "make test",
            "jest",
        ],
    ),
    (
        4,
        "build",
        &[
            "cargo build",
            "npm run build",
            "yarn build",
            "go build",
            "mvn package",
            "gradle build",
            "make build",
            "cmake --build",
        ],
    ),
    (
        5,
        "lint",
        &[
            "cargo clippy",
            "npm run lint",
            "eslint",
            "ruff check",
            "flake8",
            "golangci-lint",
            "pylint",
            "make lint",
        ],
    ),
    (6, "format", &["cargo fmt", "prettier", "black", "ruff format", "gofmt", "rustfmt"]),
    (7, "check types", &["cargo check", "tsc", "mypy", "pyright", "go vet"]),
    (
        8,
        "install system packages",
        &["apt-get install", "apt install", "apk add", "dnf install", "brew install"],
    ),
    (9, "build a container image", &["docker build", "docker buildx", "podman build", "buildah bud"]),
    (10, "fetch sources", &["git clone", "git fetch", "git pull", "git submodule"]),
    (11, "publish", &["cargo publish", "npm publish", "twine upload", "docker push", "gh release"]),
    (12, "download a file", &["curl", "wget"]),
];

/// Terms and what they mean, found with one automaton.
#[derive(Clone, Debug)]
pub struct Thesaurus {
    terms: BTreeMap<String, Concept>,
    automaton: AhoCorasick,
    order: Vec<String>,
}

impl Thesaurus {
    /// The terms that everybody uses.
    #[must_use]
    pub fn built_in() -> Thesaurus {
        let mut terms = BTreeMap::new();
        for (id, nterm, aliases) in BUILT_IN {
            for alias in aliases {
                let concept = Concept { id, nterm: nterm.to_owned(), url: None };
                terms.insert((*alias).to_owned(), concept);
            }
        }
        Thesaurus::of(terms).expect("a few dozen short terms make an automaton")
    }

    /// Adds the terms of a file: JSON, term -> `id`, `nterm`, `url`; also within `{"name", "data": {...}}`. A term that
    /// is known gets the new meaning. `path` names the file in errors.
    ///
    /// # Errors
    /// The text is no such JSON, or too large.
    pub fn with_json(self, path: &std::path::Path, text: &str) -> Result<Thesaurus, ThesaurusError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum File {
            Named { data: BTreeMap<String, Concept> },
            Plain(BTreeMap<String, Concept>),
        }
        let syntax = |source| ThesaurusError::Syntax { path: path.to_owned(), source };
        let terms = match serde_json::from_str::<BTreeMap<String, Concept>>(text) {
            Ok(terms) => terms,
            Err(plain) => match serde_json::from_str::<File>(text) {
                Ok(File::Named { data } | File::Plain(data)) => data,
                // The error of the plain form has a line and a column.
                Err(_) => return Err(syntax(plain)),
            },
        };
        let mut all = self.terms;
        all.extend(terms.into_iter().map(|(term, concept)| (term.trim().to_lowercase(), concept)));
        all.remove("");
        Thesaurus::of(all)
    }

    fn of(terms: BTreeMap<String, Concept>) -> Result<Thesaurus, ThesaurusError> {
        let order: Vec<String> = terms.keys().cloned().collect();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&order)
            .map_err(|source| ThesaurusError::TooLarge { terms: order.len(), source })?;
        Ok(Thesaurus { terms, automaton, order })
    }

    /// What a command means, each concept once, in the order of the text. Only whole words count.
    #[must_use]
    pub fn concepts(&self, command: &str) -> Vec<&Concept> {
        let mut found: Vec<&Concept> = Vec::new();
        for hit in self.automaton.find_iter(command) {
            let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            let before = command[..hit.start()].chars().next_back();
            let after = command[hit.end()..].chars().next();
            if before.is_some_and(is_word) || after.is_some_and(is_word) {
                continue;
            }
            let concept = &self.terms[&self.order[hit.pattern().as_usize()]];
            if !found.iter().any(|known| known.id == concept.id) {
                found.push(concept);
            }
        }
        found
    }
}
