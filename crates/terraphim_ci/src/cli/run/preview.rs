//! `--list` and `--dryrun`: what is there, and what would run.

use terraphim_actions::template::Template;
use terraphim_github_runner::engine::{self, Plan, PlannedJob, Work};

use super::{request::Request, select::Chosen};
use crate::{
    cli::Global,
    config::Config,
    exit::Exit,
    failure::Failure,
    output::{self, one_line},
};

pub(super) fn list(chosen: &[Chosen]) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for it in chosen {
        let events: Vec<&str> = it.workflow.on.events.keys().map(String::as_str).collect();
        for (id, job) in &it.workflow.jobs {
            let name = job.name.written();
            let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
            rows.push(vec![
                id.clone(),
                one_line(&name),
                one_line(&needs.join(",")),
                one_line(it.workflow.name.as_ref().map_or(&it.source.path, |name| &name.value)),
                one_line(&it.source.path),
                events.join(","),
            ]);
        }
    }
    output::data(&output::table(&["JOB", "NAME", "NEEDS", "WORKFLOW", "FILE", "EVENTS"], &rows))?;
    Ok(Exit::Success)
}

pub(super) fn plan(requests: &[Request], global: &Global) -> Result<Exit, Failure> {
    let mut text = String::new();
    for request in requests {
        let config =
            Config::load(Some(&request.root)).map_err(|error| Failure::caused(Exit::Usage, error))?;
        let plan = plan_of(request)?;
        let spec =
            config.vm_type(&request.vm_type).unwrap_or_default().overridden_by(&request.vm_flags).spec();
        let problems = spec.problems(terraphim_vm::host_memory_mib());
        if !problems.is_empty() {
            return Err(terraphim_vm::VmError::Invalid(problems).into());
        }
        let is_there = global.host()?.images()?.resolve(&spec.image).is_ok();
        text += &format!(
            "{} ({}) for {}\n  VM: {} vCPUs, {} MiB, image {}{}\n",
            one_line(&plan.name),
            one_line(&request.source.path),
            one_line(&request.event),
            spec.vcpus,
            spec.memory_mib,
            one_line(&spec.image),
            if is_there { "" } else { " (not built yet)" },
        );
        for job in &plan.jobs {
            add_job(&mut text, &plan, job, 1);
        }
    }
    output::data(&text)?;
    Ok(Exit::Success)
}

fn plan_of(request: &Request) -> Result<Plan, Failure> {
    let source = &request.source;
    let workflow = source.load().map_err(|errors| {
        source.say(&errors);
        Failure::silent(Exit::Usage)
    })?;
    source.say(&workflow.warnings);
    let plan = engine::plan_workflow(&workflow).map_err(|invalid| {
        source.say(&invalid.diagnostics);
        Failure::silent(Exit::Usage)
    })?;
    if request.jobs.is_empty() {
        return Ok(plan);
    }
    plan.only(&request.jobs).map_err(|error| Failure::caused(Exit::Usage, error))
}

fn add_job(text: &mut String, plan: &Plan, job: &PlannedJob, depth: usize) {
    let indent = "  ".repeat(depth);
    let needs: Vec<&str> = job.needs.iter().map(|need| &*plan.jobs[*need].id).collect();
    let after = if needs.is_empty() { String::new() } else { format!(" (after {})", needs.join(", ")) };
    let matrix = if job.strategy.is_some() { " (matrix)" } else { "" };
    let calls = job.call.as_ref().map_or_else(String::new, |call| format!(" calls {}", one_line(&call.uses)));
    *text += &format!("{indent}job {}{matrix}{calls}{after}\n", job.id);
    if let Some(call) = &job.call {
        for called in &call.plan.jobs {
            add_job(text, &call.plan, called, depth + 1);
        }
    }
    for (index, step) in job.steps.iter().enumerate() {
        // Nothing is evaluated here: GitHub too shows what is written until it knows better.
        let name = step.name.as_ref().map(Template::written).filter(|name| !name.trim().is_empty());
        let what = match &step.work {
            Work::Script { run, .. } => run.written().into_owned(),
            Work::Command { text, .. } => text.clone(),
            Work::Action(action) => action.text.clone(),
            Work::Wait { .. } | Work::WaitAll => "wait".to_owned(),
            Work::Cancel { .. } => "cancel".to_owned(),
        };
        let shown = name.map_or(what, |name| name.into_owned());
        let shown = shown.trim_start().lines().next().unwrap_or_default();
        *text += &format!("{indent}  {}. {}\n", index + 1, one_line(shown));
    }
}
