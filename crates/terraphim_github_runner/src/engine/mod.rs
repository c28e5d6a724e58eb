//! One engine for every workflow: what a workflow file and a [`ParsedWorkflow`](crate::ParsedWorkflow) lower into
//! is executed here.
//!
//! [`plan_workflow`] and [`plan_commands`] make a [`Plan`]; [`run`] executes it and tells a [`RunObserver`].
//!
//! | pure | acts |
//! |---|---|
//! | `planner`, `parallel`, `supported`: files to plans | `run`, `scope`, `call`: the jobs of a run and of the workflows it calls |
//! | `graph`: which job does what next | `commons`, `place`: VMs and what is put into them |
//! | `expand`, `preflight`: one job of the plan to jobs to run; `kept`: those that need not | `job`, `level`, `step`, `background`, `script`, `action`: one job |
//! | `container`: what is pure in it | `container`: containers in the VM of a job |
//! | `shell`, `contexts`, `functions`, `exchange`, `commands`, `lines`, `glob` | `output`, `outputs`, `matchers`, `hash_files`, `around`, `group`, `groups` |

mod action;
mod around;
mod background;
mod call;
mod clock;
mod commands;
mod commons;
mod container;
mod contexts;
mod environment;
mod error;
mod event;
mod exchange;
mod expand;
mod functions;
mod glob;
mod graph;
mod group;
mod groups;
mod hash_files;
mod inputs;
mod job;
mod kept;
mod layout;
mod level;
mod lines;
mod masks;
mod matchers;
mod output;
mod outputs;
mod parallel;
mod place;
mod plan;
mod planner;
mod preflight;
mod queue;
mod report;
mod run;
mod scope;
mod script;
mod services;
mod shared;
mod shell;
mod step;
mod supported;
mod tool;

pub use clock::Timing;
pub use error::{EngineError, InvalidWorkflow};
pub use event::{
    Annotation, AnnotationLevel, Conclusion, JobKey, Phase, RunConclusion, RunEvent, RunObserver,
};
pub use groups::Groups;
pub use inputs::{
    EmptyWorkspace, EnvironmentSettings, Isolation, RunInputs, Secret, VmTypes, WorkspaceSource,
};
pub use kept::KeptJob;
pub use layout::Layout;
pub(crate) use lines::split_lines;
pub use plan::{Command, Plan, PlannedAction, PlannedCall, PlannedJob, PlannedStep, StepLimit, Work};
pub(crate) use planner::always;
pub use planner::{plan_commands, plan_workflow};
pub use queue::{Patience, QueuedObserver};
pub use report::{EnvironmentReport, JobReport, RunReport, StepReport};
pub use run::run;
pub use services::{JobAccess, JobIdentity, JobServices, SERVICES_HOST};
