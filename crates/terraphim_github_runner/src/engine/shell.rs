//! Which program runs a script, as GitHub's runner on Linux chooses it.

use thiserror::Error;

/// How a script is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shell {
    /// Program and arguments; [`SCRIPT`] stands for the path of the script.
    argv: Vec<String>,
    /// The extension of the script file, with its dot; may be empty.
    pub(super) extension: &'static str,
    /// Put before the script.
    prologue: &'static str,
    /// Put after the script.
    epilogue: &'static str,
}

const SCRIPT: &str = "{0}";

/// A `shell:` that cannot run anything.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ShellError {
    /// A name that is none of the built-in ones, without a place for the script.
    #[error(
        "the shell {0:?} is not one of bash, sh, python, pwsh, and has no {{0}} where the script belongs"
    )]
    NoScript(String),
    /// A shell of Windows.
    #[error("the shell {0:?} exists on Windows only; use bash, sh, python, pwsh or a command with {{0}}")]
    Windows(String),
    /// A quote without its partner.
    #[error("the shell {0:?} has a quote that is not closed")]
    Quote(String),
}

impl Shell {
    /// The shell for the value of `shell:`; without one, bash if the guest has it, else sh.
    pub(super) fn resolve(name: Option<&str>, has_bash: bool) -> Result<Shell, ShellError> {
        let name = name.unwrap_or("").trim();
        let lower = name.to_ascii_lowercase();
        Ok(match lower.as_str() {
            "" if has_bash => Shell::built_in(&["bash", "-e", SCRIPT]),
            "" | "sh" => Shell::built_in(&["sh", "-e", SCRIPT]),
            "bash" => Shell::built_in(&["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", SCRIPT]),
            "python" => Shell::built_in(&["python", SCRIPT]),
            "pwsh" => Shell::built_in(&["pwsh", "-command", ". '{0}'"]),
            "cmd" | "powershell" => return Err(ShellError::Windows(name.to_owned())),
            _ => return Shell::custom(name),
        })
    }

    fn built_in(argv: &[&str]) -> Shell {
        Shell::of(argv.iter().map(|&arg| arg.to_owned()).collect())
    }

    fn custom(text: &str) -> Result<Shell, ShellError> {
        if !text.contains(SCRIPT) {
            return Err(ShellError::NoScript(text.to_owned()));
        }
        split(text).map(Shell::of).ok_or_else(|| ShellError::Quote(text.to_owned()))
    }

    /// The program's name decides on the script file, whatever its arguments are; `/bin/bash` is none of these names
    /// (`ScriptHandlerHelpers` of actions/runner).
    fn of(argv: Vec<String>) -> Shell {
        let program = argv.first().map(|program| program.to_ascii_lowercase()).unwrap_or_default();
        let (extension, prologue, epilogue) = match program.as_str() {
            "bash" | "sh" => (".sh", "", ""),
            "python" => (".py", "", ""),
            "pwsh" | "powershell" => (
                ".ps1",
                "$ErrorActionPreference = 'stop'\n",
                "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }",
            ),
            "cmd" => (".cmd", "@echo off\n", ""),
            _ => ("", "", ""),
        };
        Shell { argv, extension, prologue, epilogue }
    }

    /// The command line for the script at `path`.
    pub(super) fn argv(&self, path: &str) -> Vec<String> {
        self.argv.iter().map(|arg| arg.replace(SCRIPT, path)).collect()
    }

    /// What to write into the script file.
    pub(super) fn script(&self, run: &str) -> String {
        format!("{}{run}{}", self.prologue, self.epilogue)
    }
}

/// Cuts a command line at blanks. Double quotes keep blanks together; `\"` is a quote.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if chars.peek() == Some(&'"') => {
                chars.next();
                word.get_or_insert_default().push('"');
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_its_command_line() {
        for (name, has_bash, want, extension) in [
            (None, true, "bash -e S", ".sh"),
            (None, false, "sh -e S", ".sh"),
            (Some("bash"), false, "bash --noprofile --norc -e -o pipefail S", ".sh"),
            (Some("SH"), true, "sh -e S", ".sh"),
            (Some("python"), true, "python S", ".py"),
            (Some("pwsh"), true, "pwsh -command . 'S'", ".ps1"),
            (Some("perl -w {0}"), true, "perl -w S", ""),
            (Some("/bin/bash -xe -c 'x' {0}"), true, "/bin/bash -xe -c 'x' S", ""),
            (Some("bash -x {0}"), true, "bash -x S", ".sh"),
            (Some("sh {0}"), true, "sh S", ".sh"),
            (Some("python -u {0}"), true, "python -u S", ".py"),
            (Some("python3 {0}"), true, "python3 S", ""),
            (Some("pwsh -NoProfile -File {0}"), true, "pwsh -NoProfile -File S", ".ps1"),
            (Some("powershell -File {0}"), true, "powershell -File S", ".ps1"),
            (Some("cmd /C {0}"), true, "cmd /C S", ".cmd"),
        ] {
            let shell = Shell::resolve(name, has_bash).unwrap();
            assert_eq!((shell.argv("S").join(" ").as_str(), shell.extension), (want, extension), "{name:?}");
        }
    }

    #[test]
    fn the_program_decides_what_is_put_around_a_script() {
        let script = |shell| Shell::resolve(Some(shell), true).unwrap().script("x");
        let powershell = "$ErrorActionPreference = 'stop'\nx\n\
                          if ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }";
        for shell in ["pwsh", "pwsh -NoProfile -File {0}", "powershell -File {0}"] {
            assert_eq!(script(shell), powershell, "{shell}");
        }
        assert_eq!(script("cmd /C {0}"), "@echo off\nx");
        for shell in ["bash", "bash -x {0}", "python -u {0}", "perl {0}"] {
            assert_eq!(script(shell), "x", "{shell}");
        }
    }

    #[test]
    fn quotes_keep_blanks() {
        let shell = Shell::resolve(Some(r#"env "A=b c" "" sh \"{0}"#), true).unwrap();
        assert_eq!(shell.argv("/p q"), ["env", "A=b c", "", "sh", "\"/p q"]);
    }

    #[test]
    fn what_cannot_run_is_refused() {
        assert!(matches!(Shell::resolve(Some("zsh"), true), Err(ShellError::NoScript(_))));
        assert!(matches!(Shell::resolve(Some("cmd"), true), Err(ShellError::Windows(_))));
        assert!(matches!(Shell::resolve(Some("a \" {0}"), true), Err(ShellError::Quote(_))));
    }
}
