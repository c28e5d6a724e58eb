//! Plans for people, and graphs.

use super::{Decision, Format, Outcome, say};
use crate::{
    failure::Failure,
    output::{self, one_line},
};

pub(super) fn print(outcomes: &[Outcome], format: Format) -> Result<(), Failure> {
    let plans: Vec<_> = outcomes.iter().filter_map(|it| Some((&it.path, it.plan.as_ref()?))).collect();
    if format == Format::Mermaid && plans.len() > 1 {
        let paths: Vec<&str> = plans.iter().map(|(path, _)| path.as_str()).collect();
        return Err(Failure::usage(format!(
            "the event starts {} workflows, and Mermaid draws one",
            plans.len()
        ))
        .hint(format!("give one of {}, or use `--format dot`", paths.join(", "))));
    }
    for outcome in outcomes {
        say(outcome);
        let lines = outcome.decision.as_ref().map(|decision| verdict(&outcome.path, decision));
        let due = outcome.schedule.iter().map(|due| format!("  {}\n", one_line(&due.line())));
        let lines = lines.map(|lines| lines + &due.collect::<String>());
        if format == Format::Text {
            output::data(&lines.unwrap_or_default())?;
        } else if let Some(lines) = lines {
            output::note(lines.trim_end());
        }
        if let Some(plan) = &outcome.plan {
            output::data(&match format {
                Format::Mermaid => plan.mermaid(),
                Format::Dot => plan.dot(),
                Format::Text | Format::Json => indented(&plan.to_string()),
            })?;
        }
    }
    Ok(())
}

/// `PATH:LINE:COL: REASON`, and what was not looked at.
fn verdict(path: &str, decision: &Decision) -> String {
    let Decision { reason, line, col, unchecked, .. } = decision;
    let mut text = format!("{}:{line}:{col}: {}\n", one_line(path), one_line(reason));
    if !unchecked.is_empty() {
        text += &format!("  not looked at, the event does not say: {}\n", unchecked.join(", "));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", one_line(line))).collect()
}
