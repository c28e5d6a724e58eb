//! How much the outputs of jobs may be. GitHub: docs, "Workflow syntax", `jobs.<job_id>.outputs`: "Outputs can be a maximum of
//! 1 MB per job, and a total of 50 MB per workflow run. The size is approximated based on UTF-16 encoding."

use std::sync::atomic::{AtomicUsize, Ordering};

use indexmap::IndexMap;

/// The most bytes of the outputs of a job; more are an error of the job.
const MAX_OF_JOB: usize = 1 << 20;
/// The most bytes of the outputs of all jobs of a run, those of called workflows too; the job that comes to more fails.
const MAX_OF_RUN: usize = 50 << 20;

/// The bytes that the outputs of the jobs of a run have so far.
#[derive(Debug, Default)]
pub(super) struct OutputSize(AtomicUsize);

impl OutputSize {
    /// Adds the outputs of a job.
    ///
    /// # Errors
    /// They are too long; they are not added then.
    pub(super) fn add(&self, outputs: &IndexMap<String, String>) -> Result<(), String> {
        let size = size_of(outputs);
        if size > MAX_OF_JOB {
            return Err(format!("Job outputs exceed {MAX_OF_JOB} bytes: they have {size}, in UTF-16"));
        }
        let within = |so_far: usize| so_far.checked_add(size).filter(|all| size == 0 || *all <= MAX_OF_RUN);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(()),
            Err(so_far) => Err(format!(
                "The outputs of the jobs of this run exceed {MAX_OF_RUN} bytes: with those of this job they would have {}, \
                 in UTF-16; give files to later jobs as artifacts",
                so_far.saturating_add(size)
            )),
        }
    }

    /// Adds the outputs of a job that ended before this run; its own run has let them pass.
    pub(super) fn take(&self, outputs: &IndexMap<String, String>) {
        self.0.fetch_add(size_of(outputs), Ordering::Relaxed);
    }
}

/// Bytes in UTF-16.
fn size_of(outputs: &IndexMap<String, String>) -> usize {
    outputs.values().map(|value| 2 * value.encode_utf16().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(units: usize) -> IndexMap<String, String> {
        let half = units / 2;
        [("a", half), ("b", units - half)].map(|(name, units)| (name.to_owned(), "x".repeat(units))).into()
    }

    #[test]
    fn a_job_and_a_run_have_a_limit_each() {
        let all = OutputSize::default();
        let most_of_job = outputs(MAX_OF_JOB / 2);
        let too_long = all.add(&outputs(MAX_OF_JOB / 2 + 1)).unwrap_err();
        assert_eq!(too_long, "Job outputs exceed 1048576 bytes: they have 1048578, in UTF-16");
        for _ in 0..49 {
            all.add(&most_of_job).unwrap();
        }
        all.add(&outputs(MAX_OF_JOB / 2 - 1)).unwrap();
        let too_much = all.add(&outputs(2)).unwrap_err();
        assert!(too_much.contains("exceed 52428800 bytes: with those of this job they would have 52428802"));
        // What was refused does not count, and what is nothing always fits.
        all.add(&outputs(1)).unwrap();
        all.add(&outputs(0)).unwrap();
        assert!(all.add(&outputs(1)).is_err());
    }

    #[test]
    fn a_size_is_that_of_utf_16() {
        let outputs = IndexMap::from([("a".to_owned(), "aä𝄞".to_owned())]);
        assert_eq!(size_of(&outputs), 8);
    }
}
