//! `tci vm logs`: the guest's console and what its keepers wrote.

use std::{fs::File, io::Read as _, path::PathBuf};

use clap::{Args, ValueEnum};
use terraphim_vm::Host;

use crate::{
    cli::runs::follow::{Watch, ends},
    exit::Exit,
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci vm logs web --follow\n  tci vm logs web --of qemu")]
pub(super) struct LogsArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Whose log.
    #[arg(long, value_enum, default_value_t = Log::Console)]
    of: Log,
    /// Go on until the VM ends.
    #[arg(long, short)]
    pub(super) follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The console is a serial port to which the guest only writes: what the kernel prints, and what is written to /dev/console. For \
a terminal in the guest use `tci vm shell`. Our own terminal is left as it is.

Example:
  tci vm console web --follow")]
pub(super) struct ConsoleArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Go on until the VM ends.
    #[arg(long, short)]
    follow: bool,
}

impl ConsoleArgs {
    pub(super) fn as_logs(&self) -> LogsArgs {
        LogsArgs { vm: self.vm.clone(), of: Log::Console, follow: self.follow }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    /// The guest's serial console.
    Console,
    /// The supervisor.
    Supervisor,
    /// The hypervisor.
    Qemu,
}

/// Read at once.
const CHUNK: usize = 64 * 1024;

fn path(host: &Host, args: &LogsArgs) -> Result<PathBuf, Failure> {
    let name = match args.of {
        Log::Console => "console.log",
        Log::Supervisor => "supervisor.log",
        Log::Qemu => "qemu.log",
    };
    Ok(host.paths().vm(&host.find(&args.vm)?.id).join(name))
}

pub(super) fn print(host: &Host, args: &LogsArgs) -> Result<Exit, Failure> {
    let path = path(host, args)?;
    match File::open(&path) {
        Ok(mut file) => copy(&mut file, &path)?,
        // A VM that never started has no log.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::io("open", &path, error)),
    }
    Ok(Exit::Success)
}

pub(super) async fn follow(host: &Host, args: &LogsArgs) -> Result<Exit, Failure> {
    let path = path(host, args)?;
    let supervisor = host.find(&args.vm)?.supervisor.filter(terraphim_vm::ProcessId::is_alive);
    let Some(supervisor) = supervisor else { return print(host, args) };
    let mut file = File::open(&path).map_err(|error| Failure::io("open", &path, error))?;
    // Watched before it is read: what comes in between wakes us.
    let mut watch = Watch::on(&[&path])?;
    let ended = ends(&supervisor);
    tokio::pin!(ended);
    loop {
        copy(&mut file, &path)?;
        tokio::select! {
            changed = watch.changed() => changed?,
            ended = &mut ended => {
                ended?;
                copy(&mut file, &path)?;
                return Ok(Exit::Success);
            }
        }
    }
}

fn copy(file: &mut File, path: &std::path::Path) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer).map_err(|error| Failure::io("read", path, error))?;
        if read == 0 {
            return Ok(());
        }
        output::bytes(&buffer[..read])?;
    }
}
