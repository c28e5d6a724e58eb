//! `tci learn stats`, `lessons` and `flaky`.

use clap::Args;
use terraphim_github_runner::learning::{
    insight::{Lesson, Unstable, lessons as lessons_of, unstable as unstable_of},
    model::{LessonState, Totals},
};

use super::{RepositoryArg, learner};
use crate::{
    cli::Global,
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tci learn stats\n  tci learn flaky --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    repository: RepositoryArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci learn lessons --all")]
pub(super) struct LessonsArgs {
    #[command(flatten)]
    repository: RepositoryArg,
    /// Also those that are over: the command succeeded five times in a row since.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn stats(args: &ShowArgs, global: &Global) -> Result<Exit, Failure> {
    let totals = match learner(&args.repository, global).await? {
        Some(learner) => learner.with_models(|models| models.own.totals()).await,
        None => Totals::default(),
    };
    if args.json {
        output::json(&totals)?;
        return Ok(Exit::Success);
    }
    let last = if totals.last_ms > 0 { output::time(totals.last_ms) } else { "-".to_owned() };
    let Totals { events, successes, failures, faults, runs, commands, .. } = totals;
    output::data(&format!(
        "runs               {runs}\ncommands run       {}, of which {failures} failed and {faults} met a fault of the host\n\
         different commands {commands}, of which {} succeeded at least once\ndifferent failures {}\nlessons            {}\n\
         events             {events}, the last {last}\n",
        successes + failures + faults,
        totals.success_patterns,
        totals.failure_patterns,
        totals.lessons,
    ))?;
    Ok(Exit::Success)
}

pub(super) async fn lessons(args: &LessonsArgs, global: &Global) -> Result<Exit, Failure> {
    let mut found: Vec<Lesson> = match learner(&args.repository, global).await? {
        Some(learner) => learner.with_models(|models| lessons_of(&models.own)).await,
        None => Vec::new(),
    };
    found.retain(|lesson| args.all || lesson.state == LessonState::Active);
    if args.json {
        output::json(&found)?;
        return Ok(Exit::Success);
    }
    let text = |lesson: &Lesson| {
        let over = if lesson.state == LessonState::Retired { "(over) " } else { "" };
        format!("{over}{}\n", one_line(&lesson.to_string()))
    };
    output::data(&found.iter().map(text).collect::<String>())?;
    Ok(Exit::Success)
}

pub(super) async fn flaky(args: &ShowArgs, global: &Global) -> Result<Exit, Failure> {
    let found: Vec<Unstable> = match learner(&args.repository, global).await? {
        Some(learner) => learner.with_models(|models| unstable_of(&models.own)).await,
        None => Vec::new(),
    };
    if args.json {
        output::json(&found)?;
    } else {
        output::data(
            &found.iter().map(|one| format!("{}\n", one_line(&one.to_string()))).collect::<String>(),
        )?;
    }
    Ok(Exit::Success)
}
