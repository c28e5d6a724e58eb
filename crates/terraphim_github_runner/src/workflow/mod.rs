//! Workflows as lists of commands, and what runs commands in a VM.

pub mod executor;
mod file;
pub mod llm_parser;
pub mod local_executor;
mod lower;
pub mod parser;
mod patterns;
mod process;
mod proposal;
mod record;
mod result;
mod run;
pub mod vm_executor;

pub use executor::{CommandExecutor, CommandResult, WorkflowExecutor, WorkflowExecutorConfig};
pub use llm_parser::{LlmConfig, LlmError, WorkflowParser};
pub use local_executor::LocalCommandExecutor;
pub use parser::{ParsedWorkflow, WorkflowProblem, WorkflowStep};
pub use process::{
    Capabilities, Exit, FileToWrite, LeftProcess, Mount, OutputSink, ProcessOutcome, ProcessSpec,
    ReturnedFile, StopLadder, StopReason, Stream,
};
pub use proposal::ProposalProblem;
pub use vm_executor::VmCommandExecutor;
