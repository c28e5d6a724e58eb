//! `tci learn`: what was learned from earlier runs, and its upkeep.

mod explain;
mod show;
mod store;
mod transfer;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use terraphim_github_runner::{
    learning::Learner,
    store::{RunStore, StoreError},
};

use super::{Global, small_runtime};
use crate::{config::Config, exit::Exit, failure::Failure, output, workspace::Repository};

#[derive(Debug, Args)]
#[command(after_help = "Learning advises: it never skips anything and never changes a conclusion.
Switch it off with `enabled = false` below `[learning]` in tci.toml, or TCI_LEARNING=off; `lesson-threshold` below it says how
often a failure has to come before it is a lesson (3).

Examples:
  tci learn explain 'cargo test'      how probable is its success, and why
  tci learn flaky                     which commands and tests do not always do the same
  tci learn export backup.jsonl       everything as JSON lines")]
pub(crate) struct LearnArgs {
    #[command(subcommand)]
    command: LearnCommand,
}

#[derive(Debug, Subcommand)]
enum LearnCommand {
    /// Show how much was learned.
    Stats(show::ShowArgs),
    /// Say how probable the success of a command is, why, and what is related to it.
    Explain(explain::ExplainArgs),
    /// List failures that repeat, with their evidence.
    Lessons(show::LessonsArgs),
    /// List commands and tests that are broken, flaky, or fail for the infrastructure.
    Flaky(show::ShowArgs),
    /// Compute all counters again from the events.
    Rebuild(store::RebuildArgs),
    /// Write everything that was learned as JSON lines.
    Export(transfer::ExportArgs),
    /// Read what `export` wrote; what is known already counts once.
    Import(transfer::ImportArgs),
    /// Forget everything that was learned about a repository.
    Forget(store::ForgetArgs),
}

/// Which repository.
#[derive(Debug, Args)]
pub(crate) struct RepositoryArg {
    /// The repository [default: the one of the current directory].
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<String>,
}

pub(crate) fn main(args: &LearnArgs, global: &Global) -> Result<Exit, Failure> {
    small_runtime()?.block_on(async {
        match &args.command {
            LearnCommand::Stats(args) => show::stats(args, global).await,
            LearnCommand::Explain(args) => explain::explain(args, global).await,
            LearnCommand::Lessons(args) => show::lessons(args, global).await,
            LearnCommand::Flaky(args) => show::flaky(args, global).await,
            LearnCommand::Rebuild(args) => store::rebuild(args, global).await,
            LearnCommand::Export(args) => transfer::export(args, global).await,
            LearnCommand::Import(args) => transfer::import(args, global).await,
            LearnCommand::Forget(args) => store::forget(args, global).await,
        }
    })
}

/// What is here: a repository's name as runs of the current directory record it, and where its `tci.toml` is.
struct Here {
    name: String,
    root: PathBuf,
}

impl Here {
    fn look() -> Result<Here, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::io("read", std::path::Path::new("the current directory"), error))?;
        let git =
            Repository::discover(&here).map_err(|error| Failure::caused(Exit::Infrastructure, error))?;
        Ok(match git {
            Some(git) => Here { name: git.info().repository.full_name, root: git.root },
            None => {
                let name =
                    here.file_name().map_or_else(|| "repository".into(), |name| name.to_string_lossy());
                Here { name: format!("local/{name}"), root: here }
            }
        })
    }
}

/// What was learned about a repository; says on standard error when that is nothing.
pub(super) async fn learner(repository: &RepositoryArg, global: &Global) -> Result<Option<Learner>, Failure> {
    let here = Here::look()?;
    let name = repository.repository.as_ref().unwrap_or(&here.name);
    // The `tci.toml` of this directory says nothing about another repository.
    let config = Config::load(Some(here.root.as_path()).filter(|_| *name == here.name))
        .map_err(|error| Failure::caused(Exit::Usage, error))?;
    let Some(store) = RunStore::open_to_read(global.paths()?.data()).await? else {
        say_nothing(name, &[]);
        return Ok(None);
    };
    let known = store.learned_repositories().await?;
    if !known.contains(name) {
        say_nothing(name, &known);
        return Ok(None);
    }
    let learner = Learner::open_to_read(store, name).await?;
    learner.set_lesson_threshold(config.learning.lesson_threshold).await;
    Ok(Some(learner))
}

fn say_nothing(name: &str, known: &[String]) {
    output::note(&format!("nothing was learned about {name} yet: `tci run` learns from every run"));
    if !known.is_empty() {
        output::hint(&format!("`--repository` chooses another one: {}", known.join(", ")));
    }
}

/// The store, to change it; an error when nothing was ever recorded.
async fn store_to_change(global: &Global) -> Result<Option<RunStore>, StoreError> {
    let paths = match global.paths() {
        Ok(paths) => paths,
        Err(_) => return Ok(None),
    };
    if RunStore::open_to_read(paths.data()).await?.is_none() {
        return Ok(None);
    }
    RunStore::open(paths.data()).await.map(Some)
}
