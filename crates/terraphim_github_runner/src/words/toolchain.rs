//! The steps that make the tools of a job's commands available: toolchains, caches, dependencies.

use super::{
    draft::{Cache, Command, Dimension, Draft},
    facts::{Language, RepositoryFacts},
    render::{artifact_name, line},
};

pub(super) fn languages(commands: &[Command]) -> Vec<Language> {
    let mut found: Vec<Language> = commands.iter().filter_map(|command| command.tool?.language).collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn dimension_of(language: Language) -> Option<Dimension> {
    match language {
        Language::Rust => Some(Dimension::Rust),
        Language::Node => Some(Dimension::Node),
        Language::Python => Some(Dimension::Python),
        Language::Go => Some(Dimension::Go),
        Language::Maven | Language::Gradle => Some(Dimension::Java),
        _ => None,
    }
}

/// The version of a tool: an expression when there are several.
pub(super) fn version(draft: &Draft, dimension: Dimension) -> Option<String> {
    let (_, values) = draft.matrix.iter().find(|(known, _)| *known == dimension)?;
    match &values[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(format!("${{{{ matrix.{} }}}}", dimension.key())),
    }
}

pub(super) fn set_up(out: &mut String, draft: &Draft, facts: &RepositoryFacts, commands: &[Command]) {
    let mut languages = languages(commands);
    // A version that is asked for is set up, also when only commands of nobody's are run.
    if languages.is_empty() {
        for (dimension, language) in [
            (Dimension::Python, Language::Python),
            (Dimension::Node, Language::Node),
            (Dimension::Go, Language::Go),
            (Dimension::Java, Language::Maven),
            (Dimension::Rust, Language::Rust),
        ] {
            if draft.matrix.iter().any(|(known, _)| *known == dimension) {
                languages.push(language);
            }
        }
    }
    let mut has_java = false;
    for language in languages {
        let quoted =
            |key: &str, version: Option<String>, file: Option<&str>, other: &str| match (version, file) {
                (Some(version), _) if version.starts_with('$') => format!("{key}: {version}"),
                (Some(version), _) => format!("{key}: '{version}'"),
                (None, Some(file)) => format!("{key}-file: {file}"),
                (None, None) => format!("{key}: {other}"),
            };
        let wanted = dimension_of(language).and_then(|dimension| version(draft, dimension));
        let file = |names: &[&'static str]| names.iter().copied().find(|name| facts.has(name));
        let (action, with) = match language {
            Language::Rust => {
                rust(out, wanted.as_deref(), facts, commands);
                continue;
            }
            Language::Node => (
                "setup-node@v4",
                vec![quoted("node-version", wanted, file(&[".nvmrc", ".node-version"]), "'lts/*'")],
            ),
            Language::Python => (
                "setup-python@v5",
                vec![quoted("python-version", wanted, file(&[".python-version"]), "'3.x'")],
            ),
            Language::Go => ("setup-go@v5", vec![quoted("go-version", wanted, file(&["go.mod"]), "stable")]),
            Language::Maven | Language::Gradle if !has_java => {
                has_java = true;
                (
                    "setup-java@v4",
                    vec!["distribution: temurin".to_owned(), quoted("java-version", wanted, None, "'21'")],
                )
            }
            _ => continue,
        };
        line(out, 3, &format!("- uses: actions/{action}"));
        line(out, 4, "with:");
        with.iter().for_each(|one| line(out, 5, one));
        if language == Language::Node
            && commands.iter().any(|command| command.text.starts_with("npm publish"))
        {
            line(out, 5, "registry-url: https://registry.npmjs.org");
        }
    }
}

fn rust(out: &mut String, wanted: Option<&str>, facts: &RepositoryFacts, commands: &[Command]) {
    let uses = |word: &str| commands.iter().any(|command| command.text.contains(word));
    line(out, 3, "- name: Install Rust");
    line(out, 4, "run: |");
    line(out, 5, "export PATH=\"$HOME/.cargo/bin:$PATH\"");
    line(out, 5, "command -v rustup || curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |");
    line(out, 5, "  sh -s -- -y --profile minimal --default-toolchain none");
    let components: Vec<&str> = [("clippy", "clippy"), ("rustfmt", "fmt")]
        .into_iter()
        .filter(|(_, word)| uses(word))
        .map(|(name, _)| name)
        .collect();
    let components =
        if components.is_empty() { String::new() } else { format!(" --component {}", components.join(",")) };
    if wanted.is_none() && (facts.has("rust-toolchain.toml") || facts.has("rust-toolchain")) {
        // rustup reads the file.
        line(out, 5, "rustup show active-toolchain || rustup toolchain install");
    } else {
        let toolchain = if wanted.is_some() { "\"$RUSTUP_TOOLCHAIN\"" } else { "stable" };
        line(out, 5, &format!("rustup toolchain install {toolchain} --profile minimal{components}"));
        if wanted.is_none() {
            line(out, 5, "rustup default stable");
        }
    }
    line(out, 5, "echo \"$HOME/.cargo/bin\" >> \"$GITHUB_PATH\"");
    for (word, crate_name) in [
        ("nextest", "cargo-nextest"),
        ("cargo audit", "cargo-audit"),
        ("cargo deny", "cargo-deny"),
        ("llvm-cov", "cargo-llvm-cov"),
    ] {
        if uses(word) {
            line(out, 3, &format!("- run: cargo install --locked {crate_name}"));
        }
    }
}

pub(super) fn caches(out: &mut String, draft: &Draft, facts: &RepositoryFacts, commands: &[Command]) {
    for cache in &draft.caches {
        match cache {
            Cache::Path(path) => {
                let name = artifact_name(path);
                cache_step(out, &[path.as_str()], &name, "${{ github.sha }}");
            }
            Cache::Tools => {
                for language in languages(commands) {
                    let (paths, name, files): (&[&str], &str, &str) = match language {
                        Language::Rust => {
                            (&["~/.cargo/registry", "~/.cargo/git", "target"], "cargo", "**/Cargo.lock")
                        }
                        Language::Node if facts.has("pnpm-lock.yaml") => {
                            (&["~/.local/share/pnpm/store"], "pnpm", "**/pnpm-lock.yaml")
                        }
                        Language::Node if facts.has("yarn.lock") => {
                            (&["~/.cache/yarn"], "yarn", "**/yarn.lock")
                        }
                        Language::Node => (&["~/.npm"], "npm", "**/package-lock.json"),
                        Language::Python => (&["~/.cache/pip"], "pip", "**/requirements*.txt"),
                        Language::Go => (&["~/go/pkg/mod", "~/.cache/go-build"], "go", "**/go.sum"),
                        Language::Maven => (&["~/.m2/repository"], "maven", "**/pom.xml"),
                        Language::Gradle => (&["~/.gradle/caches"], "gradle", "**/*.gradle*"),
                        _ => continue,
                    };
                    let matrix = dimension_of(language)
                        .and_then(|dimension| version(draft, dimension))
                        .filter(|one| one.starts_with('$'));
                    let name = matrix.map_or_else(|| name.to_owned(), |matrix| format!("{name}-{matrix}"));
                    cache_step(out, paths, &name, &format!("${{{{ hashFiles('{files}') }}}}"));
                }
            }
        }
    }
}

fn cache_step(out: &mut String, paths: &[&str], name: &str, last: &str) {
    line(out, 3, "- uses: actions/cache@v4");
    line(out, 4, "with:");
    line(out, 5, "path: |");
    paths.iter().for_each(|path| line(out, 6, path));
    line(out, 5, &format!("key: ${{{{ runner.os }}}}-{name}-{last}"));
    line(out, 5, "# The newest of an earlier state is better than nothing.");
    line(out, 5, &format!("restore-keys: ${{{{ runner.os }}}}-{name}-"));
}

/// Programs that no Go toolchain has, and where they come from. `setup-go` puts them into the search path.
const GO_PROGRAMS: [(&str, &str); 2] = [
    ("golangci-lint", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"),
    ("staticcheck", "honnef.co/go/tools/cmd/staticcheck"),
];

pub(super) fn install(out: &mut String, facts: &RepositoryFacts, commands: &[Command]) {
    let has_own =
        |words: &[&str]| commands.iter().any(|command| words.iter().any(|word| command.text.contains(word)));
    let languages = languages(commands);
    if languages.contains(&Language::Node)
        && !has_own(&["npm ci", "npm install", "yarn install", "pnpm install", "pnpm i"])
    {
        let text = if facts.has("pnpm-lock.yaml") || has_own(&["pnpm "]) {
            "corepack enable && pnpm install --frozen-lockfile"
        } else if facts.has("yarn.lock") || has_own(&["yarn "]) {
            "corepack enable && yarn install --immutable"
        } else if facts.files.is_empty() || facts.has("package-lock.json") {
            "npm ci"
        } else {
            "npm install"
        };
        line(out, 3, &format!("- run: {text}"));
    }
    if languages.contains(&Language::Go) {
        for (program, package) in GO_PROGRAMS {
            let is_used = |command: &Command| {
                command.text.split_whitespace().next().is_some_and(|word| word == program)
            };
            if commands.iter().any(is_used) && !has_own(&[package]) {
                line(out, 3, &format!("- run: go install {package}@latest"));
            }
        }
    }
    if languages.contains(&Language::Python) && !has_own(&["pip install"]) {
        let mut lines: Vec<String> = Vec::new();
        let packages: Vec<&str> = commands.iter().filter_map(|command| command.tool?.package).collect();
        if facts.has("uv.lock") {
            lines.push("python -m pip install uv && uv sync".to_owned());
        } else if facts.has("poetry.lock") {
            lines.push("python -m pip install poetry && poetry install".to_owned());
        } else {
            if facts.has("requirements.txt") {
                lines.push("python -m pip install -r requirements.txt".to_owned());
            } else if facts.has("pyproject.toml") || facts.has("setup.py") {
                lines.push("python -m pip install .".to_owned());
            }
            let mut packages: Vec<&str> = packages.iter().flat_map(|one| one.split(' ')).collect();
            packages.sort_unstable();
            packages.dedup();
            if !packages.is_empty() {
                lines.push(format!("python -m pip install {}", packages.join(" ")));
            }
        }
        for text in lines {
            line(out, 3, &format!("- run: {text}"));
        }
    }
}
