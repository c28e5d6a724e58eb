//! `tci run`: workflow files in virtual machines.

mod actions;
mod event;
mod execute;
mod inputs;
mod learning;
mod matrix;
mod preview;
pub(super) mod request;
mod result;
mod secrets;
mod select;
mod source;
mod variables;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use terraphim_github_runner::engine;

pub(super) use actions::ActionArgs;
pub(super) use event::{payload, reference};
pub(super) use execute::{Job, TakenOver, execute};
pub(super) use request::{outside_git, repository_of};
pub(super) use secrets::{SecretArgs, Secrets, ask, keep_out_of_core_files};
pub(super) use select::{Selection, find};
pub(super) use variables::{one_reader, read_file as read_values};

use super::{Global, small_runtime, vm::SpecArgs};
use crate::{exit::Exit, failure::Failure};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tci run                             run the workflows that a push starts, others for the first of their events
  tci run ci.yml -j build             one job of one workflow, and what it needs
  tci run -e workflow_dispatch --input level=debug -s TOKEN
  tci run -l                          list the jobs
  tci run --keep                      leave the VM for inspection (`tci vm shell`)")]
pub(crate) struct RunArgs {
    /// A workflow file (of `.github/workflows`, its name alone will do), a directory with workflow files, or a repository
    /// [default: the current repository].
    path: Option<PathBuf>,
    /// The same, as a flag.
    #[arg(long, short = 'W', value_name = "PATH", conflicts_with = "path")]
    workflows: Option<PathBuf>,
    /// Only this job and those it needs; may be repeated.
    #[arg(long, short, value_name = "ID")]
    job: Vec<String>,
    /// Only the legs of a matrix with this value; may be repeated. Jobs without this key run as ever.
    #[arg(long, value_name = "KEY:VALUE")]
    matrix: Vec<String>,
    #[command(flatten)]
    event: event::EventArgs,
    #[command(flatten)]
    variables: variables::VariableArgs,
    #[command(flatten)]
    secrets: secrets::SecretArgs,
    #[command(flatten)]
    actions: actions::ActionArgs,
    /// Run `actions/checkout` itself instead of answering it from the working tree.
    #[arg(long, env = "TCI_REAL_CHECKOUT", help_heading = "Actions")]
    real_checkout: bool,
    /// List the jobs and run nothing.
    #[arg(long, short, help_heading = "Instead of a run")]
    list: bool,
    /// Check the files and the arguments, show what would run, and run nothing.
    ///
    /// Checked are the workflow files and those that they call (of other repositories they are fetched), the event, inputs,
    /// the names of jobs and legs, and the sizes of VMs. What only a run finds out is not: values of expressions, labels of
    /// `runs-on`, actions of other repositories (`tci actions`), and whether the image can be had.
    #[arg(long, short = 'n', help_heading = "Instead of a run")]
    dryrun: bool,
    /// A VM type of the configuration, for jobs whose labels name none.
    #[arg(long, value_name = "TYPE", env = "TCI_VM_TYPE", help_heading = "Virtual machine")]
    vm_type: Option<String>,
    #[command(flatten, next_help_heading = "Virtual machine")]
    spec: SpecArgs,
    /// One VM for the workflow, or one for each job.
    #[arg(long, value_enum, default_value_t = Isolation::Workflow, env = "TCI_ISOLATION", help_heading = "Virtual machine")]
    isolation: Isolation,
    /// How many jobs run at the same time at most [default: the host's processors].
    #[arg(long, value_name = "N", env = "TCI_PARALLEL", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Virtual machine")]
    parallel: Option<u16>,
    /// Leave the VM for inspection.
    #[arg(long, help_heading = "Virtual machine")]
    keep: bool,
    /// Write the result as JSON (`-` is standard output; the log then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How the jobs of a run are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Isolation {
    /// One VM for the run; each job has its own workspace, home and temporary directory in it.
    Workflow,
    /// One VM for each job.
    Job,
}

impl From<Isolation> for engine::Isolation {
    fn from(isolation: Isolation) -> engine::Isolation {
        match isolation {
            Isolation::Workflow => engine::Isolation::Workflow,
            Isolation::Job => engine::Isolation::Job,
        }
    }
}

pub(crate) fn main(args: &RunArgs, global: &Global) -> Result<Exit, Failure> {
    let path = args.path.as_deref().or(args.workflows.as_deref());
    if args.json.is_some() && (args.list || args.dryrun) {
        let option = if args.list { "--list" } else { "--dryrun" };
        return Err(Failure::usage(format!(
            "`--json` writes the result of a run, and `{option}` runs nothing"
        ))
        .hint("`tci plan --json` has workflows, jobs and why they start as JSON"));
    }
    variables::one_reader(
        args.event.file().into_iter().chain(args.variables.files()).chain(args.secrets.files()),
    )?;
    let selection = select::select(path)?;
    let chosen = select::read(&selection, &args.event, &args.job)?;
    if args.list {
        return preview::list(&chosen);
    }
    let of_files = args.secrets.of_files()?;
    let names = args.secrets.names(&of_files);
    let mut prepared = request::prepare(args, &selection, chosen, &names)?;
    let runtime = small_runtime()?;
    if args.dryrun {
        let paths = global.paths()?;
        for request in &mut prepared {
            // Nobody is asked for a secret when nothing runs.
            runtime.block_on(request.fetch_calls(&Secrets::default(), paths.data()))?;
        }
        return preview::plan(&prepared, global);
    }
    let secrets = args.secrets.read(of_files)?;
    let jobs = prepared
        .into_iter()
        .map(|request| Job { request, rerun_of: None, taken_over: TakenOver::default() })
        .collect();
    let exit = runtime.block_on(execute(jobs, &secrets, global, args.json.as_deref()));
    // A run that was cancelled waits for nothing that still goes on.
    runtime.shutdown_background();
    exit
}
