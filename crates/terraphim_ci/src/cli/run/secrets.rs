//! `--secret` and `--secret-file`. Secrets are never stored and never shown.

use std::{
    io::{self, BufRead as _},
    path::{Path, PathBuf},
};

use clap::Args;
use indexmap::IndexMap;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use terraphim_github_runner::{
    engine::Secret,
    settings::{RunSettings, SettingsStore},
};

use super::variables::{Asked, read_file};
use crate::{
    cli::setting,
    failure::{Context as _, Failure},
    output,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Variables and secrets")]
pub(crate) struct SecretArgs {
    /// A secret; NAME alone takes it from our environment, or asks for it on a terminal. May be repeated.
    #[arg(long = "secret", short, value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// A file of NAME=VALUE lines with secrets (`-` is standard input).
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
}

/// Secrets by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(pub(super) IndexMap<String, Secret>);

/// The stored secrets and variables of a run, under those that were given with it.
pub(super) fn stored(
    data: &Path,
    repository: &str,
    given: &Secrets,
    vars: &IndexMap<String, String>,
) -> Result<RunSettings, Failure> {
    let store = SettingsStore::new(data);
    let mut settings = store.for_run(repository).map_err(setting::failed)?;
    let lists = settings.environments.values_mut();
    let lists = lists.map(|it| (&mut it.secrets, &mut it.vars));
    for (secrets, known) in std::iter::once((&mut settings.secrets, &mut settings.vars)).chain(lists) {
        // What is given with the run is the strongest, also over an environment.
        secrets.retain(|name, _| !given.has(name));
        known.retain(|name, _| !vars.keys().any(|given| given.eq_ignore_ascii_case(name)));
    }
    settings.secrets.extend(given.0.clone());
    settings.vars.extend(vars.clone());
    Ok(settings)
}

impl Secrets {
    /// The names, which are no secret.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.keys().any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl SecretArgs {
    /// The files, for [`super::variables::one_reader`].
    pub(crate) fn files(&self) -> impl Iterator<Item = Asked<'_>> {
        self.secret_file.iter().map(|file| ("--secret-file", file.as_path()))
    }

    /// What the files have. Each is read once, because a pipe (`<(command)`, `/dev/stdin`) has nothing for a second time.
    pub(crate) fn of_files(&self) -> Result<Secrets, Failure> {
        let mut all = IndexMap::new();
        for file in &self.secret_file {
            all.extend(read_file(file)?.into_iter().map(|(name, value)| (name, Secret::from(value))));
        }
        Ok(Secrets(all))
    }

    /// The names, without asking for anything.
    pub(crate) fn names(&self, of_files: &Secrets) -> Vec<String> {
        let flags = self.secrets.iter().map(|pair| pair.split('=').next().unwrap_or(pair));
        of_files.0.keys().map(String::as_str).chain(flags).map(str::to_owned).collect()
    }

    /// The values: those of the flags over those of the files. Asks for those that are nowhere else.
    pub(crate) fn read(&self, of_files: Secrets) -> Result<Secrets, Failure> {
        let mut all = of_files.0;
        for pair in &self.secrets {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (pair.as_str(), from_environment_or_user(pair)?),
            };
            if name.is_empty() {
                return Err(Failure::usage("`--secret`: the name is empty"));
            }
            all.insert(name.to_owned(), Secret::from(value));
        }
        Ok(Secrets(all))
    }
}

fn from_environment_or_user(name: &str) -> Result<String, Failure> {
    if let Ok(value) = std::env::var(name) {
        return Ok(value);
    }
    if !termios::isatty(io::stdin()) {
        return Err(Failure::usage(format!("secret `{name}` has no value"))
            .hint(format!(
                "set the environment variable {name}, use `--secret-file`, or store it with `tci secret set {name}`"
            )));
    }
    ask(name)
}

/// Asks the person at the terminal, without showing the answer.
pub(in crate::cli) fn ask(name: &str) -> Result<String, Failure> {
    let _silent = Silent::enter().context("cannot silence the terminal")?;
    output::status(&format!("{name}: "));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the secret")?;
    output::note("");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// From now on the memory of this process is in no core file, and no other process of the user can look into it.
///
/// # Errors
/// The kernel refuses.
pub(in crate::cli) fn keep_out_of_core_files() -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)
        .context("cannot keep secrets out of core files")
}

/// The terminal without echo, until this is dropped.
struct Silent {
    before: Termios,
}

impl Silent {
    fn enter() -> io::Result<Silent> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Silent { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // There is nobody left to tell when the terminal has gone away.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn a_pipe_is_read_once_for_names_and_values() {
        let (from, mut to) = io::pipe().unwrap();
        to.write_all(b"TOKEN=of-the-pipe\nBOTH=weak\n").unwrap();
        drop(to);
        let path = PathBuf::from(format!("/dev/fd/{}", from.as_raw_fd()));
        let secrets = vec!["BOTH=strong".to_owned()];
        let args = SecretArgs { secrets, secret_file: vec![path] };
        let of_files = args.of_files().unwrap();
        assert_eq!(args.names(&of_files), ["TOKEN", "BOTH", "BOTH"]);
        let all = args.read(of_files).unwrap();
        let values: Vec<&str> = all.0.values().map(Secret::expose).collect();
        assert_eq!(values, ["of-the-pipe", "strong"]);
    }
}
