//! Jobs of a run that repeats another one in part: what ended well then does not run again, and gives what it gave.
//!
//! GitHub: docs, "Re-running workflows and jobs": failed jobs run again, of a matrix the failed ones only, and all jobs that
//! depend on them. A job is kept if it was given as kept and nothing that it needs has run in this run; that is known when
//! its needs have ended, see [`scope`](super::scope).

use chrono::Utc;
use indexmap::IndexMap;

use super::environment;
use super::event::{Conclusion, JobKey, RunEvent};
use super::expand::ReadyJob;
use super::masks::masked_json;
use super::plan::PlannedJob;
use super::report::{EnvironmentReport, JobReport};
use super::shared::Shared;

/// How a job ended in the run that this one repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptJob {
    /// Its name for people, masked. A job of this key that is called otherwise now is another one, and runs: the matrix may
    /// come from variables that have changed.
    pub name: String,
    /// How it ended.
    pub outcome: Conclusion,
    /// The same after `continue-on-error`; [`Conclusion::Skipped`] if its condition was false.
    pub conclusion: Conclusion,
    /// Its outputs.
    pub outputs: IndexMap<String, String>,
    /// The environment that it was for.
    pub environment: Option<EnvironmentReport>,
}

/// What became of a job, with all jobs of its matrix or of the workflow that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nothing that is kept.
    Unknown,
    /// Its condition was false.
    Skipped,
    /// Its condition was true: some of it is kept.
    Began,
}

impl Earlier {
    /// What became of the job whose key is `whole` without the matrix.
    pub(super) fn of(kept: &IndexMap<JobKey, KeptJob>, whole: &JobKey) -> Earlier {
        if let Some(job) = kept.get(whole) {
            return if job.conclusion == Conclusion::Skipped { Earlier::Skipped } else { Earlier::Began };
        }
        // Ids have no dots.
        let below = format!("{whole}.");
        if kept.keys().any(|key| key.0.starts_with(&below)) { Earlier::Began } else { Earlier::Unknown }
    }
}

impl Shared {
    /// How a job with steps ended before, if it is the same job.
    pub(super) fn kept(&self, ready: &ReadyJob) -> Option<KeptJob> {
        let kept = self.inputs.kept.get(&ready.key)?;
        let is_same = kept.conclusion != Conclusion::Skipped && kept.name == self.masker.mask(&ready.name);
        is_same.then(|| kept.clone())
    }

    /// Takes a job over and says so.
    pub(super) async fn keep(&self, planned: &PlannedJob, ready: &ReadyJob, kept: KeptJob) -> JobReport {
        let report = JobReport {
            kept: true,
            matrix: ready.matrix.as_ref().map(|matrix| masked_json(&self.masker, matrix)),
            outcome: kept.outcome,
            outputs: kept.outputs,
            environment: kept.environment,
            permissions: environment::permissions(planned),
            ..JobReport::not_run(ready.key.clone(), &planned.id, &kept.name, kept.conclusion)
        };
        self.output_size.take(&report.outputs);
        let event = RunEvent::JobKept {
            job: report.key.clone(),
            name: report.name.clone(),
            environment: report.environment.clone(),
            permissions: report.permissions.clone(),
            outcome: report.outcome,
            conclusion: report.conclusion,
            outputs: report.outputs.clone(),
            at: Utc::now(),
        };
        self.observe(&event).await;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_began_if_anything_below_it_is_kept() {
        let job = |conclusion| KeptJob {
            name: String::new(),
            outcome: conclusion,
            conclusion,
            outputs: IndexMap::new(),
            environment: None,
        };
        let (success, skipped) = (Conclusion::Success, Conclusion::Skipped);
        let kept = [("one", success), ("legs.2", success), ("call.inner", skipped), ("never", skipped)];
        let kept = kept.map(|(key, conclusion)| (JobKey::new(key, None), job(conclusion))).into();
        for (key, want) in [
            ("one", Earlier::Began),
            ("legs", Earlier::Began),
            ("leg", Earlier::Unknown),
            ("call", Earlier::Began),
            ("never", Earlier::Skipped),
            ("call.inner", Earlier::Skipped),
            ("other", Earlier::Unknown),
        ] {
            assert_eq!(Earlier::of(&kept, &JobKey::new(key, None)), want, "{key}");
        }
    }
}
