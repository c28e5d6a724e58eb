//! `tci insights`: everything that is worth telling about a repository.

use std::fmt::{Display, Write as _};

use clap::Args;
use terraphim_github_runner::learning::{insight::Insights, model::LessonState, model::Model};

use super::{
    Global,
    learn::{RepositoryArg, learner},
    small_runtime,
};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, Paint, one_line},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tci insights\n  tci insights --repository octo/demo --json")]
pub(crate) struct InsightsArgs {
    #[command(flatten)]
    repository: RepositoryArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &InsightsArgs, global: &Global) -> Result<Exit, Failure> {
    small_runtime()?.block_on(async {
        let insights = match learner(&args.repository, global).await? {
            Some(learner) => learner.insights().await,
            None => Insights::of(&Model::new()),
        };
        if args.json {
            output::json(&insights)?;
        } else {
            output::data(&text(&insights, Paint::for_stdout()))?;
        }
        Ok(Exit::Success)
    })
}

fn text(insights: &Insights, paint: Paint) -> String {
    let mut text = String::new();
    let active = insights.lessons.iter().filter(|lesson| lesson.state == LessonState::Active);
    section(&mut text, paint, "Failures that repeat", active);
    section(&mut text, paint, "Not stable", insights.unstable.iter());
    section(&mut text, paint, "Could be better", insights.suggestions.iter());
    if text.is_empty() && insights.totals.events > 0 {
        let runs = insights.totals.runs;
        let _ = writeln!(text, "nothing to tell: {runs} runs, no failure that repeats, nothing to save");
    }
    text
}

fn section<T: Display>(text: &mut String, paint: Paint, title: &str, items: impl Iterator<Item = T>) {
    let lines: String = items.map(|item| format!("- {}\n", one_line(&item.to_string()))).collect();
    if !lines.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{gap}{}\n{lines}", paint.bold(title));
    }
}
