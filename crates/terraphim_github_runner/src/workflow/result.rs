//! Results for people: a sentence, and a comment for GitHub.

use std::fmt::Write as _;

use crate::models::{ExecutionStatus, ExecutionStep, WorkflowResult};

/// How many lines of a failed step's output go into a comment; the whole is in the log.
const EXCERPT_LINES: usize = 20;

/// A comment may have 65,536 characters (GitHub REST API, "Issue comments"); this leaves room for the rest.
const EXCERPT_CHARS: usize = 4000;

/// One sentence about a run.
pub(super) fn summary(name: &str, failure: Option<&str>, duration_ms: u64, failed_cleanups: usize) -> String {
    let time = duration(duration_ms);
    let mut text = match failure {
        None => format!("{name} succeeded in {time}"),
        Some(why) => format!("{name} failed after {time}: {why}"),
    };
    match failed_cleanups {
        0 => {}
        1 => text.push_str("; a cleanup command failed"),
        n => {
            let _ = write!(text, "; {n} cleanup commands failed");
        }
    }
    text
}

impl WorkflowResult {
    /// The result as a comment in GitHub's Markdown.
    #[must_use]
    pub fn format_for_github(&self) -> String {
        let mut text = String::new();
        let (mark, word) = if self.success { ("✅", "succeeded") } else { ("❌", "failed") };
        let _ = writeln!(text, "## {mark} Workflow {word}\n\n{}\n", cell(&self.summary));
        if !self.steps.is_empty() {
            text.push_str("| Step | Result | Exit code | Duration |\n|---|---|---|---|\n");
            for step in &self.steps {
                row(&mut text, step);
            }
        }
        for step in self.steps.iter().filter(|step| failed(step)) {
            excerpt(&mut text, step);
        }
        list(&mut text, "Lessons", &self.lessons);
        list(&mut text, "Suggestions", &self.suggestions);
        let _ =
            writeln!(text, "\n<sub>{} · session {}</sub>", duration(self.total_duration_ms), self.session_id);
        text
    }
}

fn failed(step: &ExecutionStep) -> bool {
    matches!(step.status, ExecutionStatus::Failed | ExecutionStatus::RolledBack)
}

fn row(text: &mut String, step: &ExecutionStep) {
    let status = match step.status {
        ExecutionStatus::Pending => "pending",
        ExecutionStatus::Running => "running",
        ExecutionStatus::Success => "✅ success",
        ExecutionStatus::Failed => "❌ failed",
        ExecutionStatus::Skipped => "skipped",
        ExecutionStatus::RolledBack => "❌ failed, rolled back",
    };
    let code = step.exit_code.map(|code| code.to_string()).unwrap_or_default();
    let time = match step.status {
        ExecutionStatus::Skipped | ExecutionStatus::Pending => String::new(),
        _ => duration(step.duration_ms),
    };
    let _ = writeln!(text, "| {} | {status} | {code} | {time} |", cell(&step.name));
}

fn excerpt(text: &mut String, step: &ExecutionStep) {
    let output = if step.stderr.trim().is_empty() { &step.stdout } else { &step.stderr };
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let tail = lines[lines.len().saturating_sub(EXCERPT_LINES)..].join("\n");
    if tail.is_empty() {
        return;
    }
    let from = tail.char_indices().rev().nth(EXCERPT_CHARS - 1).map_or(0, |(i, _)| i);
    let tail = &tail[from..];
    let fence = fence(tail);
    let _ = writeln!(
        text,
        "\n<details><summary>{}</summary>\n\n{fence}\n{tail}\n{fence}\n\n</details>",
        cell(&step.name)
    );
}

/// A fence that the text cannot close.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

fn list(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n### {title}\n");
    for item in items {
        let _ = writeln!(text, "- {}", cell(item));
    }
}

/// Text that stays in its cell and means nothing to Markdown or HTML.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // A mention would notify people.
            '@' => safe.push_str("&#64;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' => {
                safe.push('\\');
                safe.push(c);
            }
            _ => safe.push(c),
        }
    }
    safe
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::SessionId;

    fn result() -> WorkflowResult {
        let mut ok = ExecutionStep::new("Build", "make");
        ok.status = ExecutionStatus::Success;
        (ok.exit_code, ok.duration_ms) = (Some(0), 1250);
        let mut bad = ExecutionStep::new("a|b @all <b>", "false");
        bad.status = ExecutionStatus::Failed;
        (bad.exit_code, bad.duration_ms, bad.stderr) = (Some(2), 61_000, "x\n```\nboom".into());
        let mut skipped = ExecutionStep::new("Deploy", "x");
        skipped.status = ExecutionStatus::Skipped;
        WorkflowResult {
            session_id: SessionId(uuid::Uuid::nil()),
            success: false,
            steps: vec![ok, bad, skipped],
            total_duration_ms: 62_250,
            final_snapshot: None,
            summary: summary("CI", Some("step 2 failed"), 62_250, 1),
            lessons: vec!["one".into()],
            suggestions: vec![],
        }
    }

    #[test]
    fn a_comment_tells_everything_and_obeys_nobody() {
        let expected = "\
## ❌ Workflow failed

CI failed after 1 min 2 s: step 2 failed; a cleanup command failed

| Step | Result | Exit code | Duration |
|---|---|---|---|
| Build | ✅ success | 0 | 1.2 s |
| a\\|b &#64;all &lt;b&gt; | ❌ failed | 2 | 1 min 1 s |
| Deploy | skipped |  |  |

<details><summary>a\\|b &#64;all &lt;b&gt;</summary>

````
x
```
boom
````

</details>

### Lessons

- one

<sub>1 min 2 s · session 00000000-0000-0000-0000-000000000000</sub>
";
        assert_eq!(result().format_for_github(), expected);
    }

    #[test]
    fn a_comment_stays_short() {
        let mut result = result();
        result.steps[1].stderr = "ü".repeat(100_000);
        let comment = result.format_for_github();
        assert!(comment.chars().count() < EXCERPT_CHARS + 1000);
        result.steps[1].stderr = "line\n".repeat(1000);
        assert_eq!(result.format_for_github().matches("line\n").count(), EXCERPT_LINES);
    }
}
