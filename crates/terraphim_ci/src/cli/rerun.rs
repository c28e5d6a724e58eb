//! `tci rerun`: a recorded run again.

use clap::Args;
use terraphim_github_runner::store::{RunDetail, RunId, RunStore, StoreError, StoredConclusion};

use super::{
    Global,
    run::{self, Secrets, request::Request},
    small_runtime,
};
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The workflow's text, the event and the inputs are the recorded ones; the files are those of \
                        the working tree now. Secrets are never recorded: give them again.\n\n\
                        Example:\n  tci rerun 12 --failed -s TOKEN"
)]
pub(crate) struct RerunArgs {
    /// The run's number.
    run: RunId,
    /// Only the jobs that did not succeed, and those they need.
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    secrets: run::SecretArgs,
    /// Leave the VM for inspection.
    #[arg(long)]
    keep: bool,
    /// Write the result as JSON (`-` is standard output).
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

pub(crate) fn main(args: &RerunArgs, global: &Global) -> Result<Exit, Failure> {
    small_runtime()?.block_on(rerun(args, global))
}

async fn rerun(args: &RerunArgs, global: &Global) -> Result<Exit, Failure> {
    let store = RunStore::open_to_read(global.paths()?.data()).await?;
    let store = store.ok_or(StoreError::NotFound(args.run))?;
    let recorded = store.request(args.run).await?;
    let mut request: Request = serde_json::from_value(recorded)
        .context(format!("cannot read what run {} was asked to do", args.run))?;
    request.keep = args.keep;
    if args.failed {
        request.jobs = failed_jobs(&store.detail(args.run).await?)?;
    }
    store.close().await;
    let secrets = args.secrets.read()?;
    check_secrets(&request, &secrets)?;
    if !request.root.is_dir() {
        return Err(Failure::usage(format!("the working tree {} is gone", request.root.display())));
    }
    let job = run::Job { request, rerun_of: Some(args.run) };
    run::execute(vec![job], &secrets, global, args.json.as_deref()).await
}

fn check_secrets(request: &Request, secrets: &Secrets) -> Result<(), Failure> {
    let missing: Vec<&str> =
        request.secret_names.iter().filter(|name| !secrets.has(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let flags: Vec<String> = missing.iter().map(|name| format!("--secret {name}")).collect();
    Err(Failure::usage(format!("the run had secrets, which are never recorded: {}", missing.join(", ")))
        .hint(format!("give them again: {}", flags.join(" "))))
}

/// The ids of the jobs that did not succeed. A matrix runs again as a whole.
fn failed_jobs(detail: &RunDetail) -> Result<Vec<String>, Failure> {
    let is_good =
        |conclusion| matches!(conclusion, Some(StoredConclusion::Success | StoredConclusion::Skipped));
    let mut ids = Vec::new();
    for job in detail.jobs.iter().filter(|job| !is_good(job.conclusion)) {
        let id = job.key.split('.').next().unwrap_or(&job.key).to_owned();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(Failure::usage(format!("no job of run {} failed", detail.run.id)));
    }
    Ok(ids)
}
