//! Workflow files: reading them, and their typed model.

mod call;
mod checks;
mod condition;
mod convert;
mod emit;
pub(crate) mod ids;
mod lint;
mod load;
mod model;
pub mod needs;
mod options;
mod permissions;
mod steps;
mod triggers;

pub use load::{Loader, called_name};
pub use model::{Call, CallSecrets, CalledWorkflow, Condition, Job, Step, StepKind, Workflow};
pub use options::{OptionError, Options};
pub use permissions::{Level, Permissions, Violation};
pub use steps::Uses;
pub(crate) use steps::convert_composite as composite_steps;
pub use triggers::{DispatchInput, Patterns, Schedule, Trigger, Triggers};
