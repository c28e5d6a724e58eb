//! A plan as text.

use super::{Instance, Known, Plan, PlannedJob};
use std::fmt;

/// One line for each job and each job of a matrix; jobs of called workflows are indented.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            writeln!(f, "{name}")?;
        }
        if let Some(group) = &self.concurrency {
            writeln!(f, "  concurrency: {group}")?;
        }
        jobs(&self.jobs, 1, f)
    }
}

impl fmt::Display for Known<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => f.write_str(value),
            Self::Later(reason) => write!(f, "(waits for {reason})"),
        }
    }
}

fn jobs(list: &[PlannedJob], level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let indent = "  ".repeat(level);
    for job in list {
        write!(f, "{indent}{}", job.id)?;
        if !job.needs.is_empty() {
            write!(f, "  needs {}", job.needs.join(", "))?;
        }
        match &job.runs {
            Known::Now(true) => {}
            Known::Now(false) => write!(f, "  skipped: {}", job.condition)?,
            // That a job waits for those it needs is said already.
            Known::Later(_) if job.condition == "success()" => {}
            Known::Later(_) => write!(f, "  if {}", job.condition)?,
        }
        writeln!(f)?;
        match &job.instances {
            Known::Later(reason) => writeln!(f, "{indent}  matrix waits for {reason}")?,
            Known::Now(instances) => {
                for instance in instances {
                    writeln!(f, "{indent}  {}{}", instance.name, details(job, instance))?;
                }
            }
        }
        if let Some(call) = &job.call {
            writeln!(f, "{indent}  calls {}", call.uses)?;
            jobs(&call.jobs, level + 2, f)?;
        }
    }
    Ok(())
}

fn details(job: &PlannedJob, instance: &Instance) -> String {
    let mut details = String::new();
    match &instance.runs_on {
        Known::Now(labels) if labels.is_empty() => {}
        Known::Now(labels) => details.push_str(&format!(" on {}", labels.join(", "))),
        Known::Later(reason) => details.push_str(&format!(" on (waits for {reason})")),
    }
    if job.call.is_none() {
        let plural = if job.steps == 1 { "" } else { "s" };
        details.push_str(&format!(", {} step{plural}", job.steps));
    }
    if let Some(group) = &instance.concurrency {
        details.push_str(&format!(", concurrency {group}"));
    }
    if let Some(environment) = &instance.environment {
        details.push_str(&format!(", environment {environment}"));
    }
    details
}
