//! Workflows as lists of commands, and what runs commands in a VM.

pub mod executor;
mod lower;
pub mod parser;
mod process;

pub use executor::{CommandExecutor, CommandResult, WorkflowExecutorConfig};
pub use parser::{ParsedWorkflow, WorkflowProblem, WorkflowStep};
pub use process::{
    Capabilities, Exit, FileToWrite, Mount, OutputSink, ProcessOutcome, ProcessSpec, ReturnedFile,
    StopLadder, StopReason, Stream,
};
