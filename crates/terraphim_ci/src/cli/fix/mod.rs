//! `tci fix`: a proposal for the workflow file of a failed run.

mod learned;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use similar::TextDiff;
use terraphim_actions::workflow::{StepKind, Workflow};
use terraphim_github_runner::{
    fix::{FailedStep, NoProposal, Proposal, propose},
    learning::signature::FailureSignature,
    llm::fix::{self as model, FixRequest},
    store::{
        JobRecord, RunDetail, RunId, RunStore, StepRecord, StoreError, StoredConclusion, TIMESTAMP_WIDTH,
    },
};

use self::learned::Learned;
use super::{Global, llm, run::request::Request, small_runtime};
use crate::{
    exit::Exit,
    failure::{Context as _, Failure},
    input,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints a change of the workflow file as a diff, made by fixed rules from the log of the first step that failed: a limit that was \
too short, a program that is missing, a script that may not be executed, a network that failed; or from earlier runs, when the \
command is flaky and running it again helped. What was learned of such failures is said. Nothing is changed unless `--apply` \
says so.

With `--llm` the configured language model proposes the change (`tci new --help`). It gets the workflow file, the end of the \
failed step's log, and what was learned of such failures. What it writes has to pass the checker; nothing of it is run.

Exit codes:
  0    a proposal was printed, or applied
  1    nothing to propose: why stands on standard error
  2    there is no such run, it did not fail, or the file is not as it was when it ran; no language model is configured
  3    the language model did not answer

Examples:
  tci fix 12
  tci fix 12 | git apply
  tci fix 12 --apply && tci run
  tci fix 12 --llm")]
pub(crate) struct FixArgs {
    /// The run's number.
    run: RunId,
    /// Change the file.
    #[arg(long)]
    apply: bool,
    /// Have the configured language model propose the change.
    #[arg(long)]
    llm: bool,
    /// Print the proposal as JSON.
    #[arg(long)]
    json: bool,
}

/// The end of a log tells the cause.
const LOG_BYTES: u64 = 256 * 1024;

pub(crate) fn main(args: &FixArgs, global: &Global) -> Result<Exit, Failure> {
    small_runtime()?.block_on(fix(args, global))
}

async fn fix(args: &FixArgs, global: &Global) -> Result<Exit, Failure> {
    let store = RunStore::open_to_read(global.paths()?.data()).await?;
    let store = store.ok_or(StoreError::NotFound(args.run))?;
    let detail = store.detail(args.run).await?;
    let request: Request = serde_json::from_value(store.request(args.run).await?)
        .context(format!("cannot read what run {} was asked to do", args.run))?;
    let (job, step) = failed_step(&detail)?;
    let log = log_of(&store.files(args.run).log(job.number), step)?;
    let workflow = request.source.load().map_err(|_| {
        Failure::usage("the recorded workflow file is not valid for this version")
            .hint("`tci check` says why")
    })?;
    let exit_code = step.exit_code.and_then(|code| i32::try_from(code).ok());
    let signature = FailureSignature::with_exit(&log, exit_code);
    let learned = Learned::about(&request, job, step, &signature, store).await?;
    let failed = FailedStep {
        job: id_of(job),
        number: usize::try_from(step.number).unwrap_or(usize::MAX),
        log: &log,
        exit_code,
        limit: limit_of(job, step),
        repetition_helps: learned.repetition_helps.as_deref(),
    };
    let about = format!("job `{}`, step {} ({})", job.key, step.number, one_line(&step.name));
    let proposal = if args.llm {
        let cause = format!("{} ({})", signature.cause, signature.text);
        by_model((&about, &cause, &learned), &failed, &workflow, &request, global).await?
    } else {
        match propose(&workflow, &request.source.text, &failed) {
            Ok(proposal) => proposal,
            Err(why) => return nothing(args, &about, &why, &learned),
        }
    };
    if args.apply {
        apply(&request.root.join(&request.source.path), &request.source.text, &proposal.workflow)?;
    }
    tell(args, (&about, &learned), (&request.source.path, &request.source.text), &proposal)
}

/// The id of a job in its file: without the leg of a matrix.
fn id_of(job: &JobRecord) -> &str {
    job.key.split('.').next().unwrap_or(&job.key)
}

/// What the configured language model proposes.
async fn by_model(
    (about, cause, learned): (&str, &str, &Learned),
    failed: &FailedStep<'_>,
    old: &Workflow,
    request: &Request,
    global: &Global,
) -> Result<Proposal, Failure> {
    let client = llm::client(&request.root, &request.repository.full_name, global)?;
    let mut known =
        format!("{about}\nexit code: {:?}\nlimit: {:?}\ncause: {cause}\n", failed.exit_code, failed.limit);
    known.extend(learned.lessons.iter().map(|lesson| format!("learned: {lesson}\n")));
    let asked = FixRequest { workflow: &request.source.text, about: &known, log: failed.log };
    let made = model::propose(&client, &asked, &llm::progress()).await;
    llm::end_progress();
    let made = made.map_err(llm::failed)?;
    llm::tell(&made.model, &made.usage, &made.notes);
    let new = Workflow::parse(&made.workflow, "workflow.yml")
        .map_err(|_| Failure::fault("the checker took it once"))?;
    let used = uses(old);
    let adds = uses(&new)
        .into_iter()
        .filter(|one| !used.contains(one))
        .map(|one| format!("uses {}", one_line(&one)));
    let change =
        format!("a language model ({}) wrote this; it passes the checker and was not run", made.model);
    Ok(Proposal { cause: cause.to_owned(), change, adds: adds.collect(), workflow: made.workflow })
}

/// The actions of a file.
fn uses(workflow: &Workflow) -> BTreeSet<String> {
    let steps = workflow.jobs.values().flat_map(|job| &job.steps);
    steps
        .filter_map(|step| match &step.kind {
            StepKind::Uses { uses, .. } => Some(uses.to_string()),
            _ => None,
        })
        .collect()
}

fn nothing(args: &FixArgs, about: &str, why: &NoProposal, learned: &Learned) -> Result<Exit, Failure> {
    if args.json {
        output::json(&json!({ "proposal": null, "why": why.to_string(), "lessons": learned.lessons }))?;
    } else {
        say(learned);
        output::note(&format!("nothing to propose for {about}: {}", one_line(&why.to_string())));
    }
    Ok(Exit::WorkflowFailed)
}

fn say(learned: &Learned) {
    for lesson in &learned.lessons {
        output::note(&format!("learned: {}", one_line(lesson)));
    }
}

fn tell(
    args: &FixArgs,
    (about, learned): (&str, &Learned),
    (path, old): (&str, &str),
    proposal: &Proposal,
) -> Result<Exit, Failure> {
    let (from, to) = (format!("a/{path}"), format!("b/{path}"));
    let diff = TextDiff::from_lines(old, &proposal.workflow);
    let diff = diff.unified_diff().header(&from, &to).to_string();
    if args.json {
        output::json(
            &json!({ "proposal": proposal, "diff": diff, "applied": args.apply, "lessons": learned.lessons }),
        )?;
        return Ok(Exit::Success);
    }
    output::note(&format!("{about}: {}", one_line(&proposal.cause)));
    say(learned);
    output::note(&format!("proposal: {}", one_line(&proposal.change)));
    for adds in &proposal.adds {
        output::warning(&format!("the workflow then {adds}"));
    }
    output::data(&diff)?;
    if args.apply {
        output::note(&format!("{path} is changed"));
    }
    Ok(Exit::Success)
}

/// The first step that failed and counts.
fn failed_step(detail: &RunDetail) -> Result<(&JobRecord, &StepRecord), Failure> {
    let is_bad = |conclusion| conclusion == Some(StoredConclusion::Failure);
    let found = detail.jobs.iter().filter(|job| is_bad(job.outcome)).find_map(|job| {
        let step = job.steps.iter().find(|step| is_bad(step.conclusion))?;
        Some((job, step))
    });
    found.ok_or_else(|| {
        let id = detail.run.id;
        Failure::usage(format!("no step of run {id} failed"))
            .hint(format!("`tci runs show {id}` shows how it ended"))
    })
}

/// The engine says so in an annotation when a step's own limit ended it.
fn limit_of(job: &JobRecord, step: &StepRecord) -> Option<Duration> {
    let was_stopped = job.annotations.iter().any(|one| {
        one.step == Some(step.number) && one.message.starts_with("The step ran longer than its limit")
    });
    let took = step.finished_at_ms?.checked_sub(step.started_at_ms)?;
    was_stopped.then(|| Duration::from_millis(u64::try_from(took).unwrap_or(0)))
}

/// What a step wrote, without the times before the lines.
fn log_of(path: &Path, step: &StepRecord) -> Result<String, Failure> {
    let end = step.log_end.unwrap_or(u64::MAX);
    let read = || {
        let mut file = File::open(path)?;
        let end = end.min(file.metadata()?.len());
        let start = step.log_start.max(end.saturating_sub(LOG_BYTES));
        file.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        file.take(end.saturating_sub(start)).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| Failure::io("read", path, error))?;
    let text = String::from_utf8_lossy(&text);
    let line = |line: &str| line.get(TIMESTAMP_WIDTH..).unwrap_or("").to_owned() + "\n";
    Ok(text.lines().map(line).collect())
}

/// Changes the file if it is as it was when it ran, all of it or nothing.
fn apply(path: &Path, old: &str, new: &str) -> Result<(), Failure> {
    let failed = |operation, error| Failure::io(operation, path, error).ending(Exit::Usage);
    let now = input::read_text(path, input::MOST_DATA).map_err(|error| failed("read", error))?;
    if now != old {
        return Err(Failure::usage(format!("{} is not as it was when it ran", path.display()))
            .hint("run it again, or take the diff by hand"));
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = Path::new(&aside);
    let kept = fs::metadata(path).and_then(|found| {
        fs::write(aside, new)?;
        fs::set_permissions(aside, found.permissions())?;
        fs::rename(aside, path)
    });
    kept.map_err(|error| {
        let _ = fs::remove_file(aside);
        failed("write", error)
    })
}
