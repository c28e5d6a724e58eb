//! The program `tci`: a self-hosted CI for GitHub Actions workflows.
//!
//! Every command is one file below [`cli`]. Data goes to standard output, everything else to standard error; the exit
//! codes are in [`exit`].

mod api;
mod cli;
mod config;
mod config_error;
mod exec_line;
mod exit;
mod failure;
mod input;
mod live;
mod llm_settings;
mod output;
mod services;
mod signals;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a supervisor forks, so there must be one thread, and it must be small.
    if let Some(args) = terraphim_vm::supervisor_arguments(std::env::args_os()) {
        cli::start_supervisor_log();
        return terraphim_vm::supervisor::main(&args);
    }
    cli::main().into()
}
