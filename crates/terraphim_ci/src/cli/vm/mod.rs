//! `tci vm`: virtual machines.

mod copy;
mod create;
mod events;
mod exec;
mod filter;
mod format;
mod kill;
mod logs;
mod manage;
mod past;
mod power;
mod remove;
mod shell;
mod show;
mod spec;
mod ssh;
mod terminal;
mod wait;

use clap::{Args, Subcommand};
pub(crate) use manage::{SpecArgs, no_vm_type};
use serde_json::Value;
use terraphim_vm::{Host, VmClient, VmError};

use super::{Global, small_runtime};
use crate::{exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
#[command(after_help = "\
Unless a command says otherwise it ends with 0 when it is done, 2 on wrong usage, when there is no such VM or when it is in the \
wrong state, 3 when the host or the guest failed, and 130 when it is interrupted. docs/vm.md tells more.

Example:
  tci vm create --name web && tci vm start web && tci vm shell web")]
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
    Create(Box<create::CreateArgs>),
    /// Start VMs and wait until they have booted.
    Start(power::StartArgs),
    /// Stop VMs: ask the guest, then the hypervisor, then kill.
    Stop(power::StopArgs),
    /// Stop VMs and start them again.
    Restart(power::RestartArgs),
    /// Remove VMs with their disks, keys and logs.
    Rm(remove::RmArgs),
    /// List the VMs.
    Ls(show::LsArgs),
    /// Say how a VM is.
    Status(show::StatusArgs),
    /// Run a command in a VM; ends with its exit code.
    Exec(exec::ExecArgs),
    /// Open a shell in a VM.
    Shell(shell::ShellArgs),
    /// Copy files into or out of a VM.
    Cp(copy::CpArgs),
    /// Enter a VM by SSH, with keys of its own.
    Ssh(ssh::SshArgs),
    /// Print what a VM, its supervisor or its hypervisor logged.
    Logs(logs::LogsArgs),
    /// Print what a VM wrote to its console.
    Console(logs::ConsoleArgs),
    /// Wait until VMs run, answer or have stopped.
    Wait(wait::WaitArgs),
    /// Print what happens to VMs, one JSON object a line.
    Events(events::EventsArgs),
    /// Ask a VM's supervisor for a sign of life.
    Ping(show::PingArgs),
    /// Send a command of QEMU's machine protocol.
    Qmp(manage::QmpArgs),
    /// Print everything that is known about a VM as JSON.
    Inspect(show::InspectArgs),
    /// Remove all VMs that have ended.
    Prune(remove::PruneArgs),
}

pub(crate) fn main(args: &VmArgs, global: &Global) -> Result<Exit, Failure> {
    let host = global.host()?;
    // Listing waits for nobody: it needs no runtime.
    match &args.command {
        VmCommand::Ls(args) => return show::ls(&host, args),
        VmCommand::Create(args) => return create::create(&host, args),
        VmCommand::Logs(args) if !args.follow => return logs::print(&host, args),
        VmCommand::Console(args) if !args.follow => return logs::print(&host, &args.as_logs()),
        VmCommand::Ssh(args) if !args.is_transport => return ssh::ssh(&host, args),
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
        VmCommand::Create(args) => create::create(host, args),
        VmCommand::Ls(args) => show::ls(host, args),
        VmCommand::Start(args) => power::start(host, args).await,
        VmCommand::Stop(args) => power::stop(host, args).await,
        VmCommand::Restart(args) => power::restart(host, args).await,
        VmCommand::Rm(args) => remove::rm(host, args).await,
        VmCommand::Status(args) => show::status(host, args).await,
        VmCommand::Exec(args) => exec::exec(host, args).await,
        VmCommand::Shell(args) => shell::shell(host, args).await,
        VmCommand::Cp(args) => copy::cp(host, args).await,
        VmCommand::Ssh(args) => ssh::transport(host, args).await,
        VmCommand::Logs(args) => logs::follow(host, args).await,
        VmCommand::Console(args) => logs::follow(host, &args.as_logs()).await,
        VmCommand::Wait(args) => wait::wait(host, args).await,
        VmCommand::Events(args) => events::events(host, args).await,
        VmCommand::Ping(args) => show::ping(host, args).await,
        VmCommand::Qmp(args) => manage::qmp(host, args).await,
        VmCommand::Inspect(one) => show::inspect(host, one).await,
        VmCommand::Prune(args) => remove::prune(host, args).await,
    }
}

/// Does the same to several VMs. One that fails is told of and the others go on; what each says is printed as JSON at
/// the end, if that is wanted.
async fn each(
    names: &[String],
    as_json: bool,
    act: impl AsyncFn(&str) -> Result<Value, Failure>,
) -> Result<Exit, Failure> {
    if let ([name], false) = (names, as_json) {
        return act(name).await.map(|_| Exit::Success);
    }
    let (mut said, mut exit) = (Vec::new(), Exit::Success);
    for name in names {
        match act(name).await {
            Ok(value) => said.push(value),
            Err(failure) => {
                failure.report();
                exit = exit.and(failure.exit);
            }
        }
    }
    if as_json {
        output::json(&said)?;
    }
    Ok(exit)
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
