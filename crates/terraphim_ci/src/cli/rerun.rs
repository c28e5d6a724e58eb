//! `tci rerun`: a recorded run again.

use clap::Args;
use terraphim_actions::workflow::Workflow;
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
    /// Only the jobs that did not succeed, with all legs of their matrices, the jobs that depend on them, and what these
    /// need.
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
        let failed = failed_jobs(&store.detail(args.run).await?)?;
        request.jobs = match request.source.load() {
            Ok(workflow) => with_dependents(&workflow, failed, &request.jobs),
            // What is wrong with it is said when it is planned.
            Err(_) => failed,
        };
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

/// The ids of the jobs that did not succeed.
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

/// GitHub runs the dependents of failed jobs again too ("Re-running failed jobs in a workflow"); here those that the run was
/// to have, which was of the jobs `asked` and what they need.
fn with_dependents(workflow: &Workflow, failed: Vec<String>, asked: &[String]) -> Vec<String> {
    let mut ids = failed;
    let possible = run::with_needs(workflow, asked);
    loop {
        let next = possible.iter().find(|job| {
            let is_in = |id: &str| ids.iter().any(|known| known.eq_ignore_ascii_case(id));
            !is_in(&job.id.value) && job.needs.iter().any(|need| is_in(&need.value))
        });
        match next {
            Some(job) => ids.push(job.id.value.clone()),
            None => return ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_a_failed_job_runs_again_as_far_as_it_was_asked_for() {
        let job = |(id, needs): (&str, &str)| {
            format!("  {id}: {{runs-on: x, needs: [{needs}], steps: [{{run: x}}]}}\n")
        };
        let needs = [("bad", "ok"), ("dep", "bad"), ("last", "dep, ok"), ("other", "ok")];
        let jobs: String = needs.into_iter().map(job).collect();
        let text = format!("on: push\njobs:\n  ok: {{runs-on: x, steps: [{{run: x}}]}}\n{jobs}");
        let workflow = Workflow::parse(&text, "w.yml").unwrap();
        let again = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|id| (*id).to_owned()).collect();
            with_dependents(&workflow, vec!["bad".to_owned()], &asked)
        };
        assert_eq!(again(&[]), ["bad", "dep", "last"]);
        assert_eq!(again(&["Dep"]), ["bad", "dep"]);
        assert_eq!(again(&["bad"]), ["bad"]);
    }
}
