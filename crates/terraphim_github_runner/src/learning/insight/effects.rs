//! What a command needs and what it makes, as far as its name tells. What no name tells needs and makes everything.

use crate::learning::command::parts;

/// Files of the working tree.
const TREE: u8 = 1;
/// Installed programs.
const SYSTEM: u8 = 1 << 1;
/// What cargo downloaded and built.
const CARGO: u8 = 1 << 2;
/// `node_modules`.
const NODE: u8 = 1 << 3;
/// Packages of Python.
const PYTHON: u8 = 1 << 4;
/// Modules of Go.
const GO: u8 = 1 << 5;
const EVERYTHING: u8 = u8::MAX;

/// What a command does besides reading the tree and running installed programs.
#[derive(Clone, Copy)]
enum Does {
    /// Looks at what was made, and changes nothing: `cargo clippy`.
    Reads(u8),
    /// Makes what others need: `npm ci`.
    Makes(u8),
    /// Needs this, and changes the tree unless one of these words tells it to look only: `cargo fmt --check`.
    Formats(u8, &'static [&'static str]),
}

use Does::{Formats, Makes, Reads};

const CHECK: &[&str] = &["--check", "--diff", "--check-only"];

/// By the beginning of the subcommand.
const KNOWN: &[(&str, Does)] = &[
    ("cargo audit", Reads(0)),
    ("cargo bench", Reads(CARGO)),
    ("cargo build", Makes(CARGO)),
    ("cargo check", Reads(CARGO)),
    ("cargo clippy", Reads(CARGO)),
    ("cargo deny", Reads(0)),
    ("cargo doc", Reads(CARGO)),
    ("cargo fetch", Makes(CARGO)),
    ("cargo fmt", Formats(0, CHECK)),
    ("cargo nextest run", Reads(CARGO)),
    ("cargo test", Reads(CARGO)),
    ("npm ci", Makes(NODE)),
    ("npm install", Makes(NODE)),
    ("yarn install", Makes(NODE)),
    ("pnpm install", Makes(NODE)),
    ("bun install", Makes(NODE)),
    ("npm run lint", Reads(NODE)),
    ("npm run test", Reads(NODE)),
    ("npm run typecheck", Reads(NODE)),
    ("npm test", Reads(NODE)),
    ("yarn lint", Reads(NODE)),
    ("yarn test", Reads(NODE)),
    ("pnpm lint", Reads(NODE)),
    ("pnpm test", Reads(NODE)),
    ("eslint", Reads(NODE)),
    ("jest", Reads(NODE)),
    ("prettier", Formats(NODE, &["--check", "-c", "--list-different", "-l"])),
    ("stylelint", Reads(NODE)),
    ("tsc", Formats(NODE, &["--noEmit"])),
    ("vitest", Reads(NODE)),
    ("pip install", Makes(PYTHON)),
    ("pipenv install", Makes(PYTHON)),
    ("poetry install", Makes(PYTHON)),
    ("uv sync", Makes(PYTHON)),
    ("uv pip install", Makes(PYTHON)),
    ("black", Formats(PYTHON, CHECK)),
    ("isort", Formats(PYTHON, CHECK)),
    ("flake8", Reads(PYTHON)),
    ("mypy", Reads(PYTHON)),
    ("pylint", Reads(PYTHON)),
    ("pyright", Reads(PYTHON)),
    ("pytest", Reads(PYTHON)),
    ("ruff", Formats(PYTHON, &["check", "--check", "--diff"])),
    ("go mod download", Makes(GO)),
    ("go test", Reads(GO)),
    ("go vet", Reads(GO)),
    ("golangci-lint", Reads(GO)),
    ("staticcheck", Reads(GO)),
    ("actionlint", Reads(0)),
    ("hadolint", Reads(0)),
    ("shellcheck", Reads(0)),
    ("yamllint", Reads(0)),
    ("apk add", Makes(SYSTEM)),
    ("apt install", Makes(SYSTEM)),
    ("apt update", Makes(SYSTEM)),
    ("apt-get install", Makes(SYSTEM)),
    ("apt-get update", Makes(SYSTEM)),
    ("dnf install", Makes(SYSTEM)),
    ("rustup", Makes(SYSTEM)),
];

/// Words with which a check changes what it looks at.
const FIXES: [&str; 8] = ["--fix", "--write", "--in-place", "-i", "-w", "-u", "--updateSnapshot", "--bless"];

/// Commands of a script that leave nothing behind when it ends. `echo` is none: it may set a variable of later steps.
const SILENT: [&str; 14] =
    ["cd", "pushd", "popd", "set", "export", "unset", "true", ":", "pwd", "ls", "test", "[", "[[", "exit"];

/// What a command needs and what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    needs: u8,
    makes: u8,
    /// Nobody knows what it does: it may be about the world outside, as a deployment is.
    is_unknown: bool,
}

impl Effects {
    /// The effects of a command by its two forms (see [`crate::learning::CommandIdentity`]).
    pub(super) fn of(canonical: &str, subcommand: &str) -> Effects {
        let unknown = Effects { needs: EVERYTHING, makes: EVERYTHING, is_unknown: true };
        let words = |part: &str| part.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let all: Vec<Vec<String>> = parts(canonical).map(words).collect();
        let is_silent = |part: &&Vec<String>| SILENT.contains(&part[0].as_str());
        let telling: Vec<&Vec<String>> = all.iter().filter(|part| !is_silent(part)).collect();
        let named: Vec<&str> = parts(subcommand).collect();
        // What is cut, or prepares in a way that may last, does not correspond part by part.
        if telling.is_empty() || telling.len() != named.len() {
            return unknown;
        }
        let each = named.iter().zip(&telling).map(|(name, words)| of_part(name, words));
        each.reduce(|a, b| Some(a?.with(b?))).flatten().unwrap_or(unknown)
    }

    fn with(self, other: Effects) -> Effects {
        let (needs, makes) = (self.needs | other.needs, self.makes | other.makes);
        Effects { needs, makes, is_unknown: self.is_unknown || other.is_unknown }
    }

    /// Whether a later command has to wait for this one: it needs what this one makes (Bernstein 1966; the other two of
    /// his conditions are about files that both change, and jobs have files of their own), or nobody knows.
    pub(super) fn is_needed_by(self, later: Effects) -> bool {
        self.makes & later.needs != 0 || later.is_unknown
    }

    /// Whether it makes something that another command needs.
    pub(super) fn makes_for(self, other: Effects) -> bool {
        self.makes & other.needs != 0
    }

    /// Whether it only looks.
    pub(super) fn is_check(self) -> bool {
        self.makes == 0
    }
}

fn of_part(subcommand: &str, words: &[String]) -> Option<Effects> {
    let is_start = |start: &str| {
        subcommand.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let (_, does) = KNOWN.iter().find(|(start, _)| is_start(start))?;
    let has = |word: &str| words.iter().any(|one| one == word);
    let fixes = FIXES.iter().any(|fix| has(fix));
    let (needs, makes) = match does {
        Reads(what) => (*what, if fixes { TREE } else { 0 }),
        Makes(what) => (*what, *what),
        Formats(what, checks) => {
            let is_check = !fixes && checks.iter().any(|check| has(check));
            (*what, if is_check { 0 } else { TREE })
        }
    };
    Some(Effects { needs: needs | TREE | SYSTEM, makes, is_unknown: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::CommandIdentity;

    fn effects(script: &str) -> Effects {
        let identity = CommandIdentity::of(script);
        Effects::of(&identity.canonical, &identity.subcommand)
    }

    #[test]
    fn a_command_waits_for_what_it_needs_and_for_nothing_else() {
        for (earlier, later, waits) in [
            ("npm ci", "npm test", true),
            ("npm ci", "cargo test", false),
            ("cargo build", "cargo test --release", true),
            ("cargo test", "cargo clippy", false),
            ("sudo apt-get install -y jq", "pytest -q", true),
            ("cargo fmt", "cargo clippy", true),
            ("cargo fmt --all -- --check", "cargo clippy", false),
            ("pip install -r requirements.txt", "python3 -m pytest", true),
            ("npx prettier --check .", "npx eslint .", false),
            ("npx eslint --fix .", "npm test", true),
            ("ruff check .", "mypy src", false),
            ("ruff format", "mypy src", true),
            ("cd web && npm ci", "cd web; set -e; npm run lint", true),
            // What nobody knows waits, and is waited for.
            ("cargo test", "./deploy.sh", true),
            ("./generate.sh", "cargo test", true),
            ("echo A=1 >> $GITHUB_ENV", "cargo test", true),
            ("echo A=1 >> $GITHUB_ENV; cargo test", "cargo clippy", true),
            ("make lint", "cargo clippy", true),
        ] {
            assert_eq!(effects(earlier).is_needed_by(effects(later)), waits, "{earlier} -> {later}");
        }
    }

    #[test]
    fn a_check_only_looks() {
        for check in ["cargo clippy", "cargo fmt -- --check", "npm ci && npm test", "gofmt -l .", "echo done"]
        {
            let expected = check.starts_with("cargo");
            assert_eq!(effects(check).is_check(), expected, "{check}");
        }
    }
}
