//! The processes of one host, told apart by what they are for.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// What a process is to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A command of a user.
    Cli,
    /// Owns the VM.
    Supervisor,
    /// Waits for the supervisor.
    Keeper,
    /// Runs the VM.
    Qemu,
    /// Anything else that names the host's directory.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) role: Role,
    /// As in `/proc/PID/stat`: `T` is stopped.
    pub(crate) state: char,
    pub(crate) line: String,
}

impl Process {
    /// The living processes that name `directory` or one of these VMs in their arguments, without this one. A hypervisor
    /// names its VM only: it gets its files as open descriptors.
    pub(crate) fn all_of(directory: &Path, vms: &[String]) -> Vec<Process> {
        let names = vms.iter().map(|id| format!("tci-{id}").into_bytes());
        let needles: Vec<Vec<u8>> = names.chain([directory.as_os_str().as_bytes().to_vec()]).collect();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid != std::process::id().cast_signed())
            .filter_map(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let has = |needle: &Vec<u8>| line.windows(needle.len()).any(|window| window == needle);
                needles.iter().any(has).then_some(())?;
                Process::read(pid, &String::from_utf8_lossy(&line).replace('\0', " "))
            })
            .collect()
    }

    fn read(pid: i32, line: &str) -> Option<Process> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit(") ").next()?.chars().next()?;
        let role = match name.trim() {
            "tci-supervisor" => Role::Supervisor,
            "tci-keeper" => Role::Keeper,
            _ if line.contains(" vm-supervisor ") => Role::Other,
            "tci" => Role::Cli,
            name if name.starts_with("qemu-system") => Role::Qemu,
            _ => Role::Other,
        };
        (state != 'Z').then(|| Process { pid, role, state, line: line.to_owned() })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_raw(self.pid).unwrap(), signal);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }
}
