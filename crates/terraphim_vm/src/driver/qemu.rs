//! Starting QEMU: one microvm machine, its devices in a fixed order, no option that a name could break out of.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use super::{
    accelerator::{Accelerator, missing},
    tsc,
};
use crate::{
    Network, VmId, VmSpec,
    error::{IoContext as _, VmError},
};

/// The hypervisor's program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Everything that a machine is made of.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Its id, which names the process.
    pub id: &'a VmId,
    /// vCPUs, memory and network.
    pub spec: &'a VmSpec,
    /// An ELF kernel with a PVH entry.
    pub kernel: &'a Path,
    /// An initial RAM disk with the agent as `/init`.
    pub initrd: &'a Path,
    /// The read-only root file system.
    pub rootfs: &'a Path,
    /// Its type as `mount` names it.
    pub rootfs_format: &'a str,
    /// The writable disk (qcow2).
    pub scratch: &'a Path,
    /// Takes what the kernel prints.
    pub console: &'a Path,
    /// Takes what QEMU itself prints.
    pub log: &'a Path,
    /// What executes instructions.
    pub accelerator: &'a Accelerator,
}

/// A started hypervisor. Its control and agent connections exist from the start and end with it.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// The QMP connection.
    pub qmp: UnixStream,
    /// The stream to the agent's virtio-serial port.
    pub agent: UnixStream,
}

impl Machine<'_> {
    /// Starts QEMU. Must be called from a thread that lives as long as the process: the kernel kills QEMU when the
    /// *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// QEMU is not installed, or a file cannot be opened.
    pub fn spawn(&self) -> Result<Spawned, VmError> {
        let pair = || UnixStream::pair().io("make a socket pair for", Path::new(PROGRAM));
        let ((qmp, qmp_far), (agent, agent_far)) = (pair()?, pair()?);
        let log = File::create(self.log).io("create", self.log)?;
        let mut command = Command::new(PROGRAM);
        command
            .args(self.arguments(qmp_far.as_raw_fd(), agent_far.as_raw_fd()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().io("open", self.log)?)
            .stderr(log);
        die_with_parent(&mut command, vec![qmp_far.into(), agent_far.into()]);
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(&source),
            _ => VmError::Io { operation: "start", path: PathBuf::from(PROGRAM), source },
        })?;
        Ok(Spawned { child, qmp, agent })
    }

    fn arguments(&self, qmp_fd: i32, agent_fd: i32) -> Vec<String> {
        let mut all: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-M",
            // acpi=on: without it this kernel finds no virtio-mmio device.
            "microvm,x-option-roms=off,isa-serial=on,acpi=on",
            "-bios",
            "qboot.rom",
        ]
        .map(str::to_owned)
        .into();
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        add("-name", format!("tci-{}", self.id));
        let (accel, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg { .. } => ("tcg", "max"),
        };
        add("-accel", accel.to_owned());
        add("-cpu", cpu.to_owned());
        add("-smp", self.spec.vcpus.to_string());
        add("-m", self.spec.memory_mib.to_string());
        add("-kernel", self.kernel.display().to_string());
        add("-initrd", self.initrd.display().to_string());
        add("-append", self.kernel_command_line());
        for (name, node) in [("base", self.base()), ("scratch", self.scratch())] {
            add("-blockdev", node);
            // A full host disk is the guest's I/O error; the default would stop the guest without a word.
            add(
                "-device",
                format!("virtio-blk-device,drive={name},serial={name},werror=report,rerror=report"),
            );
        }
        if self.spec.network == Network::User {
            add("-netdev", "user,id=net0".to_owned());
            add("-device", "virtio-net-device,netdev=net0".to_owned());
        }
        add("-object", "rng-random,id=rng0,filename=/dev/urandom".to_owned());
        add("-device", "virtio-rng-device,rng=rng0".to_owned());
        add("-device", "virtio-serial-device,max_ports=4".to_owned());
        add("-chardev", format!("socket,id=agent,fd={agent_fd}"));
        let port = terraphim_vm_protocol::AGENT_PORT;
        add("-device", format!("virtserialport,chardev=agent,id=agent,name={port}"));
        add("-chardev", json_file_chardev(self.console));
        add("-serial", "chardev:console".to_owned());
        add("-chardev", format!("socket,id=qmp,fd={qmp_fd}"));
        add("-mon", "chardev=qmp,mode=control".to_owned());
        all
    }

    fn kernel_command_line(&self) -> String {
        let mut line = format!(
            "quiet console=ttyS0 panic=-1 reboot=t cryptomgr.notests rcupdate.rcu_expedited=1 tci.rootfs={}",
            self.rootfs_format
        );
        if matches!(self.accelerator, Accelerator::Tcg { .. }) {
            line += &format!(" tsc_early_khz={} tsc=reliable", tsc::measure_khz());
        }
        if self.spec.network == Network::User {
            // The addresses of QEMU's user networking; given to the guest because asking by DHCP takes longer.
            line += " tci.net=10.0.2.15/24,10.0.2.2,10.0.2.3";
        }
        line
    }

    fn base(&self) -> String {
        let file = json!({"driver": "file", "filename": self.rootfs, "read-only": true, "locking": "off"});
        json!({"driver": "raw", "node-name": "base", "read-only": true, "file": file}).to_string()
    }

    fn scratch(&self) -> String {
        let file = json!({"driver": "file", "filename": self.scratch, "discard": "unmap"});
        // What is on the disk of a CI job is worth nothing after a crash of the host: no flushes.
        json!({
            "driver": "qcow2", "node-name": "scratch", "file": file, "discard": "unmap",
            "cache": {"no-flush": true},
        })
        .to_string()
    }
}

/// The chardev that appends to a file. Commas are doubled because this option has no JSON form in QEMU 7.
fn json_file_chardev(path: &Path) -> String {
    let path = path.display().to_string().replace(',', ",,");
    format!("file,id=console,append=on,path={path}")
}

/// Lets the child keep `fds` and makes the kernel kill it when the calling thread ends.
fn die_with_parent(command: &mut Command, fds: Vec<OwnedFd>) {
    let parent = rustix::process::getpid();
    let setup = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have died before the line above; then nobody would end this child.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for fd in &fds {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes four system calls and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

/// The last lines that QEMU printed about itself, at most 2 KiB.
#[must_use]
pub fn log_tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(2048);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}
