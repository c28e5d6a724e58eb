//! Where actions come from: flags, environment and configuration.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use terraphim_github_runner::{
    action::{ActionStore, Lock, Source},
    engine::Secret,
};

use crate::{
    config::Config,
    exit::Exit,
    failure::{Context as _, Failure},
};

/// Holds a token for the sources of actions. A flag would show it to every user of this host.
const TOKEN: &str = "TCI_ACTION_TOKEN";

/// Where actions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(in crate::cli) struct ActionArgs {
    /// Take actions from OWNER/NAME below this directory or address instead of GitHub; may be repeated.
    #[arg(
        long,
        value_name = "DIR|URL",
        env = "TCI_ACTION_MIRROR",
        value_delimiter = ',',
        help_heading = "Actions"
    )]
    action_mirror: Vec<String>,
    /// Ask no network for actions: only what is cached, or in a directory.
    #[arg(long, env = "TCI_OFFLINE", help_heading = "Actions")]
    #[serde(default)]
    offline: bool,
}

impl ActionArgs {
    /// The same with directories that mean the same from anywhere.
    pub(in crate::cli) fn absolute(&self) -> Result<ActionArgs, Failure> {
        let mut absolute = self.clone();
        for mirror in &mut absolute.action_mirror {
            if let Source::Directory(path) = source(mirror) {
                let path = std::path::absolute(&path).context("cannot find out where this is")?;
                *mirror = path.display().to_string();
            }
        }
        Ok(absolute)
    }

    /// The store of actions for the workflows in `workflows`, whose lock file it obeys.
    pub(in crate::cli) fn store(
        &self,
        config: &Config,
        data: &Path,
        workflows: &Path,
        github_token: Option<&Secret>,
    ) -> Result<ActionStore, Failure> {
        let mirrors =
            if self.action_mirror.is_empty() { &config.actions.mirror } else { &self.action_mirror };
        let sources: Vec<Source> = mirrors.iter().map(|mirror| source(mirror)).collect();
        for source in &sources {
            if let Source::Directory(path) = source
                && !path.is_dir()
            {
                return Err(Failure::usage(format!(
                    "the mirror of actions {} is no directory",
                    path.display()
                ))
                .hint("give a directory with OWNER/NAME in it, or an address with http:// or https://"));
            }
        }
        let lock = Lock::read(workflows).map_err(|error| Failure::caused(Exit::Usage, error))?;
        let own = std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(Secret::from);
        // GitHub's token is for GitHub alone, whatever a mirror may be.
        let token = own.or_else(|| github_token.filter(|_| sources.is_empty()).cloned());
        Ok(ActionStore::new(data.join("actions"))
            .with_sources(sources)
            .offline(self.offline)
            .with_lock(lock)
            .with_token(token.unwrap_or_default()))
    }
}

fn source(text: &str) -> Source {
    match text.parse() {
        Ok(source) => source,
        Err(never) => match never {},
    }
}

/// The directory of a workflow file, where its lock file is.
pub(in crate::cli) fn directory_of(root: &Path, workflow: &str) -> PathBuf {
    root.join(workflow).parent().unwrap_or(root).to_owned()
}
