//! `tci learn rebuild` and `forget`.

use clap::Args;
use serde_json::json;

use super::store_to_change;
use crate::{cli::Global, exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci learn rebuild")]
pub(super) struct RebuildArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci learn forget octo/demo")]
pub(super) struct ForgetArgs {
    /// The repository.
    #[arg(value_name = "OWNER/NAME")]
    repository: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn rebuild(args: &RebuildArgs, global: &Global) -> Result<Exit, Failure> {
    let Some(store) = store_to_change(global).await? else {
        return Err(Failure::usage("nothing was ever learned here").hint("`tci run` learns from every run"));
    };
    let rebuilt = store.rebuild_learning().await?;
    store.close().await;
    if args.json {
        output::json(&rebuilt)?;
        return Ok(Exit::Success);
    }
    let told = match rebuilt.corrected {
        0 => "all were as the events say".to_owned(),
        n => format!("{n} were not as the events say, and are now"),
    };
    output::data(&format!("{} events, {} counters: {told}\n", rebuilt.events, rebuilt.facts))?;
    Ok(Exit::Success)
}

pub(super) async fn forget(args: &ForgetArgs, global: &Global) -> Result<Exit, Failure> {
    let unknown = || {
        Failure::usage(format!("nothing was learned about {}", args.repository))
            .hint("`tci learn stats` names the repositories")
    };
    let Some(store) = store_to_change(global).await? else { return Err(unknown()) };
    if !store.learned_repositories().await?.contains(&args.repository) {
        return Err(unknown());
    }
    let rows = store.forget_learning(&args.repository).await?;
    store.close().await;
    if args.json {
        output::json(&json!({"repository": args.repository, "rows": rows}))?;
    } else {
        output::data(&format!("{}\n", args.repository))?;
    }
    Ok(Exit::Success)
}
