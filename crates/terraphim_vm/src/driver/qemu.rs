//! Starting QEMU: one microvm machine, its devices in a fixed order, no option that a name could break out of.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use super::{
    accelerator::{Accelerator, missing},
    leash, tsc,
    user::QemuUser,
};
use crate::{
    Network, VmId, VmSpec,
    error::{IoContext as _, VmError},
};

/// The hypervisor's program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// All that the emulator can do, but what makes it slow: with `erms` the kernel and the C library copy and clear memory by
/// `rep movsb` and `rep stosb`, which it executes byte by byte (4 times as much output per second without); `la57` is a
/// fifth level of page tables to walk; `smap` and `smep` protect a kernel from users who are root in this guest anyway.
const TCG_CPU: &str = "max,-erms,-la57,-smap,-smep";

/// The name of the writable disk's device, for commands about it.
pub(crate) const SCRATCH_DEVICE: &str = "scratch-disk";
/// The same for the root file system's.
pub(crate) const BASE_DEVICE: &str = "base-disk";

/// What the hypervisor of a VM is called in its own arguments, by which it is recognised.
pub(crate) fn process_name(id: &VmId) -> String {
    format!("tci-{id}")
}

/// Everything that a machine is made of. QEMU gets its files as open descriptors, the read-only ones open for reading
/// only: it needs no right to any directory, and cannot write where it should not.
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
    /// The raw disk below it.
    pub scratch_base: &'a Path,
    /// Takes what the kernel prints.
    pub console: &'a Path,
    /// Takes what QEMU itself prints.
    pub log: &'a Path,
    /// What executes instructions.
    pub accelerator: &'a Accelerator,
    /// In whose name it runs; in ours when absent.
    pub user: Option<QemuUser>,
    /// `cgroup.procs` of the control groups to run in.
    pub groups: Vec<File>,
}

/// The files of a machine, open.
struct Files {
    kernel: File,
    initrd: File,
    base: File,
    scratch: File,
    scratch_base: File,
    console: File,
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
    /// As long as this is open the process may live: the kernel kills it when this closes.
    pub leash: OwnedFd,
}

impl Machine<'_> {
    /// Starts QEMU. Must be called from a thread that lives as long as the process: the kernel kills QEMU when the
    /// *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`), and when this process does.
    ///
    /// # Errors
    /// QEMU is not installed, or a file cannot be opened.
    pub fn spawn(&self) -> Result<Spawned, VmError> {
        let pair = || UnixStream::pair().io("make a socket pair for", Path::new(PROGRAM));
        let ((qmp, qmp_far), (agent, agent_far)) = (pair()?, pair()?);
        let (leash, worn) = leash::leash().io("make a pipe for", Path::new(PROGRAM))?;
        // Appended to, so that it can be cut while QEMU has it open.
        let log = create(self.log, OpenOptions::new().append(true))?;
        log.set_len(0).io("empty", self.log)?;
        let files = self.open()?;
        let mut command = Command::new(PROGRAM);
        command
            .args(self.arguments(&files, qmp_far.as_raw_fd(), agent_far.as_raw_fd()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().io("open", self.log)?)
            .stderr(log);
        if let Some(user) = self.user {
            // Before what `confine` does, and without any other group: `std::process` sees to both.
            command.uid(user.uid).gid(user.gid);
        }
        let groups = self.groups.iter().map(|file| file.try_clone().io("open", Path::new("cgroup.procs")));
        confine(
            &mut command,
            files.keep([qmp_far.into(), agent_far.into()]),
            groups.collect::<Result<_, _>>()?,
            worn,
        );
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(&source),
            _ => VmError::Io { operation: "start", path: PathBuf::from(PROGRAM), source },
        })?;
        Ok(Spawned { child, qmp, agent, leash })
    }

    fn open(&self) -> Result<Files, VmError> {
        let read = |path: &Path| File::open(path).io("open", path);
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let scratch = OpenOptions::new().read(true).write(true).custom_flags(no_link).open(self.scratch);
        Ok(Files {
            kernel: read(self.kernel)?,
            initrd: read(self.initrd)?,
            base: read(self.rootfs)?,
            scratch: scratch.io("open", self.scratch)?,
            scratch_base: read(self.scratch_base)?,
            console: create(self.console, OpenOptions::new().append(true))?,
        })
    }

    fn arguments(&self, files: &Files, qmp_fd: i32, agent_fd: i32) -> Vec<String> {
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
        add("-name", process_name(self.id));
        let (accel, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg { .. } => ("tcg", TCG_CPU),
        };
        add("-accel", accel.to_owned());
        add("-cpu", cpu.to_owned());
        add("-smp", self.spec.vcpus.to_string());
        add("-m", self.spec.memory_mib.to_string());
        // These two are opened by name; the name of a descriptor needs no right to a directory.
        add("-kernel", format!("/proc/self/fd/{}", files.kernel.as_raw_fd()));
        add("-initrd", format!("/proc/self/fd/{}", files.initrd.as_raw_fd()));
        add("-append", self.kernel_command_line());
        let sets = [
            (BASE_SET, &files.base, self.rootfs),
            (SCRATCH_SET, &files.scratch, self.scratch),
            (SCRATCH_BASE_SET, &files.scratch_base, self.scratch_base),
            (CONSOLE_SET, &files.console, self.console),
        ];
        for (set, file, path) in sets {
            // The path is for people who look at the process. Commas are doubled (QEMU has no other quoting here).
            let path = path.display().to_string().replace(',', ",,");
            add("-add-fd", format!("set={set},fd={},opaque={path}", file.as_raw_fd()));
        }
        for (name, device, node) in
            [("base", BASE_DEVICE, base_node()), ("scratch", SCRATCH_DEVICE, scratch_node())]
        {
            add("-blockdev", node);
            // A full host disk is the guest's I/O error; the default would stop the guest without a word.
            add(
                "-device",
                format!(
                    "virtio-blk-device,id={device},drive={name},serial={name},werror=report,rerror=report"
                ),
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
        add("-chardev", format!("file,id=console,append=on,path=/dev/fdset/{CONSOLE_SET}"));
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
            // Translated code is found again by its address. Were every process at addresses of its own, each start of a
            // program would translate its libraries anew: bash takes 140 ms then, and 30 ms at the same addresses.
            line += &format!(" norandmaps tsc_early_khz={} tsc=reliable", tsc::measure_khz());
        }
        if self.spec.network == Network::User {
            // The addresses of QEMU's user networking; given to the guest because asking by DHCP takes longer.
            line += " tci.net=10.0.2.15/24,10.0.2.2,10.0.2.3";
        }
        line
    }
}

/// Numbers of the descriptor sets.
const BASE_SET: u32 = 1;
const SCRATCH_SET: u32 = 2;
const SCRATCH_BASE_SET: u32 = 3;
const CONSOLE_SET: u32 = 4;

fn base_node() -> String {
    json!({"driver": "raw", "node-name": "base", "read-only": true, "file": read_only(BASE_SET)}).to_string()
}

fn read_only(set: u32) -> serde_json::Value {
    json!({"driver": "file", "filename": format!("/dev/fdset/{set}"), "read-only": true, "locking": "off"})
}

fn scratch_node() -> String {
    let file = json!({"driver": "file", "filename": format!("/dev/fdset/{SCRATCH_SET}"), "discard": "unmap"});
    let backing = json!({"driver": "raw", "read-only": true, "file": read_only(SCRATCH_BASE_SET)});
    // What is on the disk of a CI job is worth nothing after a crash of the host: no flushes.
    json!({
        "driver": "qcow2", "node-name": "scratch", "file": file, "backing": backing, "discard": "unmap",
        "cache": {"no-flush": true},
    })
    .to_string()
}

impl Files {
    /// The descriptors that QEMU keeps.
    fn keep(self, more: [OwnedFd; 2]) -> Vec<OwnedFd> {
        let Files { kernel, initrd, base, scratch, scratch_base, console } = self;
        let own = [kernel, initrd, base, scratch, scratch_base, console].map(OwnedFd::from);
        own.into_iter().chain(more).collect()
    }
}

/// Opens a file of the VM's directory, making it when it is not there, through no link that somebody put there.
fn create(path: &Path, options: &mut OpenOptions) -> Result<File, VmError> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    options.create(true).custom_flags(no_link).open(path).io("create", path)
}

/// Lets the child keep `fds`, puts it into the control groups whose `cgroup.procs` are given, bars it from any new
/// rights, and makes the kernel kill it when the calling thread ends and when the other end of `worn` closes.
fn confine(command: &mut Command, fds: Vec<OwnedFd>, groups: Vec<File>, worn: OwnedFd) {
    let parent = rustix::process::getpid();
    let setup = move || {
        for mut group in &groups {
            group.write_all(b"0")?;
        }
        rustix::thread::set_no_new_privs(true)?;
        leash::put_on(worn.as_fd())?;
        // After the change of the user, which clears it (prctl(2), PR_SET_PDEATHSIG).
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have died before the lines above; then nobody would end this child.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        crate::process::inherit_only(fds.iter().chain([&worn]).map(AsFd::as_fd))
    };
    // SAFETY: between fork and exec the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

/// The last lines that QEMU printed about itself, at most 2 KiB.
#[must_use]
pub fn log_tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(2048);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("console.log"));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(create(&link, OpenOptions::new().write(true).truncate(true)).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert!(create(&dir.path().join("new"), OpenOptions::new().append(true)).is_ok());
    }
}
