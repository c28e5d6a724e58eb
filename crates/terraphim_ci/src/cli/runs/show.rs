//! `tci runs show`.

use std::fmt::Write as _;

use clap::Args;
use terraphim_github_runner::{
    engine::EnvironmentReport,
    store::{AnnotationRecord, JobRecord, RunDetail, RunId},
};

use super::{between, painted, store_with};
use crate::{
    cli::Global,
    exit::Exit,
    failure::Failure,
    output::{self, Paint, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci runs show 12")]
pub(super) struct ShowArgs {
    /// The run's number.
    run: RunId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn show(args: &ShowArgs, global: &Global) -> Result<Exit, Failure> {
    let detail = store_with(args.run, global).await?.detail(args.run).await?;
    if args.json {
        output::json(&detail)?;
    } else {
        output::data(&text(&detail, Paint::for_stdout()))?;
    }
    Ok(Exit::Success)
}

fn text(detail: &RunDetail, paint: Paint) -> String {
    let run = &detail.run;
    let mut text = format!(
        "run {}: {} ({})\n{}\nrepository {}, {} {}, {}\nworkflow {}, run {}, attempt {}\n",
        run.id,
        paint.bold(&one_line(&run.workflow_name)),
        painted(paint, run.conclusion),
        output::time(run.created_at_ms),
        one_line(&run.repository),
        one_line(&run.event),
        one_line(&run.git_ref),
        run.sha.get(..12).unwrap_or("no commit"),
        one_line(&run.workflow_path),
        run.run_number,
        run.attempt,
    );
    if let Some(error) = &run.error {
        let _ = writeln!(text, "error: {}", one_line(error));
    }
    for job in &detail.jobs {
        add_job(&mut text, job, paint);
    }
    text
}

fn add_job(text: &mut String, job: &JobRecord, paint: Paint) {
    let took = between(job.started_at_ms, job.finished_at_ms);
    let _ = writeln!(
        text,
        "\n{}  {}  {took}{}{}",
        paint.bold(&one_line(&job.name)),
        painted(paint, job.conclusion),
        job.vm_id.as_deref().map(|id| format!("  VM {id}")).unwrap_or_default(),
        job.environment
            .as_ref()
            .map(|it| format!("  environment {}", environment_text(it)))
            .unwrap_or_default(),
    );
    for step in &job.steps {
        let took = between(step.started_at_ms, step.finished_at_ms);
        let code = step.exit_code.filter(|code| *code != 0).map(|code| format!("  exit code {code}"));
        let _ = writeln!(
            text,
            "  {:>2}. {}  {}  {took}{}",
            step.number,
            one_line(&step.name),
            painted(paint, step.conclusion),
            code.unwrap_or_default(),
        );
    }
    for annotation in &job.annotations {
        let _ = writeln!(text, "  {}", annotation_text(annotation));
    }
    for step in &job.steps {
        let Some(summary) = &step.summary else { continue };
        let _ = writeln!(text, "\n  summary of {}. {}:", step.number, one_line(&step.name));
        for line in summary.trim_end().lines() {
            let _ = writeln!(text, "    {}", one_line(line));
        }
    }
}

fn environment_text(environment: &EnvironmentReport) -> String {
    let url = environment.url.as_ref().map(|url| format!(" ({})", one_line(url))).unwrap_or_default();
    format!("{}{url}", one_line(&environment.name))
}

fn annotation_text(annotation: &AnnotationRecord) -> String {
    let place = match (&annotation.file, annotation.line) {
        (Some(file), Some(line)) => format!("{}:{line}: ", one_line(file)),
        (Some(file), None) => format!("{}: ", one_line(file)),
        _ => String::new(),
    };
    let title = annotation.title.as_ref().map(|title| format!("{}: ", one_line(title))).unwrap_or_default();
    format!("{}: {place}{title}{}", annotation.level, one_line(&annotation.message))
}
