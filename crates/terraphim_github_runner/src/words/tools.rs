//! Tools: their names, which words may follow them, and what they do for each intent.

use super::facts::Language;

/// What somebody wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Build,
    Test,
    Lint,
    Format,
    Docs,
    Types,
    Audit,
    Bench,
    Coverage,
    Install,
    Publish,
}

impl Intent {
    pub(super) fn name(self) -> &'static str {
        match self {
            Intent::Build => "build",
            Intent::Test => "test",
            Intent::Lint => "lint",
            Intent::Format => "format",
            Intent::Docs => "docs",
            Intent::Types => "types",
            Intent::Audit => "audit",
            Intent::Bench => "bench",
            Intent::Coverage => "coverage",
            Intent::Install => "install",
            Intent::Publish => "publish",
        }
    }
}

/// A program that workflows call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// What people call it; the first is the program.
    pub(super) names: &'static [&'static str],
    pub(super) language: Option<Language>,
    /// Words that are a command after the name; empty: the name alone is one.
    pub(super) subcommands: &'static [&'static str],
    /// What to run for an intent.
    pub(super) does: &'static [(Intent, &'static str)],
    /// What pip installs it, when it is a Python program.
    pub(super) package: Option<&'static str>,
}

const fn tool(
    names: &'static [&'static str],
    language: Option<Language>,
    subcommands: &'static [&'static str],
    does: &'static [(Intent, &'static str)],
) -> Tool {
    Tool { names, language, subcommands, does, package: None }
}

const fn python(
    names: &'static [&'static str],
    package: &'static str,
    does: &'static [(Intent, &'static str)],
) -> Tool {
    Tool { names, language: Some(Language::Python), subcommands: &[], does, package: Some(package) }
}

use Intent::{Audit, Bench, Build, Coverage, Docs, Format, Install, Lint, Publish, Test, Types};

/// The first of a language is the one that its intents mean.
pub(super) static TOOLS: &[Tool] = &[
    tool(
        &["cargo"],
        Some(Language::Rust),
        &[
            "build", "test", "check", "clippy", "fmt", "doc", "bench", "run", "nextest", "audit", "deny",
            "publish", "hack", "miri", "llvm-cov",
        ],
        &[
            (Build, "cargo build --all-targets"),
            (Test, "cargo test"),
            (Lint, "cargo clippy --all-targets -- -D warnings"),
            (Format, "cargo fmt --all --check"),
            (Docs, "cargo doc --no-deps"),
            (Bench, "cargo bench"),
            (Audit, "cargo audit"),
            (Coverage, "cargo llvm-cov"),
            (Types, "cargo check --all-targets"),
            (Publish, "cargo publish"),
        ],
    ),
    tool(&["clippy"], Some(Language::Rust), &[], &[(Lint, "cargo clippy --all-targets -- -D warnings")]),
    tool(&["rustfmt"], Some(Language::Rust), &[], &[(Format, "cargo fmt --all --check")]),
    tool(&["nextest"], Some(Language::Rust), &[], &[(Test, "cargo nextest run")]),
    tool(
        &["npm"],
        Some(Language::Node),
        &["ci", "install", "test", "run", "publish", "audit", "start", "lint", "build", "exec"],
        &[
            (Install, "npm ci"),
            (Build, "npm run build"),
            (Test, "npm test"),
            (Lint, "npm run lint"),
            (Format, "npx prettier --check ."),
            (Types, "npx tsc --noEmit"),
            (Audit, "npm audit"),
            (Publish, "npm publish"),
            (Docs, "npm run docs"),
            (Coverage, "npm test -- --coverage"),
            (Bench, "npm run bench"),
        ],
    ),
    tool(
        &["yarn"],
        Some(Language::Node),
        &["install", "test", "build", "lint", "run", "audit"],
        &[
            (Install, "yarn install --immutable"),
            (Build, "yarn build"),
            (Test, "yarn test"),
            (Lint, "yarn lint"),
            (Audit, "yarn audit"),
        ],
    ),
    tool(
        &["pnpm"],
        Some(Language::Node),
        &["install", "i", "test", "build", "lint", "run", "audit"],
        &[
            (Install, "pnpm install --frozen-lockfile"),
            (Build, "pnpm build"),
            (Test, "pnpm test"),
            (Lint, "pnpm lint"),
            (Audit, "pnpm audit"),
        ],
    ),
    tool(&["npx"], Some(Language::Node), &["*"], &[]),
    tool(&["eslint"], Some(Language::Node), &[], &[(Lint, "npx eslint .")]),
    tool(&["prettier"], Some(Language::Node), &[], &[(Format, "npx prettier --check .")]),
    tool(&["tsc", "typescript"], Some(Language::Node), &[], &[(Types, "npx tsc --noEmit")]),
    tool(&["jest"], Some(Language::Node), &[], &[(Test, "npx jest")]),
    tool(&["vitest"], Some(Language::Node), &[], &[(Test, "npx vitest run")]),
    tool(&["mocha"], Some(Language::Node), &[], &[(Test, "npx mocha")]),
    tool(&["playwright"], Some(Language::Node), &[], &[(Test, "npx playwright test")]),
    python(&["pytest"], "pytest", &[(Test, "python -m pytest")]),
    python(&["ruff"], "ruff", &[(Lint, "ruff check ."), (Format, "ruff format --check .")]),
    python(&["flake8"], "flake8", &[(Lint, "flake8")]),
    python(&["pylint"], "pylint", &[(Lint, "pylint $(git ls-files '*.py')")]),
    python(&["black"], "black", &[(Format, "black --check .")]),
    python(&["isort"], "isort", &[(Format, "isort --check .")]),
    python(&["mypy"], "mypy", &[(Types, "mypy .")]),
    python(&["pyright"], "pyright", &[(Types, "pyright")]),
    python(&["tox"], "tox", &[(Test, "tox")]),
    python(&["coverage"], "coverage", &[(Coverage, "coverage run -m pytest")]),
    python(&["bandit"], "bandit", &[(Audit, "bandit -r .")]),
    python(&["sphinx"], "sphinx", &[(Docs, "sphinx-build docs docs/_build")]),
    python(&["mkdocs"], "mkdocs", &[(Docs, "mkdocs build")]),
    python(&["twine"], "build twine", &[(Publish, "python -m build && python -m twine upload dist/*")]),
    tool(
        &["pip"],
        Some(Language::Python),
        &["install"],
        &[(Install, "python -m pip install -r requirements.txt")],
    ),
    tool(&["unittest"], Some(Language::Python), &[], &[(Test, "python -m unittest")]),
    tool(&["python", "python3"], Some(Language::Python), &["*"], &[]),
    tool(
        &["go"],
        Some(Language::Go),
        &["build", "test", "vet", "fmt", "generate", "mod", "run", "install"],
        &[
            (Build, "go build ./..."),
            (Test, "go test ./..."),
            (Lint, "go vet ./..."),
            (Format, "test -z \"$(gofmt -l .)\""),
            (Bench, "go test -bench . ./..."),
            (Coverage, "go test -cover ./..."),
            (Install, "go mod download"),
        ],
    ),
    tool(&["gofmt"], Some(Language::Go), &[], &[(Format, "test -z \"$(gofmt -l .)\"")]),
    tool(&["golangci-lint"], Some(Language::Go), &[], &[(Lint, "golangci-lint run")]),
    tool(&["staticcheck"], Some(Language::Go), &[], &[(Lint, "staticcheck ./...")]),
    tool(
        &["mvn", "maven"],
        Some(Language::Maven),
        &["compile", "test", "package", "verify", "install", "deploy", "clean", "site"],
        &[
            (Build, "mvn -B package -DskipTests"),
            (Test, "mvn -B verify"),
            (Docs, "mvn -B site"),
            (Publish, "mvn -B deploy"),
        ],
    ),
    tool(
        &["gradle", "gradlew", "./gradlew"],
        Some(Language::Gradle),
        &["build", "test", "check", "assemble", "clean", "publish"],
        &[
            (Build, "./gradlew assemble"),
            (Test, "./gradlew test"),
            (Lint, "./gradlew check"),
            (Publish, "./gradlew publish"),
        ],
    ),
    tool(
        &["cmake"],
        Some(Language::Cmake),
        &[],
        &[
            (Build, "cmake -B build && cmake --build build"),
            (Test, "ctest --test-dir build --output-on-failure"),
            (Install, "cmake --install build"),
        ],
    ),
    tool(&["ctest"], Some(Language::Cmake), &[], &[(Test, "ctest --test-dir build --output-on-failure")]),
    tool(
        &["meson"],
        Some(Language::Meson),
        &[],
        &[(Build, "meson setup build && meson compile -C build"), (Test, "meson test -C build")],
    ),
    tool(
        &["make"],
        Some(Language::Make),
        &["*"],
        &[
            (Build, "make"),
            (Test, "make test"),
            (Lint, "make lint"),
            (Format, "make fmt"),
            (Docs, "make docs"),
            (Bench, "make bench"),
            (Install, "make install"),
        ],
    ),
    tool(
        &["docker"],
        Some(Language::Docker),
        &["build", "compose", "push", "run", "buildx", "pull", "login"],
        &[(Build, "docker build -t \"${GITHUB_REPOSITORY##*/}\" .")],
    ),
    tool(&["shellcheck"], None, &[], &[(Lint, "git ls-files '*.sh' | xargs shellcheck")]),
    tool(&["actionlint"], None, &[], &[(Lint, "actionlint")]),
    tool(&["hadolint"], None, &[], &[(Lint, "hadolint Dockerfile")]),
    tool(
        &["terraform"],
        None,
        &["init", "plan", "validate", "fmt", "apply"],
        &[(Lint, "terraform validate"), (Format, "terraform fmt -check -recursive")],
    ),
    tool(&["helm"], None, &["lint", "template", "upgrade"], &[(Lint, "helm lint")]),
    tool(&["kubectl"], None, &["*"], &[]),
    tool(&["git"], None, &["diff"], &[]),
];

/// The tool with this name.
pub(super) fn find(word: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.names.contains(&word))
}

/// The tool that the intents of a language mean and that can do this one.
pub(super) fn of_language(language: Language, intent: Intent) -> Option<(&'static Tool, &'static str)> {
    TOOLS
        .iter()
        .filter(|tool| tool.language == Some(language))
        .find_map(|tool| Some((tool, tool.command(intent)?)))
}

impl Tool {
    /// What it runs for an intent.
    pub(super) fn command(&self, intent: Intent) -> Option<&'static str> {
        self.does.iter().find(|(known, _)| *known == intent).map(|(_, command)| *command)
    }

    /// What is run when only its name is said.
    pub(super) fn alone(&self) -> Option<&'static str> {
        if !self.subcommands.is_empty() && self.names[0] != "make" {
            return None;
        }
        self.does.first().map(|(_, command)| *command)
    }

    /// The command that its subcommand means: with the arguments that make it fail when something is wrong.
    pub(super) fn with(&'static self, subcommand: &str) -> String {
        let program = self.names[0];
        match (program, subcommand) {
            ("cargo", "clippy") => "cargo clippy --all-targets -- -D warnings".to_owned(),
            ("cargo", "fmt") => "cargo fmt --all --check".to_owned(),
            ("cargo", "doc") => "cargo doc --no-deps".to_owned(),
            ("cargo", "nextest") => "cargo nextest run".to_owned(),
            ("cargo", "deny") => "cargo deny check".to_owned(),
            ("npm", "lint" | "build") => format!("npm run {subcommand}"),
            ("go", "build" | "test" | "vet") => format!("go {subcommand} ./..."),
            ("go", "fmt") => "test -z \"$(gofmt -l .)\"".to_owned(),
            ("go", "mod") => "go mod download".to_owned(),
            ("mvn", _) => format!("mvn -B {subcommand}"),
            ("gradle", _) => format!("./gradlew {subcommand}"),
            ("docker", "build") => "docker build -t \"${GITHUB_REPOSITORY##*/}\" .".to_owned(),
            ("docker", "compose") => "docker compose build".to_owned(),
            ("terraform", "fmt") => "terraform fmt -check -recursive".to_owned(),
            _ => format!("{program} {subcommand}"),
        }
    }
}
