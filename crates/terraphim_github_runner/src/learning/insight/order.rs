//! The order of a job's steps: which to run earlier, and which need not wait for each other.

use super::steps::{Group, Step, Steps};
use super::suggest::{NEEDED_RUNS, SLOW_MS, Suggestion, confidence};
use super::{about, percent};
use crate::learning::lesson::OptimizationType;
use crate::learning::model::{Model, real};

/// A check that fails less often need not run earlier.
const OFTEN_SHARE: f64 = 0.1;
/// A saving below a second interests nobody.
const WORTH_MS: f64 = 1000.0;

/// What a better order of steps would save.
pub(super) fn suggestions(model: &Model) -> Vec<Suggestion> {
    let mut found = Vec::new();
    for job in Steps::of_all(model) {
        found.extend((0..job.steps.len()).filter_map(|step| earlier(&job, step)));
        found.extend(job.groups().iter().filter_map(|group| side_by_side(&job, group)));
    }
    found
}

/// A check that fails often and runs late, after steps that it does not need.
fn earlier(job: &Steps<'_>, number: usize) -> Option<Suggestion> {
    let late = job.steps[number];
    let before = &job.steps[job.earliest(number)..number];
    let share = late.fact.failure_share();
    if !late.effects.is_check() || late.fact.runs() < NEEDED_RUNS || share < OFTEN_SHARE {
        return None;
    }
    let waiting: u64 = before.iter().map(Step::median_ms).sum();
    // What ran in vain before it failed is saved; its own time is lost when one of the others fails.
    let others = 1.0 - before.iter().map(|step| 1.0 - step.fact.failure_share()).product::<f64>();
    let gain = share * real(waiting) - others * real(late.median_ms());
    if gain < WORTH_MS {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1000, below 2^52")]
    let saving = gain as u64;
    let fact = late.fact;
    Some(Suggestion {
        kind: OptimizationType::RunEarlier,
        text: format!("run `{}` before `{}` in job {}", fact.example, before.first()?.fact.example, job.job),
        saving_ms: Some(saving),
        evidence: format!(
            "it fails in {} of {} runs, after {} of steps that it does not need",
            percent(share),
            fact.runs(),
            about(waiting)
        ),
        confidence: confidence(fact.runs()),
        command: Some(late.command.to_owned()),
        groups: Vec::new(),
    })
}

/// Lanes that are long enough to be jobs of their own; what they leave stays in the job.
fn side_by_side(job: &Steps<'_>, group: &Group) -> Option<Suggestion> {
    let took = |lane: &[usize]| lane.iter().map(|step| job.steps[*step].median_ms()).sum::<u64>();
    let (own, rest): (Vec<&Vec<usize>>, Vec<&Vec<usize>>) =
        group.lanes.iter().partition(|lane| took(lane) >= SLOW_MS && may_leave(job, lane));
    let rest_ms: u64 = rest.iter().map(|lane| took(lane)).sum();
    let own_ms: u64 = own.iter().map(|lane| took(lane)).sum();
    let longest = own.iter().map(|lane| took(lane)).max()?.max(rest_ms);
    let saving = own_ms + rest_ms - longest;
    if saving < SLOW_MS {
        return None;
    }
    let commands = |lane: &&Vec<usize>| lane.iter().map(|step| job.steps[*step].command.to_owned()).collect();
    let steps = || own.iter().copied().flatten().map(|step| job.steps[*step]);
    let runs = steps().map(|step| step.fact.runs()).min().unwrap_or(0);
    Some(Suggestion {
        kind: OptimizationType::RunInParallel,
        text: text(job, group, &own),
        saving_ms: Some(saving),
        evidence: format!(
            "none needs what another makes; side by side they take {} rather than {} (medians of {runs} runs or more)",
            about(longest),
            about(own_ms + rest_ms)
        ),
        confidence: confidence(runs),
        command: steps().next().map(|step| step.command.to_owned()),
        groups: own.iter().map(commands).collect(),
    })
}

/// Whether steps can be a job of their own: they check something, enough is known about them, and no later step needs
/// what they make, for jobs share no files.
fn may_leave(job: &Steps<'_>, lane: &[usize]) -> bool {
    let steps = || lane.iter().map(|step| job.steps[*step]);
    let is_needed_elsewhere = |step: &usize| {
        (step + 1..job.steps.len())
            .filter(|later| !lane.contains(later))
            .any(|later| job.steps[*step].effects.makes_for(job.steps[later].effects))
    };
    steps().any(|step| step.effects.is_check())
        && steps().all(|step| step.fact.runs() >= NEEDED_RUNS)
        && !lane.iter().any(is_needed_elsewhere)
}

fn text(job: &Steps<'_>, group: &Group, own: &[&Vec<usize>]) -> String {
    let example = |step: &usize| format!("`{}`", job.steps[*step].fact.example);
    let lane = |lane: &&Vec<usize>| match lane.as_slice() {
        [one] => example(one),
        several => format!("({})", several.iter().map(example).collect::<Vec<_>>().join(", ")),
    };
    let lanes: Vec<String> = own.iter().map(lane).collect();
    let (jobs, them) =
        if own.len() == 1 { ("a job of its own", "it") } else { ("jobs of their own", "them") };
    let after: Vec<String> = group.after.iter().map(example).collect();
    let after = match (after.len(), own.len()) {
        (0, _) => String::new(),
        (_, 1) => format!(", after {}", enumerated(&after)),
        _ => format!(", each after {}", enumerated(&after)),
    };
    // Who moves the checks and leaves the deployment would deploy what was not checked.
    let moved: Vec<usize> = own.iter().copied().flatten().copied().collect();
    let waiting = match job.followers(&moved).as_slice() {
        [] => String::new(),
        [first, ..] => format!(", and let {} wait for {them} (`needs`)", example(first)),
    };
    format!("take {} out of job {} as {jobs}{after}{waiting}", enumerated(&lanes), job.job)
}

/// `a, b and c`.
fn enumerated(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
