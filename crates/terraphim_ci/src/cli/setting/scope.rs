//! `--repo`, `--env` and `--org`.

use std::path::Path;

use clap::Args;
use terraphim_github_runner::settings::SettingsScope;

use super::failed;
use crate::{cli::run::repository_of, failure::Failure};

#[derive(Debug, Args)]
pub(super) struct ScopeArgs {
    /// The repository [default: that of the current directory].
    #[arg(long, short = 'R', value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// Only for jobs that name this environment.
    #[arg(long, short, value_name = "NAME")]
    env: Option<String>,
    /// For all repositories of this owner.
    #[arg(long, short, value_name = "OWNER", conflicts_with_all = ["repo", "env"])]
    org: Option<String>,
}

impl ScopeArgs {
    pub(super) fn scope(&self) -> Result<SettingsScope, Failure> {
        if let Some(owner) = &self.org {
            return SettingsScope::organisation(owner).map_err(failed);
        }
        let repository = match &self.repo {
            Some(repository) => repository.clone(),
            // As `tci run` names it.
            None => repository_of(Path::new("."))?,
        };
        match &self.env {
            Some(name) => SettingsScope::environment(&repository, name),
            None => SettingsScope::repository(&repository),
        }
        .map_err(failed)
    }
}
