//! The graph of `needs`: what is wrong with it, and an order to run in.

use super::model::Job;
use crate::expr::fold;
use crate::span::Spanned;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// What is wrong with the graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedsError {
    /// Every job waits for another.
    #[error("The workflow must contain at least one job with no dependencies.")]
    NoStart,
    /// A need that names no job.
    #[error("Job '{job}' depends on unknown job '{}'.", need.value)]
    Unknown {
        /// The job that needs.
        job: String,
        /// What it names.
        need: Spanned<String>,
    },
    /// A need that is part of a circle, or waits for one.
    #[error("Job '{job}' depends on job '{}' which creates a cycle in the dependency graph.", need.value)]
    Cycle {
        /// The job that needs.
        job: String,
        /// What it names.
        need: Spanned<String>,
    },
}

/// Checks the graph: every need exists and there is no circle.
#[must_use]
pub fn check(jobs: &IndexMap<String, Job>) -> Vec<NeedsError> {
    if jobs.is_empty() {
        return Vec::new();
    }
    if jobs.values().all(|job| !job.needs.is_empty()) {
        return vec![NeedsError::NoStart];
    }
    let runnable: HashSet<String> = order(jobs).into_iter().map(key).collect();
    let known: HashSet<String> = jobs.keys().map(|id| key(id)).collect();
    let mut errors = Vec::new();
    for (id, job) in jobs.iter().filter(|(id, _)| !runnable.contains(&key(id))) {
        for need in job.needs.iter().filter(|need| !runnable.contains(&key(need))) {
            let (job, need) = (id.clone(), need.clone());
            errors.push(if known.contains(&key(&need)) {
                NeedsError::Cycle { job, need }
            } else {
                NeedsError::Unknown { job, need }
            });
        }
    }
    errors
}

/// Ids in an order in which every job comes after those it needs; jobs that never can run are left
/// out. Jobs that are free at the same time keep the order of the file.
#[must_use]
pub fn order(jobs: &IndexMap<String, Job>) -> Vec<&str> {
    let mut waiting: Vec<HashSet<String>> =
        jobs.values().map(|job| job.needs.iter().map(|need| key(need)).collect()).collect();
    let mut dependents: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, needs) in waiting.iter().enumerate() {
        for need in needs {
            dependents.entry(need.clone()).or_default().push(index);
        }
    }
    let mut done: Vec<usize> = (0..waiting.len()).filter(|index| waiting[*index].is_empty()).collect();
    let mut next = 0;
    while let Some(index) = done.get(next).copied() {
        next += 1;
        let Some((id, _)) = jobs.get_index(index) else { continue };
        for dependent in dependents.get(&key(id)).into_iter().flatten() {
            waiting[*dependent].remove(&key(id));
            if waiting[*dependent].is_empty() {
                done.push(*dependent);
            }
        }
    }
    done.into_iter().filter_map(|index| jobs.get_index(index)).map(|(id, _)| id.as_str()).collect()
}

fn key(id: &str) -> String {
    fold::fold(id).into_owned()
}
