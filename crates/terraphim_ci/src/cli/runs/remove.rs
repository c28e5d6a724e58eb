//! `tci runs rm`.

use clap::Args;
use terraphim_github_runner::store::{RunId, RunStore, StoreError};

use crate::{cli::Global, exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci runs rm 3 4 5")]
pub(super) struct RmArgs {
    /// The runs' numbers.
    #[arg(required = true)]
    runs: Vec<RunId>,
}

pub(super) async fn rm(args: &RmArgs, global: &Global) -> Result<Exit, Failure> {
    let paths = global.paths()?;
    if RunStore::open_to_read(paths.data()).await?.is_none() {
        // Removing from nothing makes nothing.
        return Err(args
            .runs
            .first()
            .map_or_else(|| Failure::usage("no run is given"), |run| StoreError::NotFound(*run).into()));
    }
    let store = RunStore::open(paths.data()).await?;
    for run in &args.runs {
        store.remove_run(*run).await?;
        output::data(&format!("{run}\n"))?;
    }
    store.close().await;
    Ok(Exit::Success)
}
