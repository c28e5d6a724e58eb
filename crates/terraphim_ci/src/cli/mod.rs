//! The command line: one file per command.

mod actions;
mod artifact;
mod cache;
mod check;
mod diagnostic;
mod doctor;
mod explain;
mod expr;
mod fix;
mod image;
mod insights;
mod learn;
mod llm;
mod new;
mod plan;
mod rerun;
mod run;
mod runs;
mod schedule;
mod serve;
mod setting;
mod token;
mod vm;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use terraphim_vm::{Host, Paths, VmError};
use tokio::runtime::{Builder, Runtime};

use crate::{
    exit::{self, Exit},
    failure::{Context as _, Failure},
};

/// A self-hosted CI: runs GitHub Actions workflow files in virtual machines of this host.
#[derive(Debug, Parser)]
#[command(name = "tci", version, after_help = exit::HELP, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Where runs, VMs and images are kept [default: $XDG_DATA_HOME/tci or ~/.local/share/tci].
    #[arg(long, global = true, value_name = "DIR", env = "TCI_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
}

impl Global {
    /// Where everything is.
    pub(crate) fn paths(&self) -> Result<Paths, Failure> {
        Ok(match &self.data_dir {
            Some(dir) => Paths::new(dir)?,
            None => Paths::from_env()?,
        })
    }

    /// The VMs of this host. What killed processes left is cleared away first, whatever the command is.
    pub(crate) fn host(&self) -> Result<Host, Failure> {
        let host = Host::open(self.paths()?)?;
        match host.reconcile() {
            // The command reads it too, and says so.
            Ok(()) | Err(VmError::Registry(_)) => {}
            Err(error) => tracing::warn!("cannot clear away what a killed process left: {error}"),
        }
        Ok(host)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run workflow files in virtual machines.
    Run(Box<run::RunArgs>),
    /// Run a recorded run again: same workflow, event and inputs.
    Rerun(rerun::RerunArgs),
    /// Show recorded runs.
    Runs(runs::RunsArgs),
    /// Handle the actions that workflows use: which commits they are.
    Actions(actions::ActionsArgs),
    /// Handle artifacts, which jobs left.
    Artifact(artifact::ArtifactArgs),
    /// Handle caches, which jobs share.
    Cache(cache::CacheArgs),
    /// Handle the stored secrets of repositories, environments and owners.
    Secret(setting::SecretCommandArgs),
    /// Handle their stored variables.
    Var(setting::VarCommandArgs),
    /// Show what earlier runs teach: failures that repeat, what is flaky, what could be faster.
    Insights(insights::InsightsArgs),
    /// Look into what was learned, and keep it.
    Learn(learn::LearnArgs),
    /// Handle virtual machines.
    Vm(vm::VmArgs),
    /// Handle images, from which virtual machines start.
    Image(image::ImageArgs),
    /// Serve the HTTP API of a VM host.
    Serve(serve::ServeArgs),
    /// Handle the tokens that let in to `tci serve`.
    Token(token::TokenArgs),
    /// Check this host: one line per requirement, with the remedy.
    Doctor(doctor::DoctorArgs),
    /// Check workflow files and `action.yml` files without running them.
    Check(check::CheckArgs),
    /// Show which workflows an event starts, why, and their jobs.
    Plan(plan::PlanArgs),
    /// Make a workflow file of a sentence.
    New(new::NewArgs),
    /// Propose a change of the workflow file of a failed run.
    Fix(fix::FixArgs),
    /// Say in words what a workflow file does.
    Explain(explain::ExplainArgs),
    /// Evaluate an expression of the workflow language.
    Expr(expr::ExprArgs),
}

/// The whole program but the supervisor.
pub(crate) fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no error; a closed pipe is nobody's business.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    start_log();
    match dispatch(&cli) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.report();
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Run(args) => run::main(args, global),
        Command::Rerun(args) => rerun::main(args, global),
        Command::Runs(args) => runs::main(args, global),
        Command::Actions(args) => actions::main(args, global),
        Command::Artifact(args) => artifact::main(args, global),
        Command::Cache(args) => cache::main(args, global),
        Command::Secret(args) => setting::secret_main(args, global),
        Command::Var(args) => setting::var_main(args, global),
        Command::Insights(args) => insights::main(args, global),
        Command::Learn(args) => learn::main(args, global),
        Command::Vm(args) => vm::main(args, global),
        Command::Image(args) => image::main(args, global),
        Command::Serve(args) => serve::main(args, global),
        Command::Token(args) => token::main(args, global),
        Command::Doctor(args) => doctor::main(args, global),
        Command::Check(args) => check::main(args),
        Command::Plan(args) => plan::main(args),
        Command::New(args) => new::main(args, global),
        Command::Fix(args) => fix::main(args, global),
        Command::Explain(args) => explain::main(args),
        Command::Expr(args) => expr::main(args),
    }
}

/// A supervisor's, which is its standard error: warnings and errors. The filter of the other log takes a megabyte, which every
/// VM would cost.
pub(crate) fn start_supervisor_log() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        // It would be told on standard error too: without room, or without anybody who reads it, by a panic.
        .log_internal_errors(false)
        .init();
}

/// `RUST_LOG` decides. Without it only warnings: what `info` would say, the commands say themselves.
fn start_log() {
    let filter =
        std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "warn".to_owned());
    match tracing_subscriber::EnvFilter::try_new(&filter) {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(crate::output::Paint::for_stderr().is_on())
            .with_writer(std::io::stderr)
            .log_internal_errors(false)
            .init(),
        Err(error) => crate::output::warning(&format!("RUST_LOG={filter} is not understood: {error}")),
    }
}

/// For commands and runs. A run mostly waits for its guest, and what is between two of its steps is done sooner by one thread
/// than handed from thread to thread; what computes or waits for a disk has threads of its own.
fn small_runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// For the server, whose calls have nothing to do with each other.
fn large_runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
