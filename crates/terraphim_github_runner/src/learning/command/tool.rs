//! What is known about programs: which only start another one, which have subcommands, which options have a value.

/// A program that runs the command after it.
pub(super) struct Wrapper {
    name: &'static str,
    /// Its options that have a value in the next word.
    valued: &'static [&'static str],
    /// Words of its own before the command.
    own_words: usize,
}

const WRAPPERS: [Wrapper; 14] = [
    Wrapper { name: "sudo", valued: &["-u", "-g", "-C", "-h", "-p", "--user", "--group"], own_words: 0 },
    Wrapper { name: "doas", valued: &["-u"], own_words: 0 },
    Wrapper { name: "env", valued: &["-u", "--unset", "-C", "--chdir"], own_words: 0 },
    Wrapper { name: "time", valued: &["-f", "-o"], own_words: 0 },
    Wrapper { name: "nice", valued: &["-n", "--adjustment"], own_words: 0 },
    Wrapper { name: "ionice", valued: &["-c", "-n"], own_words: 0 },
    Wrapper { name: "nohup", valued: &[], own_words: 0 },
    Wrapper { name: "setsid", valued: &[], own_words: 0 },
    Wrapper { name: "exec", valued: &["-a"], own_words: 0 },
    Wrapper { name: "command", valued: &[], own_words: 0 },
    Wrapper { name: "builtin", valued: &[], own_words: 0 },
    Wrapper { name: "stdbuf", valued: &["-i", "-o", "-e"], own_words: 0 },
    Wrapper { name: "xvfb-run", valued: &["-s", "-n", "--server-args"], own_words: 0 },
    Wrapper { name: "timeout", valued: &["-s", "-k", "--signal", "--kill-after"], own_words: 1 },
];

/// How many words of a command belong to programs that only start it: `sudo -u ci env A=1 make` has 5.
pub(super) fn wrapper_words(words: &[String]) -> usize {
    let mut at = 0;
    while at < words.len() {
        if is_assignment(&words[at]) {
            at += 1;
            continue;
        }
        let name = base_name(&words[at]);
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) else { break };
        let after = after_options(words, at + 1, wrapper);
        // `time` or `env` alone is the command.
        if after >= words.len() {
            break;
        }
        at = after;
    }
    at
}

fn after_options(words: &[String], from: usize, wrapper: &Wrapper) -> usize {
    let mut at = from;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-') && word.len() > 1) {
        at += if wrapper.valued.contains(&word.as_str()) { 2 } else { 1 };
    }
    at + wrapper.own_words
}

/// `NAME=value`.
pub(super) fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The name of a program without its directory and its version: `./gradlew` is `gradle`, `python3.11` is `python`.
pub(super) fn program(word: &str) -> String {
    let name = base_name(word);
    match name {
        "gradlew" => return "gradle".to_owned(),
        "mvnw" => return "mvn".to_owned(),
        "gmake" => return "make".to_owned(),
        "nodejs" => return "node".to_owned(),
        "docker-compose" => return "docker compose".to_owned(),
        _ => {}
    }
    for versioned in ["python", "pip", "ruby", "gcc", "g++", "clang", "clang++", "node"] {
        let version = name.strip_prefix(versioned).map(|rest| rest.trim_start_matches('-'));
        if version.is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.')) {
            return versioned.to_owned();
        }
    }
    name.to_owned()
}

fn base_name(word: &str) -> &str {
    word.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(word)
}

/// Programs whose first word says what they do.
const WITH_SUBCOMMANDS: [&str; 52] = [
    "ant",
    "apk",
    "apt",
    "apt-get",
    "aws",
    "az",
    "bazel",
    "brew",
    "bundle",
    "cargo",
    "cmake",
    "composer",
    "conda",
    "corepack",
    "deno",
    "dnf",
    "docker",
    "docker compose",
    "dotnet",
    "flutter",
    "gcloud",
    "gem",
    "gh",
    "git",
    "go",
    "gradle",
    "helm",
    "just",
    "kubectl",
    "lerna",
    "make",
    "mix",
    "mvn",
    "ninja",
    "npm",
    "nx",
    "pip",
    "pipenv",
    "pnpm",
    "podman",
    "poetry",
    "rake",
    "rustup",
    "sbt",
    "swift",
    "systemctl",
    "task",
    "terraform",
    "turbo",
    "uv",
    "yarn",
    "zig",
];

/// First words that are followed by one that says more: `npm run lint`, `docker compose up`.
const WITH_TWO: [(&str, &str); 14] = [
    ("npm", "run"),
    ("npm", "exec"),
    ("yarn", "run"),
    ("pnpm", "run"),
    ("pnpm", "exec"),
    ("docker", "compose"),
    ("docker", "buildx"),
    ("cargo", "nextest"),
    ("uv", "run"),
    ("uv", "pip"),
    ("poetry", "run"),
    ("bundle", "exec"),
    ("go", "mod"),
    ("gh", "release"),
];

const ALIASES: [(&str, &str, &str); 11] = [
    ("npm", "i", "install"),
    ("npm", "t", "test"),
    ("npm", "run-script", "run"),
    ("pnpm", "i", "install"),
    ("pnpm", "t", "test"),
    ("cargo", "b", "build"),
    ("cargo", "c", "check"),
    ("cargo", "t", "test"),
    ("cargo", "r", "run"),
    ("docker", "image build", "build"),
    ("yarn", "add", "add"),
];

/// The same subcommand by its usual name.
pub(super) fn subcommand_alias<'a>(program: &str, subcommand: &'a str) -> &'a str {
    ALIASES
        .iter()
        .find(|(of, alias, _)| *of == program && *alias == subcommand)
        .map_or(subcommand, |(_, _, name)| name)
}

pub(super) fn has_subcommands(program: &str) -> bool {
    WITH_SUBCOMMANDS.contains(&program)
}

pub(super) fn has_second_subcommand(program: &str, first: &str) -> bool {
    WITH_TWO.contains(&(program, first))
}

/// Programs that run the program named by their first word.
pub(super) fn is_launcher(program: &str) -> bool {
    matches!(program, "npx" | "bunx" | "pipx" | "uvx")
}

/// Programs that run a script.
pub(super) fn is_interpreter(program: &str) -> bool {
    matches!(
        program,
        "bash" | "sh" | "dash" | "zsh" | "python" | "node" | "ruby" | "perl" | "pwsh" | "php" | "Rscript"
    )
}

/// Shells that take a script as the word after `-c`.
pub(super) fn is_shell(program: &str) -> bool {
    matches!(program, "bash" | "sh" | "dash" | "zsh" | "ash")
}

/// Commands that prepare others; they say what a script does only when there is nothing else.
pub(super) fn is_preparation(program: &str) -> bool {
    matches!(
        program,
        "cd" | "pushd"
            | "popd"
            | "set"
            | "export"
            | "unset"
            | "echo"
            | "printf"
            | "true"
            | ":"
            | "pwd"
            | "mkdir"
            | "source"
            | "."
            | "shopt"
            | "umask"
            | "test"
            | "["
            | "[["
            | "trap"
            | "exit"
            | "sleep"
            | "tee"
            | "ls"
            | "local"
            | "declare"
            | "read"
            | "wait"
    )
}

/// Options that have their value in the next word; of any program, because they are used alike.
pub(super) fn takes_value(flag: &str) -> bool {
    matches!(
        flag,
        "-p" | "--package"
            | "-C"
            | "-f"
            | "--file"
            | "-F"
            | "--features"
            | "--target"
            | "--target-dir"
            | "--manifest-path"
            | "--profile"
            | "--test"
            | "--bin"
            | "--bench"
            | "--example"
            | "-o"
            | "--output"
            | "-j"
            | "--jobs"
            | "-m"
            | "-k"
            | "-c"
            | "--config"
            | "-t"
            | "--tag"
            | "-e"
            | "--env"
            | "-w"
            | "--workspace-dir"
            | "--prefix"
            | "-I"
            | "-L"
            | "-D"
            | "-n"
            | "--filter"
            | "--project"
            | "-r"
            | "--requirement"
            | "-B"
            | "-S"
            | "-G"
            | "--build"
            | "--registry"
    )
}
