//! `tci runs ls`.

use clap::Args;
use terraphim_github_runner::store::{RunRecord, RunStore};

use super::{between, word};
use crate::{
    cli::Global,
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci runs ls --limit 5")]
pub(super) struct LsArgs {
    /// How many at most.
    #[arg(long, short = 'n', default_value_t = 30)]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn ls(args: &LsArgs, global: &Global) -> Result<Exit, Failure> {
    let runs = match RunStore::open_to_read(global.paths()?.data()).await? {
        Some(store) => store.runs(args.limit).await?,
        None => Vec::new(),
    };
    if args.json {
        output::json(&runs)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    let header = ["ID", "CONCLUSION", "WORKFLOW", "EVENT", "REF", "STARTED", "TOOK"];
    output::data(&output::table(&header, &rows))?;
    Ok(Exit::Success)
}

fn row(run: &RunRecord) -> Vec<String> {
    let short = ["refs/heads/", "refs/tags/"].iter().find_map(|prefix| run.git_ref.strip_prefix(prefix));
    vec![
        run.id.to_string(),
        word(run.conclusion),
        one_line(&run.workflow_name),
        one_line(&run.event),
        one_line(short.unwrap_or(&run.git_ref)),
        output::time(run.created_at_ms),
        between(run.created_at_ms, run.finished_at_ms),
    ]
}
