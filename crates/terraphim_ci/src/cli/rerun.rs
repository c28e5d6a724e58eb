//! `tci rerun`: a recorded run again, all of it or what failed.

use clap::Args;
use indexmap::IndexMap;
use terraphim_github_runner::{
    engine::{Conclusion, JobKey, KeptJob},
    store::{JobRecord, RunDetail, RunId, RunRecord, RunStore, StoreError, StoredConclusion},
};

use super::{
    Global,
    run::{self, Secrets, TakenOver, request::Request},
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
    /// Only the jobs that did not succeed, of a matrix the legs that did not, and the jobs that depend on them. The others
    /// keep their results, outputs and artifacts.
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
    let taken_over = if args.failed { take_over(&store, args.run).await? } else { TakenOver::default() };
    store.close().await;
    run::one_reader(args.secrets.files())?;
    let secrets = args.secrets.read(args.secrets.of_files()?)?;
    check_secrets(&request, &secrets)?;
    if !request.root.is_dir() {
        return Err(Failure::usage(format!("the working tree {} is gone", request.root.display())));
    }
    let job = run::Job { request, rerun_of: Some(args.run), taken_over };
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

/// What the run takes over from run `of` of which it repeats what failed.
async fn take_over(store: &RunStore, of: RunId) -> Result<TakenOver, Failure> {
    let detail = store.detail(of).await?;
    if detail.run.conclusion == Some(StoredConclusion::Success) {
        return Err(Failure::usage(format!("no job of run {of} failed"))
            .hint(format!("`tci rerun {of}` runs all of them again")));
    }
    Ok(TakenOver { jobs: kept_jobs(&detail), runs: attempts(store, detail.run).await? })
}

/// A run and those that it repeats, the newest first.
async fn attempts(store: &RunStore, run: RunRecord) -> Result<Vec<RunId>, Failure> {
    let mut all = vec![run.id];
    let mut next = run.rerun_of;
    while let Some(id) = next {
        next = match store.run(id).await {
            Ok(run) => {
                all.push(id);
                run.rerun_of
            }
            // What came before one that was removed is not known any more.
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(all)
}

/// The jobs that do not run again: those that succeeded, and those whose condition was false. The engine runs those of them
/// that depend on one that runs.
fn kept_jobs(detail: &RunDetail) -> IndexMap<JobKey, KeptJob> {
    // A run that was cancelled skips what would have run without that.
    let is_whole =
        matches!(detail.run.conclusion, Some(StoredConclusion::Success | StoredConclusion::Failure));
    let kept = |job: &JobRecord| {
        let conclusion = match job.conclusion? {
            StoredConclusion::Success => Conclusion::Success,
            StoredConclusion::Skipped if is_whole => Conclusion::Skipped,
            _ => return None,
        };
        let outcome = match job.outcome? {
            StoredConclusion::Failure => Conclusion::Failure,
            StoredConclusion::Success | StoredConclusion::Skipped => conclusion,
            _ => return None,
        };
        let kept = KeptJob {
            name: job.name.clone(),
            outcome,
            conclusion,
            // One whose outputs cannot be read runs again.
            outputs: serde_json::from_value(job.outputs.clone()).ok()?,
            environment: job.environment.clone(),
        };
        Some((JobKey::new(&job.key, None), kept))
    };
    detail.jobs.iter().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use terraphim_vm::ProcessId;

    use super::*;

    fn job(key: &str, outcome: StoredConclusion, conclusion: StoredConclusion) -> JobRecord {
        JobRecord {
            number: 1,
            key: key.to_owned(),
            name: format!("Job {key}"),
            outcome: Some(outcome),
            conclusion: Some(conclusion),
            vm_id: None,
            outputs: json!({"of": key}),
            environment: None,
            permissions: None,
            started_at_ms: 0,
            finished_at_ms: Some(0),
            steps: Vec::new(),
            annotations: Vec::new(),
        }
    }

    fn run(conclusion: StoredConclusion, jobs: Vec<JobRecord>) -> RunDetail {
        let run = RunRecord {
            id: RunId(1),
            workflow_name: "CI".to_owned(),
            workflow_path: "ci.yml".to_owned(),
            repository: "me/it".to_owned(),
            event: "push".to_owned(),
            git_ref: String::new(),
            sha: String::new(),
            run_number: 1,
            attempt: 1,
            rerun_of: None,
            conclusion: Some(conclusion),
            error: None,
            owner: ProcessId::current().unwrap(),
            created_at_ms: 0,
            finished_at_ms: Some(0),
        };
        RunDetail { run, jobs }
    }

    #[test]
    fn what_succeeded_is_kept_and_what_was_skipped_unless_the_run_was_cancelled() {
        use StoredConclusion::{Cancelled, Failure, InfrastructureFault, Interrupted, Skipped, Success};
        let jobs = || {
            vec![
                job("good", Success, Success),
                job("tolerated", Failure, Success),
                job("legs.0", Success, Success),
                job("legs.1", Failure, Failure),
                job("legs.2", Cancelled, Cancelled),
                job("never", Skipped, Skipped),
                job("lost", InfrastructureFault, InfrastructureFault),
                JobRecord { conclusion: None, outcome: None, ..job("open", Success, Success) },
            ]
        };
        let names = |kept: &IndexMap<JobKey, KeptJob>| -> Vec<String> {
            kept.keys().map(ToString::to_string).collect()
        };
        let kept = kept_jobs(&run(Failure, jobs()));
        assert_eq!(names(&kept), ["good", "tolerated", "legs.0", "never"]);
        assert_eq!(kept[1].outcome, Conclusion::Failure);
        assert_eq!(kept[2].outputs, IndexMap::from([("of".to_owned(), "legs.0".to_owned())]));
        for conclusion in [Cancelled, Interrupted, InfrastructureFault] {
            assert_eq!(names(&kept_jobs(&run(conclusion, jobs()))), ["good", "tolerated", "legs.0"]);
        }
    }
}
