//! Why a run did not come to a result of its own.

use std::fmt;

use terraphim_actions::diagnostic::Diagnostic;
use terraphim_actions::mask::MaskError;
use thiserror::Error;

use super::report::RunReport;
use crate::error::GitHubRunnerError;

/// A workflow that cannot be executed as it is written. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidWorkflow {
    /// What is wrong, at least one thing, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for InvalidWorkflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
            if let Some(hint) = &diagnostic.hint {
                write!(f, "; {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for InvalidWorkflow {}

/// Why a run did not come to a result of its own.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The workflow cannot be executed as it is written. Nothing was started.
    #[error(transparent)]
    Invalid(#[from] InvalidWorkflow),
    /// A job was asked for that the workflow does not have. Nothing was started.
    #[error("the workflow has no job {id:?}; it has {}", known.join(", "))]
    UnknownJob {
        /// The id asked for.
        id: String,
        /// The ids there are.
        known: Vec<String>,
    },
    /// Jobs that share a VM want VMs of different types. Nothing was started.
    #[error(
        "the jobs of this run want VMs of different types ({}), but share one VM; give each job its own VM \
         (isolation by job), or map their `runs-on` labels to one type",
        types.join(", ")
    )]
    SeveralVmTypes {
        /// The types.
        types: Vec<String>,
    },
    /// The secrets cannot be hidden. Nothing was started.
    #[error(transparent)]
    Secrets(#[from] MaskError),
    /// The executor cannot do what the steps of a workflow file need. Nothing was started.
    #[error("this executor cannot exchange files with the VM, which the steps of a workflow file need")]
    NoFiles,
    /// The VM or its host failed: nothing is known about the workflow.
    #[error("the VM or its host failed while the workflow ran")]
    Infrastructure {
        /// What failed.
        #[source]
        source: GitHubRunnerError,
        /// What is known of the run.
        report: Box<RunReport>,
    },
}
