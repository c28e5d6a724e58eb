//! `tci vm`: virtual machines.

mod copy;
mod exec;
mod logs;
mod manage;
mod show;
mod terminal;

use clap::{Args, Subcommand};
pub(crate) use manage::{SpecArgs, no_vm_type};
use terraphim_vm::{Host, VmClient, VmError};

use super::{Global, small_runtime};
use crate::{exit::Exit, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    #[command(subcommand)]
    command: VmCommand,
}

/// One VM.
#[derive(Debug, Args)]
struct One {
    /// A VM's name, id, or the start of its id.
    vm: String,
}

#[derive(Debug, Subcommand)]
enum VmCommand {
    /// Define a VM.
    Create(manage::CreateArgs),
    /// Start a VM and wait until it has booted.
    #[command(after_help = "Example:\n  tci vm start web")]
    Start(One),
    /// Stop a VM: ask the guest, then the hypervisor, then kill.
    Stop(manage::StopArgs),
    /// Remove a VM with its disk and logs.
    Rm(manage::RmArgs),
    /// List the VMs.
    Ls(show::LsArgs),
    /// Say how a VM is.
    Status(show::StatusArgs),
    /// Run a command in a VM; ends with its exit code.
    Exec(exec::ExecArgs),
    /// Open a shell in a VM.
    Shell(exec::ShellArgs),
    /// Copy files into or out of a VM.
    Cp(copy::CpArgs),
    /// Print what a VM wrote to its console.
    Logs(logs::LogsArgs),
    /// Ask a VM's supervisor for a sign of life.
    #[command(after_help = "Example:\n  tci vm ping web")]
    Ping(One),
    /// Send a command of QEMU's machine protocol.
    Qmp(manage::QmpArgs),
    /// Print everything that is known about a VM as JSON.
    #[command(after_help = "Example:\n  tci vm inspect web | jq .spec")]
    Inspect(One),
    /// Remove all VMs that have ended.
    Prune(manage::PruneArgs),
}

pub(crate) fn main(args: &VmArgs, global: &Global) -> Result<Exit, Failure> {
    let host = global.host()?;
    // Listing waits for nobody: it needs no runtime.
    match &args.command {
        VmCommand::Ls(args) => return show::ls(&host, args),
        VmCommand::Create(args) => return manage::create(&host, args),
        VmCommand::Logs(args) if !args.follow => return logs::print(&host, args),
        _ => {}
    }
    let runtime = small_runtime()?;
    let result = runtime.block_on(dispatch(&args.command, &host));
    // A thread may still read standard input; it is nobody's business any more.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: &VmCommand, host: &Host) -> Result<Exit, Failure> {
    match command {
        VmCommand::Create(args) => manage::create(host, args),
        VmCommand::Ls(args) => show::ls(host, args),
        VmCommand::Start(one) => manage::start(host, &one.vm).await,
        VmCommand::Stop(args) => manage::stop(host, args).await,
        VmCommand::Rm(args) => manage::rm(host, args).await,
        VmCommand::Status(args) => show::status(host, args).await,
        VmCommand::Exec(args) => exec::exec(host, args).await,
        VmCommand::Shell(args) => exec::shell(host, args).await,
        VmCommand::Cp(args) => copy::cp(host, args).await,
        VmCommand::Logs(args) => logs::follow(host, args).await,
        VmCommand::Ping(one) => show::ping(host, &one.vm).await,
        VmCommand::Qmp(args) => manage::qmp(host, args).await,
        VmCommand::Inspect(one) => show::inspect(host, &one.vm).await,
        VmCommand::Prune(args) => manage::prune(host, args).await,
    }
}

/// The client of a running VM; tells how to start one that does not run.
fn client(host: &Host, name: &str) -> Result<VmClient, Failure> {
    let record = host.find(name)?;
    host.client(&record.id).map_err(|error| {
        let is_stopped = matches!(error, VmError::WrongState { .. });
        let failure = Failure::from(error);
        if is_stopped { failure.hint(format!("`tci vm start {name}` starts it")) } else { failure }
    })
}
