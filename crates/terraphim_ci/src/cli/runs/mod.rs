//! `tci runs`: what was recorded.

pub(crate) mod follow;
mod list;
mod logs;
mod remove;
mod show;

use clap::{Args, Subcommand};
use terraphim_github_runner::store::{RunId, RunStore, StoreError, StoredConclusion};

use super::{Global, small_runtime};
use crate::{exit::Exit, failure::Failure, output::Paint};

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List runs, newest first.
    Ls(list::LsArgs),
    /// Show the jobs and steps of a run.
    Show(show::ShowArgs),
    /// Print the logs of a run.
    Logs(logs::LogsArgs),
    /// Remove runs and their logs.
    Rm(remove::RmArgs),
}

pub(crate) fn main(args: &RunsArgs, global: &Global) -> Result<Exit, Failure> {
    small_runtime()?.block_on(async {
        match &args.command {
            RunsCommand::Ls(args) => list::ls(args, global).await,
            RunsCommand::Show(args) => show::show(args, global).await,
            RunsCommand::Logs(args) => logs::logs(args, global).await,
            RunsCommand::Rm(args) => remove::rm(args, global).await,
        }
    })
}

/// The store, to read one run of it.
async fn store_with(id: RunId, global: &Global) -> Result<RunStore, Failure> {
    let store = RunStore::open_to_read(global.paths()?.data()).await?;
    Ok(store.ok_or(StoreError::NotFound(id))?)
}

/// The word for a conclusion; `running` for none.
pub(crate) fn word(conclusion: Option<StoredConclusion>) -> String {
    conclusion.map_or_else(|| "running".to_owned(), |conclusion| conclusion.name().replace('_', " "))
}

/// The same with a sign and a colour.
fn painted(paint: Paint, conclusion: Option<StoredConclusion>) -> String {
    let word = word(conclusion);
    match conclusion {
        Some(StoredConclusion::Success) => paint.green(&format!("✓ {word}")),
        Some(StoredConclusion::Failure | StoredConclusion::InfrastructureFault) => {
            paint.red(&format!("✗ {word}"))
        }
        Some(StoredConclusion::Cancelled | StoredConclusion::Interrupted) => {
            paint.yellow(&format!("! {word}"))
        }
        Some(StoredConclusion::Skipped) => paint.dim(&format!("- {word}")),
        None => paint.cyan(&format!("● {word}")),
    }
}

/// From milliseconds to milliseconds; `-` while the end is not known.
fn between(start_ms: i64, end_ms: Option<i64>) -> String {
    let took = end_ms.and_then(|end| u64::try_from(end - start_ms).ok());
    took.map_or_else(|| "-".to_owned(), |ms| crate::output::duration(std::time::Duration::from_millis(ms)))
}
