//! `tci runs logs`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use clap::Args;
use terraphim_github_runner::store::{JobRecord, RunDetail, RunFiles, RunId, RunStore, TIMESTAMP_WIDTH};

use super::{
    follow::{Watch, ends},
    store_with,
};
use crate::{
    cli::Global,
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci runs logs 12 --job build --step 3\n  tci runs logs 12 --follow")]
pub(super) struct LogsArgs {
    /// The run's number.
    run: RunId,
    /// Only jobs with this id, key or name.
    #[arg(long, short, value_name = "JOB")]
    job: Option<String>,
    /// Only the step with this number.
    #[arg(long, short, value_name = "N", conflicts_with = "follow")]
    step: Option<i64>,
    /// Begin every line with its time.
    #[arg(long, short)]
    timestamps: bool,
    /// Go on until the run ends.
    #[arg(long, short)]
    follow: bool,
}

/// Held back before it is printed.
const BUFFER: usize = 256 * 1024;

pub(super) async fn logs(args: &LogsArgs, global: &Global) -> Result<Exit, Failure> {
    let store = store_with(args.run, global).await?;
    let detail = store.detail(args.run).await?;
    let files = store.files(args.run);
    if args.follow && detail.run.conclusion.is_none() {
        return follow(args, &store, &files, &detail).await;
    }
    let jobs = chosen(args, &detail);
    if jobs.is_empty() && args.job.is_some() {
        return Err(no_job(&detail));
    }
    let several = jobs.len() > 1;
    let is_empty =
        |job: &&JobRecord| std::fs::metadata(files.log(job.number)).map_or(true, |log| log.len() == 0);
    if jobs.iter().all(is_empty) {
        output::note(&format!("nothing was written; `tci runs show {}` says how it ended", args.run));
    }
    for job in jobs {
        if several {
            output::data(&format!("==> {} <==\n", one_line(&job.name)))?;
        }
        let (start, end) = range(args, job)?;
        Printer::new(args, None).print(&files.log(job.number), start, end)?;
    }
    Ok(Exit::Success)
}

fn chosen<'a>(args: &LogsArgs, detail: &'a RunDetail) -> Vec<&'a JobRecord> {
    let fits = |job: &&JobRecord| match &args.job {
        Some(wanted) => {
            job.key == *wanted || job.name == *wanted || job.key.split('.').next() == Some(wanted.as_str())
        }
        None => true,
    };
    detail.jobs.iter().filter(fits).collect()
}

fn no_job(detail: &RunDetail) -> Failure {
    let names: Vec<&str> = detail.jobs.iter().map(|job| job.key.as_str()).collect();
    Failure::usage("the run has no such job").hint(format!("it has: {}", names.join(", ")))
}

/// Which bytes of a job's log are asked for.
fn range(args: &LogsArgs, job: &JobRecord) -> Result<(u64, Option<u64>), Failure> {
    let Some(number) = args.step else { return Ok((0, None)) };
    let step = job.steps.iter().find(|step| step.number == number);
    let step = step.ok_or_else(|| {
        Failure::usage(format!("job `{}` has no step {number}", job.key))
            .hint(format!("it has {} steps so far", job.steps.len()))
    })?;
    Ok((step.log_start, step.log_end))
}

async fn follow(
    args: &LogsArgs,
    store: &RunStore,
    files: &RunFiles,
    detail: &RunDetail,
) -> Result<Exit, Failure> {
    // Watched before it is read: what comes in between wakes us.
    let mut watch = Watch::on(&[files.dir()])?;
    let ended = ends(&detail.run.owner);
    tokio::pin!(ended);
    let mut offsets: BTreeMap<i64, u64> = BTreeMap::new();
    let mut known: Vec<JobRecord> = Vec::new();
    loop {
        let is_over = files.end_mark().exists();
        // A job is in the database before its log has a line.
        let has_new_log =
            files.log(i64::try_from(known.len()).unwrap_or(i64::MAX).saturating_add(1)).exists();
        if has_new_log || known.is_empty() {
            known = store.detail(args.run).await?.jobs;
        }
        let now = RunDetail { run: detail.run.clone(), jobs: known.clone() };
        let several = known.len() > 1;
        for job in chosen(args, &now) {
            let offset = offsets.entry(job.number).or_default();
            let printer = Printer::new(args, several.then(|| one_line(&job.name)));
            *offset = printer.print(&files.log(job.number), *offset, None)?;
        }
        if is_over {
            return Ok(Exit::Success);
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            end = &mut ended, if !files.end_mark().exists() => {
                end?;
                if !files.end_mark().exists() {
                    output::warning("the run was interrupted: the process that executed it is gone");
                    return Ok(Exit::Success);
                }
            }
        }
    }
}

struct Printer<'a> {
    args: &'a LogsArgs,
    prefix: Option<String>,
}

impl Printer<'_> {
    fn new(args: &LogsArgs, prefix: Option<String>) -> Printer<'_> {
        Printer { args, prefix }
    }

    /// Prints whole lines from `start` up to `end`; returns where to go on.
    fn print(&self, path: &Path, start: u64, end: Option<u64>) -> Result<u64, Failure> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(start),
            Err(error) => return Err(Failure::io("open", path, error)),
        };
        let failed = |error| Failure::io("read", path, error);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let length = end.map_or(u64::MAX, |end| end.saturating_sub(start));
        let mut reader = BufReader::with_capacity(BUFFER, file.take(length));
        let (mut offset, mut line, mut out) = (start, Vec::new(), Vec::with_capacity(BUFFER));
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
            // The last line is not written yet to its end; it is printed when it is whole.
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            offset += read as u64;
            if let Some(prefix) = &self.prefix {
                out.extend_from_slice(format!("[{prefix}] ").as_bytes());
            }
            let text = if self.args.timestamps { 0 } else { TIMESTAMP_WIDTH.min(read) };
            out.extend_from_slice(&line[text..]);
            if out.len() >= BUFFER / 2 {
                output::bytes(&out)?;
                out.clear();
            }
        }
        output::bytes(&out)?;
        Ok(offset)
    }
}
