//! Events become text: for people on a terminal, with times before every line in a pipe.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use terraphim_github_runner::engine::{Annotation, AnnotationLevel, Conclusion, JobKey, Phase, RunEvent};

use crate::output::{self, Paint, one_line};

/// How a run is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) paint: Paint,
    /// Every line begins with its time.
    pub(super) has_times: bool,
    /// Every line of a job begins with the job.
    pub(super) has_prefixes: bool,
}

impl Style {
    /// What is written for an event; empty for none. `in_group` says whether the job's output is in a group,
    /// `is_beside` whether the step runs beside others.
    pub(super) fn event(&self, event: &RunEvent, in_group: bool, is_beside: bool) -> Vec<u8> {
        if let RunEvent::Output { job, step, text, at } = event {
            return self.output(job.as_ref(), is_beside.then_some(*step), text, *at, in_group);
        }
        let Some((job, at, line)) = self.line(event) else { return Vec::new() };
        format!("{}{line}\n", self.before(job, at)).into_bytes()
    }

    fn output(
        &self,
        job: Option<&JobKey>,
        step: Option<usize>,
        text: &[u8],
        at: DateTime<Utc>,
        in_group: bool,
    ) -> Vec<u8> {
        let mut before = self.before(job, at);
        before += if in_group { "      " } else { "    " };
        if let Some(step) = step {
            let _ = write!(before, "{} ", self.paint.dim(&format!("[{step}]")));
        }
        let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        let mut out = Vec::with_capacity(text.len() + lines * before.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(line);
        }
        if out.last().is_some_and(|byte| *byte != b'\n') {
            out.push(b'\n');
        }
        out
    }

    fn before(&self, job: Option<&JobKey>, at: DateTime<Utc>) -> String {
        let mut text = String::new();
        if self.has_times {
            let _ = write!(text, "{} ", at.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
        if self.has_prefixes
            && let Some(job) = job
        {
            let _ = write!(text, "{} ", self.paint.cyan(&format!("[{job}]")));
        }
        text
    }

    /// The time of a heading, where lines have none.
    fn clock(&self, at: DateTime<Utc>) -> String {
        if self.has_times {
            return String::new();
        }
        self.paint.dim(&format!("  {}", output::clock(at.timestamp_millis())))
    }

    fn line<'a>(&self, event: &'a RunEvent) -> Option<(Option<&'a JobKey>, DateTime<Utc>, String)> {
        let paint = self.paint;
        Some(match event {
            RunEvent::RunStarted { title, at, .. } => {
                (None, *at, format!("{}{}", paint.bold(&one_line(title)), self.clock(*at)))
            }
            RunEvent::Notice { message, at } => (None, *at, format!("note: {}", one_line(message))),
            RunEvent::VmAllocated { vm_id, vm_type, job, took, at } => {
                let text = format!("VM {vm_id} ({vm_type}) ready in {}", output::duration(*took));
                (job.as_ref(), *at, paint.dim(&text))
            }
            RunEvent::CommandStarted { phase, command, number, of, at } => {
                let text = format!("▸ {} {number}/{of}: {}", phase_name(*phase), one_line(command));
                (None, *at, format!("  {}{}", paint.bold(&text), self.clock(*at)))
            }
            RunEvent::CommandFinished { phase, number, outcome, exit_code, duration, at } => {
                let what = format!("{} {number}", phase_name(*phase));
                (None, *at, format!("  {}", self.end(*outcome, &what, Some(*exit_code), *duration)))
            }
            RunEvent::JobStarted { job, name, at, .. } => (
                Some(job),
                *at,
                format!("{}{}", paint.bold(&format!("▸ {}", one_line(name))), self.clock(*at)),
            ),
            RunEvent::JobSkipped { job, name, conclusion, at } => {
                (Some(job), *at, paint.dim(&format!("- {}: {conclusion}", one_line(name))))
            }
            RunEvent::JobKept { job, name, conclusion, at, .. } => {
                (Some(job), *at, paint.dim(&format!("- {}: {conclusion}, kept", one_line(name))))
            }
            RunEvent::StepStarted { job, name, number, of, background, at } => {
                let beside = if *background { " (in the background)" } else { "" };
                let text = paint.bold(&format!("▸ {number}/{of} {}{beside}", one_line(name)));
                (Some(job), *at, format!("  {text}{}", self.clock(*at)))
            }
            RunEvent::GroupStart { job, name, at, .. } => {
                (Some(job), *at, format!("    ▾ {}", one_line(name)))
            }
            RunEvent::Annotation { job, annotation, at, .. } => {
                (Some(job), *at, format!("    {}", annotation_line(paint, annotation)))
            }
            RunEvent::StepFinished { job, name, outcome, conclusion, exit_code, duration, at, .. } => {
                let mut text = self.end(*outcome, name, *exit_code, *duration);
                if outcome != conclusion {
                    text += " (continue-on-error)";
                }
                (Some(job), *at, format!("  {text}"))
            }
            RunEvent::JobFinished { job, name, outcome, conclusion, duration, at, .. } => {
                let mut text = self.end(*outcome, name, None, *duration);
                if outcome != conclusion {
                    text += " (continue-on-error)";
                }
                (Some(job), *at, text)
            }
            RunEvent::Output { .. }
            | RunEvent::ScriptStarted { .. }
            | RunEvent::GroupEnd { .. }
            | RunEvent::Summary { .. }
            | RunEvent::RunFinished { .. } => return None,
        })
    }

    fn end(
        &self,
        conclusion: Conclusion,
        name: &str,
        exit_code: Option<i32>,
        duration: std::time::Duration,
    ) -> String {
        let name = one_line(name);
        if conclusion == Conclusion::Skipped {
            return self.paint.dim(&format!("- {name}: skipped"));
        }
        let code =
            exit_code.filter(|code| *code != 0).map(|code| format!(", exit code {code}")).unwrap_or_default();
        format!(
            "{}{code}  {}",
            painted(self.paint, conclusion, &name),
            self.paint.dim(&output::duration(duration))
        )
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::Cleanup => "cleanup",
    }
}

/// `✓ name` and the like; words say what is no success.
pub(super) fn painted(paint: Paint, conclusion: Conclusion, name: &str) -> String {
    match conclusion {
        Conclusion::Success => paint.green(&format!("✓ {name}")),
        Conclusion::Failure => paint.red(&format!("✗ {name}: failure")),
        Conclusion::Cancelled => paint.yellow(&format!("! {name}: cancelled")),
        Conclusion::Skipped => paint.dim(&format!("- {name}: skipped")),
    }
}

/// `error: file:3: title: message`.
pub(super) fn annotation_line(paint: Paint, annotation: &Annotation) -> String {
    let level = match annotation.level {
        AnnotationLevel::Notice => paint.cyan("notice:"),
        AnnotationLevel::Warning => paint.yellow("warning:"),
        AnnotationLevel::Error => paint.red("error:"),
    };
    let mut text = level;
    if let Some(file) = &annotation.file {
        let _ = write!(text, " {}", one_line(file));
        for number in [annotation.line, annotation.col].into_iter().flatten() {
            let _ = write!(text, ":{number}");
        }
        text.push(':');
    }
    if let Some(title) = &annotation.title {
        let _ = write!(text, " {}:", one_line(title));
    }
    let _ = write!(text, " {}", one_line(&annotation.message));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn piped(has_prefixes: bool) -> Style {
        Style { paint: Paint::plain(), has_times: true, has_prefixes }
    }

    fn at() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_123).unwrap()
    }

    fn text(style: Style, event: &RunEvent, in_group: bool) -> String {
        String::from_utf8(style.event(event, in_group, false)).unwrap()
    }

    #[test]
    fn every_line_of_a_pipe_has_its_time_and_its_job() {
        let job = Some(JobKey::new("build", None));
        let event = RunEvent::Output { job, step: 1, text: Bytes::from_static(b"one\n\ntwo"), at: at() };
        let time = "2023-11-14T22:13:20.123Z";
        let want = format!("{time} [build]     one\n{time} [build]     \n{time} [build]     two\n");
        assert_eq!(text(piped(true), &event, false), want);
        assert!(text(piped(false), &event, true).starts_with(&format!("{time}       one\n")));
    }

    #[test]
    fn the_end_of_a_step_says_how_in_words() {
        let step = |outcome, conclusion, exit_code| RunEvent::StepFinished {
            job: JobKey::new("build", None),
            name: "Run\ntests".into(),
            number: 2,
            outcome,
            conclusion,
            exit_code,
            duration: Duration::from_millis(1_250),
            at: at(),
        };
        let style = Style { has_times: false, ..piped(false) };
        for (event, want) in [
            (step(Conclusion::Success, Conclusion::Success, Some(0)), "  ✓ Run\\ntests  1.2 s\n"),
            (
                step(Conclusion::Failure, Conclusion::Success, Some(7)),
                "  ✗ Run\\ntests: failure, exit code 7  1.2 s (continue-on-error)\n",
            ),
            (step(Conclusion::Skipped, Conclusion::Skipped, None), "  - Run\\ntests: skipped\n"),
        ] {
            assert_eq!(text(style, &event, false), want);
        }
    }

    #[test]
    fn an_annotation_names_its_place() {
        let annotation = Annotation {
            file: Some("src/a.rs".into()),
            line: Some(3),
            col: Some(7),
            title: Some("Bad".into()),
            ..Annotation::new(AnnotationLevel::Error, "no\nway")
        };
        assert_eq!(annotation_line(Paint::plain(), &annotation), "error: src/a.rs:3:7: Bad: no\\nway");
    }
}
