//! What is shown when a run is over: jobs and steps with conclusions and durations, summaries, annotations.

use std::{fmt::Write as _, time::Duration};

use terraphim_github_runner::engine::{Conclusion, JobReport, RunConclusion, RunReport};

use super::text::annotation_line;
use crate::output::{self, Paint, one_line};

/// Long names would push the columns off the screen.
const NAME_WIDTH: usize = 60;

struct Row {
    name: String,
    conclusion: Conclusion,
    note: String,
    /// Absent for what did not run.
    duration: Option<Duration>,
    is_job: bool,
}

/// The closing text of a run.
pub(crate) fn closing(report: &RunReport, paint: Paint) -> String {
    let rows: Vec<Row> = report.jobs.iter().flat_map(rows).collect();
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for row in &rows {
        let padded = format!("{:<width$}", row.name);
        let name = if row.is_job { paint.bold(&padded) } else { padded };
        let word = format!("{} {:<9}", sign(row.conclusion), row.conclusion.name());
        let duration = row.duration.map(output::duration).unwrap_or_default();
        let line = format!("{name}  {}  {duration:>9}  {}", colour(paint, row.conclusion, &word), row.note);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for job in &report.jobs {
        add_summaries(&mut text, job, paint);
    }
    add_annotations(&mut text, report, paint);
    let _ = writeln!(text, "\n{}", verdict(report, paint));
    text
}

fn rows(job: &JobReport) -> Vec<Row> {
    let note = |outcome: Conclusion, conclusion: Conclusion, exit_code: Option<i32>| {
        let mut notes = Vec::new();
        if let Some(code) = exit_code.filter(|code| *code != 0) {
            notes.push(format!("exit code {code}"));
        }
        if outcome != conclusion {
            notes.push(format!("{} but continue-on-error", outcome.name()));
        }
        notes.join(", ")
    };
    let has_run = |conclusion: Conclusion| conclusion != Conclusion::Skipped;
    let mut head = Row {
        name: shortened(&job.name, 0),
        conclusion: job.conclusion,
        note: note(job.outcome, job.conclusion, None),
        duration: (has_run(job.conclusion) && !job.kept).then_some(job.duration),
        is_job: true,
    };
    if job.kept {
        head.note = format!("kept {}", head.note);
    }
    let steps = job.steps.iter().map(|step| Row {
        name: shortened(&step.name, 2),
        conclusion: step.conclusion,
        note: note(step.outcome, step.conclusion, step.exit_code),
        duration: has_run(step.conclusion).then_some(step.duration),
        is_job: false,
    });
    std::iter::once(head).chain(steps).collect()
}

fn shortened(name: &str, indent: usize) -> String {
    let line = format!("{:indent$}{}", "", one_line(name));
    if line.chars().count() <= NAME_WIDTH {
        return line;
    }
    let mut short: String = line.chars().take(NAME_WIDTH - 1).collect();
    short.push('…');
    short
}

fn sign(conclusion: Conclusion) -> char {
    match conclusion {
        Conclusion::Success => '✓',
        Conclusion::Failure => '✗',
        Conclusion::Cancelled => '!',
        Conclusion::Skipped => '-',
    }
}

fn colour(paint: Paint, conclusion: Conclusion, text: &str) -> String {
    match conclusion {
        Conclusion::Success => paint.green(text),
        Conclusion::Failure => paint.red(text),
        Conclusion::Cancelled => paint.yellow(text),
        Conclusion::Skipped => paint.dim(text),
    }
}

fn add_summaries(text: &mut String, job: &JobReport, paint: Paint) {
    let mut summaries = job.steps.iter().filter_map(|step| step.summary.as_deref()).peekable();
    if summaries.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.bold(&format!("Summary of {}", one_line(&job.name))));
    for line in summaries.flat_map(str::lines) {
        let _ = writeln!(text, "  {}", one_line(line));
    }
}

fn add_annotations(text: &mut String, report: &RunReport, paint: Paint) {
    let mut is_first = true;
    for job in &report.jobs {
        for annotation in job.annotations.iter().chain(job.steps.iter().flat_map(|step| &step.annotations)) {
            if std::mem::take(&mut is_first) {
                text.push('\n');
            }
            let line = annotation_line(paint, annotation);
            let _ = writeln!(text, "{}: {line}", one_line(&job.name));
        }
    }
}

fn verdict(report: &RunReport, paint: Paint) -> String {
    let took = output::duration(report.duration);
    let name = one_line(&report.workflow);
    match report.conclusion {
        RunConclusion::Success => paint.green(&format!("✓ {name}: success in {took}")),
        RunConclusion::Failure => paint.red(&format!("✗ {name}: failure in {took}")),
        RunConclusion::Cancelled => paint.yellow(&format!("! {name}: cancelled after {took}")),
        RunConclusion::InfrastructureFault => paint
            .red(&format!("✗ {name}: infrastructure fault after {took}; the workflow itself did not fail")),
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use terraphim_github_runner::engine::{Annotation, AnnotationLevel, JobKey, StepReport};

    use super::*;

    fn step(name: &str, outcome: Conclusion, conclusion: Conclusion, exit_code: Option<i32>) -> StepReport {
        StepReport {
            number: 1,
            id: None,
            name: name.into(),
            outcome,
            conclusion,
            exit_code,
            outputs: IndexMap::new(),
            annotations: Vec::new(),
            summary: None,
            started_at: None,
            duration: Duration::from_millis(1_500),
        }
    }

    #[test]
    fn a_kept_job_says_so_and_took_no_time() {
        let kept = JobReport {
            key: JobKey::new("build", None),
            id: "build".into(),
            name: "build".into(),
            matrix: None,
            vm_id: None,
            outcome: Conclusion::Success,
            conclusion: Conclusion::Success,
            kept: true,
            outputs: IndexMap::new(),
            environment: None,
            permissions: None,
            annotations: Vec::new(),
            started_at: None,
            duration: Duration::ZERO,
            steps: Vec::new(),
        };
        let rows = rows(&kept);
        assert_eq!((rows.len(), rows[0].note.trim(), rows[0].duration), (1, "kept", None));
    }

    #[test]
    fn the_closing_table_is_this() {
        let mut build = step("Build", Conclusion::Success, Conclusion::Success, Some(0));
        build.summary = Some("# Built\nall".into());
        build.annotations = vec![Annotation::new(AnnotationLevel::Warning, "old compiler")];
        let steps = vec![
            build,
            step("Lint", Conclusion::Failure, Conclusion::Success, Some(1)),
            step("Publish", Conclusion::Skipped, Conclusion::Skipped, None),
        ];
        let report = RunReport {
            run_id: Default::default(),
            workflow: "CI".into(),
            title: "CI".into(),
            conclusion: RunConclusion::Success,
            message: None,
            started_at: Default::default(),
            duration: Duration::from_secs(65),
            vm_ids: Vec::new(),
            jobs: vec![JobReport {
                key: JobKey::new("build", None),
                id: "build".into(),
                name: "build".into(),
                matrix: None,
                vm_id: None,
                outcome: Conclusion::Success,
                conclusion: Conclusion::Success,
                kept: false,
                outputs: IndexMap::new(),
                environment: None,
                permissions: None,
                annotations: Vec::new(),
                started_at: None,
                duration: Duration::from_secs(4),
                steps,
            }],
        };
        let want = "
build      ✓ success        4.0 s
  Build    ✓ success        1.5 s
  Lint     ✓ success        1.5 s  exit code 1, failure but continue-on-error
  Publish  - skipped

Summary of build
  # Built
  all

build: warning: old compiler

✓ CI: success in 1 m 05 s
";
        assert_eq!(closing(&report, Paint::plain()), want);
    }
}
