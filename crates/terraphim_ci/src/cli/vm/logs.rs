//! `tci vm logs`: the guest's console and what its keepers wrote.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use terraphim_vm::{Host, logs};

use crate::{
    cli::runs::follow::{Watch, ends},
    exit::Exit,
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 at the end of the log, also when there is none yet, 2 when there is no such VM, 3 when the log cannot be read, 130 \
when a --follow is interrupted.

Example:
  tci vm logs web --follow
  tci vm logs web --of qemu")]
pub(super) struct LogsArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Whose log.
    #[arg(long, value_enum, default_value_t = Log::Console)]
    of: Log,
    /// Go on until the VM ends.
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Print each line as a JSON object, {"line": "..."}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The console is a serial port to which the guest only writes: what the kernel prints, and what is written to /dev/console. For \
a terminal in the guest use `tci vm shell`. Our own terminal is left as it is.

Ends like `tci vm logs`.

Example:
  tci vm console web --follow")]
pub(super) struct ConsoleArgs {
    /// A VM's name, id, or the start of its id.
    vm: String,
    /// Go on until the VM ends.
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Print each line as a JSON object, {"line": "..."}.
    #[arg(long)]
    json: bool,
}

impl ConsoleArgs {
    pub(super) fn as_logs(&self) -> LogsArgs {
        LogsArgs { vm: self.vm.clone(), of: Log::Console, follow: self.follow, json: self.json }
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
        Ok(file) => {
            let mut reader = Reader::new(file, &path, args);
            reader.copy()?;
            reader.end()?;
        }
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
    let file = File::open(&path).map_err(|error| Failure::io("open", &path, error))?;
    let mut reader = Reader::new(file, &path, args);
    // Watched before it is read: what comes in between wakes us.
    let mut watch = Watch::on(&[&path])?;
    let ended = ends(&supervisor);
    tokio::pin!(ended);
    loop {
        reader.copy()?;
        tokio::select! {
            changed = watch.changed() => changed?,
            ended = &mut ended => {
                ended?;
                reader.copy()?;
                reader.end()?;
                return Ok(Exit::Success);
            }
        }
    }
}

/// Reads a log that may be cut while it is read.
struct Reader<'a> {
    file: File,
    path: &'a Path,
    /// How much has been printed, counted from the first byte that was ever written; the line about a cut is not counted.
    seen: u64,
    /// For lines as JSON: the beginning of one whose end has not come.
    line: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(file: File, path: &'a Path, args: &LogsArgs) -> Reader<'a> {
        Reader { file, path, seen: 0, line: args.json.then(Vec::new) }
    }

    /// Prints what has come since the last call.
    fn copy(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::io("read", self.path, error);
        let start = logs::beginning(&self.file).map_err(failed)?;
        let position = match self.seen.checked_sub(start.cut) {
            Some(read) => start.offset + read,
            // Some of what is gone was not printed: the line that says so is.
            None => {
                self.seen = start.cut;
                0
            }
        };
        let mut position = self.file.seek(SeekFrom::Start(position)).map_err(failed)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = self.file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            self.print(&buffer[..read])?;
            let content = (position + read as u64).saturating_sub(start.offset.max(position));
            self.seen += content;
            position += read as u64;
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(line) = &mut self.line else { return output::bytes(bytes) };
        line.extend_from_slice(bytes);
        let Some(end) = line.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = line.split_off(end + 1);
        let whole = std::mem::replace(line, rest);
        let text: String = whole.split_inclusive(|byte| *byte == b'\n').map(as_json).collect();
        output::bytes(text.as_bytes())
    }

    /// Prints the last line if it has no end.
    fn end(&mut self) -> Result<(), Failure> {
        match self.line.take() {
            Some(line) if !line.is_empty() => output::bytes(as_json(&line).as_bytes()),
            _ => Ok(()),
        }
    }
}

/// A serial line ends its lines with `\r\n`.
fn as_json(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    format!("{}\n", serde_json::json!({"line": line}))
}
