//! `tci cache`: what jobs share with `actions/cache`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Global;
use crate::{
    config::Config,
    exit::Exit,
    failure::{Context as _, Failure},
    output::{self, one_line},
    services::{self, CacheEntry, Caches},
};

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List entries, those that were used last first.
    Ls(LsArgs),
    /// Remove entries.
    Rm(RmArgs),
    /// Show how much each repository keeps, and how much it may.
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci cache ls --repository acme/tool --key npm-")]
struct LsArgs {
    #[command(flatten)]
    filter: Filter,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which entries are meant.
#[derive(Debug, Args)]
struct Filter {
    /// Only those of this repository.
    #[arg(long, short = 'R', value_name = "OWNER/NAME")]
    repository: Option<String>,
    /// Only those of this branch or ref.
    #[arg(long, value_name = "REF")]
    r#ref: Option<String>,
    /// Only those whose key starts so.
    #[arg(long, short, value_name = "PREFIX")]
    key: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tci cache rm npm-4f2a\n  tci cache rm --all --ref feature")]
struct RmArgs {
    /// Keys or ids.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    entries: Vec<String>,
    /// Everything that the options name.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci cache stats")]
struct StatsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &CacheArgs, global: &Global) -> Result<Exit, Failure> {
    let config = Config::load(None).map_err(|error| Failure::caused(Exit::Usage, error))?;
    let quota = u64::from(config.services.cache_quota_mib) << 20;
    let store = Caches::new(&services::directory(global.paths()?.data()), quota);
    match &args.command {
        CacheCommand::Ls(args) => ls(args, &store),
        CacheCommand::Rm(args) => rm(args, &store),
        CacheCommand::Stats(args) => stats(args, &store, quota),
    }
}

impl Filter {
    fn entries(&self, store: &Caches) -> Result<Vec<CacheEntry>, Failure> {
        let mut all = store.list(self.repository.as_deref()).context("cannot list the caches")?;
        // A branch's name is its ref, as people write it.
        let fits = |scope: &str, wanted: &str| scope == wanted || scope == format!("refs/heads/{wanted}");
        all.retain(|entry| self.r#ref.as_ref().is_none_or(|wanted| fits(&entry.meta.scope, wanted)));
        all.retain(|entry| self.key.as_ref().is_none_or(|key| entry.meta.key.starts_with(key.as_str())));
        Ok(all)
    }
}

fn ls(args: &LsArgs, store: &Caches) -> Result<Exit, Failure> {
    let all = args.filter.entries(store)?;
    if args.json {
        output::json(&all)?;
        return Ok(Exit::Success);
    }
    let row = |entry: &CacheEntry| {
        vec![
            entry.meta.id.to_string(),
            one_line(&entry.meta.key),
            one_line(&entry.meta.repository),
            one_line(entry.meta.scope.strip_prefix("refs/heads/").unwrap_or(&entry.meta.scope)),
            output::size(entry.meta.size),
            output::time(entry.meta.created_at_ms),
            output::time(entry.last_used_at_ms),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let header = ["ID", "KEY", "REPOSITORY", "REF", "SIZE", "CREATED", "USED"];
    output::data(&output::table(&header, &rows))?;
    Ok(Exit::Success)
}

fn rm(args: &RmArgs, store: &Caches) -> Result<Exit, Failure> {
    let all = args.filter.entries(store)?;
    let names =
        |entry: &&CacheEntry, wanted: &str| entry.meta.key == wanted || entry.meta.id.to_string() == wanted;
    let mut chosen: BTreeMap<u64, &CacheEntry> = BTreeMap::new();
    if args.all {
        chosen.extend(all.iter().map(|entry| (entry.meta.id, entry)));
    }
    for wanted in &args.entries {
        let before = chosen.len();
        chosen.extend(all.iter().filter(|entry| names(entry, wanted)).map(|entry| (entry.meta.id, entry)));
        if chosen.len() == before && !chosen.values().any(|entry| names(entry, wanted)) {
            return Err(Failure::usage(format!("there is no cache entry `{wanted}`"))
                .hint("`tci cache ls` shows them; `--all --key PREFIX` removes all that start so"));
        }
    }
    for entry in chosen.values() {
        store.remove(&entry.meta).context(format!("cannot remove the cache entry `{}`", entry.meta.key))?;
        output::data(&format!("{}\n", entry.meta.id))?;
    }
    Ok(Exit::Success)
}

/// What a repository keeps.
#[derive(Serialize)]
struct Usage {
    repository: String,
    entries: u64,
    bytes: u64,
    quota_bytes: u64,
}

fn stats(args: &StatsArgs, store: &Caches, quota: u64) -> Result<Exit, Failure> {
    let usage = store.usage().context("cannot look through the caches")?;
    let all: Vec<Usage> = usage
        .into_iter()
        .map(|(repository, used)| Usage {
            repository,
            entries: used.entries,
            bytes: used.bytes,
            quota_bytes: quota,
        })
        .collect();
    if args.json {
        output::json(&all)?;
        return Ok(Exit::Success);
    }
    let row = |usage: &Usage| {
        vec![
            one_line(&usage.repository),
            usage.entries.to_string(),
            output::size(usage.bytes),
            output::size(usage.quota_bytes),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::data(&output::table(&["REPOSITORY", "ENTRIES", "SIZE", "QUOTA"], &rows))?;
    Ok(Exit::Success)
}
