//! The functions of expressions that ask about the run.

use std::cell::RefCell;
use std::collections::HashMap;

use terraphim_actions::expr::{ExprError, Functions};

use super::event::Conclusion;

/// `success()`, `failure()` and `cancelled()` in the condition of a job.
pub(super) struct JobFunctions<'a> {
    /// All jobs before this one, near and far, by id.
    pub(super) before: &'a [(&'a str, Conclusion)],
    /// The run is cancelled.
    pub(super) cancelled: bool,
}

impl JobFunctions<'_> {
    fn looked_at(&self, jobs: &[String]) -> Result<Vec<Conclusion>, ExprError> {
        if jobs.is_empty() {
            return Ok(self.before.iter().map(|(_, conclusion)| *conclusion).collect());
        }
        let find = |id: &String| self.before.iter().find(|(known, _)| known.eq_ignore_ascii_case(id));
        jobs.iter()
            .map(|id| {
                let unknown = || ExprError::evaluation(format!("this job does not need a job '{id}'"));
                find(id).map(|(_, conclusion)| *conclusion).ok_or_else(unknown)
            })
            .collect()
    }
}

impl Functions for JobFunctions<'_> {
    fn success(&self, jobs: &[String]) -> Result<bool, ExprError> {
        let all = self.looked_at(jobs)?.into_iter().all(|conclusion| conclusion == Conclusion::Success);
        Ok(all && !self.cancelled)
    }

    fn failure(&self, jobs: &[String]) -> Result<bool, ExprError> {
        Ok(self.looked_at(jobs)?.contains(&Conclusion::Failure) && !self.cancelled)
    }

    fn cancelled(&self) -> Result<bool, ExprError> {
        Ok(self.cancelled)
    }

    fn hash_files(&self, _patterns: &[String]) -> Result<String, ExprError> {
        Err(ExprError::evaluation("hashFiles has no files to read before a job runs"))
    }
}

/// The hashes that steps asked for, by patterns. Forgotten between steps: a step may change files.
pub(super) type Hashes = HashMap<Vec<String>, Result<String, String>>;

/// The functions in a step.
pub(super) struct StepFunctions<'a> {
    /// How the list of steps goes so far that the step is in: the job, or a composite action.
    pub(super) status: Conclusion,
    /// The job is cancelled.
    pub(super) is_cancelled: bool,
    /// Known hashes.
    pub(super) hashes: &'a Hashes,
    /// Patterns whose hash was asked for and is not known.
    pub(super) wanted: RefCell<Vec<Vec<String>>>,
}

impl<'a> StepFunctions<'a> {
    pub(super) fn new(status: Conclusion, is_cancelled: bool, hashes: &'a Hashes) -> Self {
        StepFunctions { status, is_cancelled, hashes, wanted: RefCell::default() }
    }
}

impl Functions for StepFunctions<'_> {
    fn success(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Ok(self.status == Conclusion::Success)
    }

    fn failure(&self, _jobs: &[String]) -> Result<bool, ExprError> {
        Ok(self.status == Conclusion::Failure)
    }

    fn cancelled(&self) -> Result<bool, ExprError> {
        Ok(self.is_cancelled)
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, ExprError> {
        match self.hashes.get(patterns) {
            Some(Ok(hash)) => Ok(hash.clone()),
            Some(Err(message)) => Err(ExprError::evaluation(message.clone())),
            None => {
                self.wanted.borrow_mut().push(patterns.to_vec());
                Err(ExprError::not_known_yet("hashFiles"))
            }
        }
    }
}
