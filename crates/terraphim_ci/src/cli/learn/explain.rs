//! `tci learn explain`.

use std::{fmt::Write as _, path::PathBuf};

use chrono::Utc;
use clap::Args;
use serde::Serialize;
use terraphim_github_runner::learning::{
    CommandIdentity,
    insight::{Lesson, Related, Thesaurus, lessons, related},
    model::{CommandFact, LessonState, Level, Prediction, Verdict, classify},
};
use terraphim_github_runner::store::LearnedModels;

use super::{RepositoryArg, learner};
use crate::{
    cli::Global,
    exit::Exit,
    failure::Failure,
    input,
    output::{self, one_line},
};

/// More related commands are not read.
const RELATED: usize = 5;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tci learn explain 'cargo test'
  tci learn explain 'cargo test' --after 'cargo build' --json
  tci learn explain 'make all' --thesaurus terms.json")]
pub(super) struct ExplainArgs {
    /// A command or script.
    command: String,
    /// The command that runs before it.
    #[arg(long, value_name = "COMMAND", default_value = "", hide_default_value = true)]
    after: String,
    /// A file with terms of yours: JSON, term -> id, nterm, url; may be repeated.
    #[arg(long, value_name = "FILE")]
    thesaurus: Vec<PathBuf>,
    #[command(flatten)]
    repository: RepositoryArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Explanation {
    identity: CommandIdentity,
    prediction: Prediction,
    verdict: Option<Verdict>,
    fact: Option<CommandFact>,
    /// Those of its failures that are or were lessons.
    lessons: Vec<Lesson>,
    related: Vec<Related>,
}

pub(super) async fn explain(args: &ExplainArgs, global: &Global) -> Result<Exit, Failure> {
    let identity = CommandIdentity::of(&args.command);
    if identity.canonical.is_empty() {
        return Err(Failure::usage("no command is given").hint("tci learn explain 'cargo test'"));
    }
    let thesaurus = thesaurus(&args.thesaurus)?;
    let previous = CommandIdentity::of(&args.after).canonical;
    let look = |models: &LearnedModels| look(models, &thesaurus, identity, &previous);
    let explanation = match learner(&args.repository, global).await? {
        Some(learner) => learner.with_models(look).await,
        None => look(&LearnedModels::empty("")),
    };
    if args.json {
        output::json(&explanation)?;
    } else {
        output::data(&text(&explanation))?;
    }
    Ok(Exit::Success)
}

fn look(
    models: &LearnedModels,
    thesaurus: &Thesaurus,
    identity: CommandIdentity,
    previous: &str,
) -> Explanation {
    let fact = models.own.command(&identity.canonical).cloned();
    let mut lessons = lessons(&models.own);
    lessons.retain(|lesson| lesson.command == identity.canonical);
    Explanation {
        prediction: models.own.predict(
            Some(&models.shared),
            &identity,
            previous,
            Utc::now().timestamp_millis(),
        ),
        verdict: fact.as_ref().map(|fact| classify(&fact.history)),
        related: related(&models.own, thesaurus, &identity.canonical, RELATED),
        fact,
        lessons,
        identity,
    }
}

fn thesaurus(files: &[PathBuf]) -> Result<Thesaurus, Failure> {
    let mut thesaurus = Thesaurus::built_in();
    for path in files {
        let text = input::read_text(path, input::MOST_DATA)
            .map_err(|error| Failure::io("read", path, error).ending(Exit::Usage))?;
        thesaurus = thesaurus.with_json(path, &text).map_err(|error| Failure::caused(Exit::Usage, error))?;
    }
    Ok(thesaurus)
}

fn text(of: &Explanation) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let Prediction { probability, low, high, effective_n, evidence } = &of.prediction;
    let mut text = format!(
        "{}\nsucceeds with {} (95 %: {} to {}; worth {effective_n:.0} outcomes)\n",
        one_line(&of.identity.canonical),
        percent(*probability),
        percent(*low),
        percent(*high),
    );
    for one in evidence {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {:<38} {:>6} succeeded, {:>5} failed -> {}",
            level(one.level),
            one.successes,
            one.failures,
            percent(one.probability)
        );
    }
    if let Some(verdict) = &of.verdict {
        let _ = writeln!(text, "{}: {}", verdict.class.name(), verdict.reason);
    }
    if let Some(fact) = &of.fact {
        add_fact(&mut text, fact, &of.lessons);
    }
    for one in &of.related {
        let _ = writeln!(text, "related: {} ({})", one_line(&one.example), one_line(&one.reasons.join("; ")));
    }
    text
}

fn add_fact(text: &mut String, fact: &CommandFact, lessons: &[Lesson]) {
    if let (Some(median), Some(p90)) = (fact.durations.median(), fact.durations.quantile(0.9)) {
        let of = |ms| output::duration(std::time::Duration::from_millis(ms));
        let _ = writeln!(text, "takes {} (median), {} (9 of 10 are faster)", of(median), of(p90));
    }
    for reason in &fact.reasons {
        let lesson = lessons.iter().find(|lesson| lesson.failure.id == reason.id);
        let state = match lesson.map(|lesson| lesson.state) {
            Some(LessonState::Active) => ", a lesson",
            Some(LessonState::Retired) => ", a lesson that is over",
            Some(LessonState::Candidate) | None => "",
        };
        let times = if reason.count == 1 { "once".to_owned() } else { format!("{} times", reason.count) };
        let _ = writeln!(
            text,
            "failed {times} with: {} ({}){state}, last {}",
            one_line(&reason.text),
            reason.cause,
            output::time(reason.last_ms)
        );
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::All => "all commands of all repositories",
        Level::Tool => "this tool, everywhere",
        Level::Subcommand => "this subcommand, everywhere",
        Level::RepositorySubcommand => "this subcommand, in this repository",
        Level::Command => "this command",
        Level::Exact => "exactly so",
        Level::Pair => "after the command before it",
    }
}
