//! `--env`, `--var`, `--input` and their files.

use std::path::{Path, PathBuf};

use clap::Args;
use indexmap::IndexMap;

use crate::{failure::Failure, input};

#[derive(Debug, Args)]
#[command(next_help_heading = "Variables and secrets")]
pub(super) struct VariableArgs {
    /// A variable of every step; NAME alone passes our own value on. May be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of NAME=VALUE lines for `--env` (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A value of the context `vars`; may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    var: Vec<String>,
    /// A file of NAME=VALUE lines for `--var` (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    var_file: Vec<PathBuf>,
    /// An input of `workflow_dispatch`; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) input: Vec<String>,
}

/// An option and the file that it names.
pub(in crate::cli) type Asked<'a> = (&'static str, &'a Path);

impl VariableArgs {
    /// The files, for [`one_reader`].
    pub(super) fn files(&self) -> impl Iterator<Item = Asked<'_>> {
        let env = self.env_file.iter().map(|file| ("--env-file", file.as_path()));
        env.chain(self.var_file.iter().map(|file| ("--var-file", file.as_path())))
    }

    pub(super) fn env(&self) -> Result<IndexMap<String, String>, Failure> {
        collect("--env", &self.env_file, &self.env)
    }

    pub(super) fn vars(&self) -> Result<IndexMap<String, String>, Failure> {
        collect("--var", &self.var_file, &self.var)
    }

    pub(super) fn inputs(&self) -> Result<IndexMap<String, String>, Failure> {
        self.input
            .iter()
            .map(|pair| {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| Failure::usage(format!("`--input {pair}`: write NAME=VALUE")))?;
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect()
    }
}

fn collect(flag: &str, files: &[PathBuf], pairs: &[String]) -> Result<IndexMap<String, String>, Failure> {
    let mut all = IndexMap::new();
    for file in files {
        all.extend(read_file(file)?);
    }
    for pair in pairs {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (pair.as_str(), std::env::var(pair).unwrap_or_default()),
        };
        if name.is_empty() {
            return Err(Failure::usage(format!("`{flag} {pair}`: the name is empty")));
        }
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

/// Refuses a second option that reads standard input: it would find nothing there, and nobody would know.
pub(in crate::cli) fn one_reader<'a>(asked: impl IntoIterator<Item = Asked<'a>>) -> Result<(), Failure> {
    let names = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].map(Path::new);
    let mut readers = asked.into_iter().filter(|(_, path)| names.contains(path));
    match (readers.next(), readers.next()) {
        (Some((first, _)), Some((second, _))) => Err(Failure::usage(format!(
            "`{first}` and `{second}` both want standard input, which can be read once"
        ))
        .hint("give one of them a file, or put the lines together")),
        _ => Ok(()),
    }
}

/// A file of `NAME=VALUE` lines, or standard input for `-`: `#` comments, blank lines, `export` and quotes as in a shell.
pub(in crate::cli) fn read_file(path: &Path) -> Result<IndexMap<String, String>, Failure> {
    let text = input::named(path, input::MOST_DATA)?;
    let shown = input::shown(path).display();
    parse(&text).map_err(|wrong| Failure::usage(format!("{shown}:{}: {}", wrong.line, wrong.why)))
}

#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: usize,
    why: &'static str,
}

fn parse(text: &str) -> Result<IndexMap<String, String>, Wrong> {
    let mut all = IndexMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let wrong = |why| Wrong { line: index + 1, why };
        let line = line.trim_start();
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(wrong("write NAME=VALUE"))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                // A quoted value may go on over lines; an unclosed quote is a mistake, not a value.
                let mut all = value[1..].to_owned();
                loop {
                    if let Some(done) = unquote(&all, quote) {
                        break done;
                    }
                    let (_, more) = lines.next().ok_or(wrong("the quote is not closed"))?;
                    all.push('\n');
                    all.push_str(more);
                }
            }
            _ => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
        };
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

/// The text up to the closing quote; in double quotes a backslash escapes.
fn unquote(text: &str, quote: char) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => return Some(value),
            '\\' if quote == '"' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_a_shell_would() {
        let text = "# comment\n\nA=1\nexport B = two words # why\nC=\"x\\ny\"\nD='a\nb\\n'\nE=\nF=a=b#c\n";
        let all = parse(text).unwrap();
        let want =
            [("A", "1"), ("B", "two words"), ("C", "x\ny"), ("D", "a\nb\\n"), ("E", ""), ("F", "a=b#c")];
        assert_eq!(all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }

    #[test]
    fn standard_input_has_one_reader() {
        let asked =
            |pairs: &[Asked<'static>]| one_reader(pairs.iter().copied()).map_err(|failure| failure.message());
        let (env, secrets) = (("--env-file", Path::new("-")), ("--secret-file", Path::new("/dev/stdin")));
        assert_eq!(asked(&[env, ("--var-file", Path::new("./-"))]), Ok(()));
        let message = asked(&[env, ("--env-file", Path::new("x")), secrets]).unwrap_err();
        assert!(message.starts_with("`--env-file` and `--secret-file` both want"), "{message}");
        assert!(asked(&[secrets, secrets]).is_err());
    }

    #[test]
    fn mistakes_name_their_line() {
        assert_eq!(parse("A=1\nB"), Err(Wrong { line: 2, why: "write NAME=VALUE" }));
        assert_eq!(parse("A='x\ny"), Err(Wrong { line: 1, why: "the quote is not closed" }));
        assert_eq!(parse("=x"), Err(Wrong { line: 1, why: "the name is empty" }));
    }
}
