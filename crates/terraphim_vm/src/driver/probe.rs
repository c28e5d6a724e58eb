//! Whether KVM really runs a guest on this host, and at the speed of a processor.
//!
//! `/dev/kvm` can be there and be of no use: closed to the users that hypervisors run as, without what a machine needs, or
//! emulated in software (nested clouds do that), which is far slower than QEMU's own translator. So a hypervisor is started
//! the way a VM's is, and its guest has to count.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{
            fs::MetadataExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::MemfdFlags,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{
    accelerator::{Accelerator, missing},
    qemu::PROGRAM,
    user::QemuUser,
};
use crate::error::{IoContext as _, VmError};

const DEVICE: &str = "/dev/kvm";

/// How far the guest counts. A processor needs some 10 ms for that, QEMU's translator 0.1 s, an emulated KVM, which was
/// measured at under a million instructions a second, most of a minute.
const COUNT: u32 = 20_000_000;

/// Processor time that QEMU may take in all, in seconds: its own start takes a tenth of one. Not time of the clock, so that
/// a busy host is not taken for a slow one.
const PROCESSOR_SECONDS: u64 = 1;

/// Where the guest reports that it is done.
const EXIT_PORT: &str = "isa-debug-exit,iobase=0xf4,iosize=0x04";

/// What QEMU exits with when a guest writes 0x10 to that port (`hw/misc/debugexit.c`: twice the value and one).
const DONE: i32 = 0x10 << 1 | 1;

/// Finds out whether KVM works here.
///
/// # Errors
/// QEMU is not installed, or cannot be started.
pub(super) fn probe() -> Result<Accelerator, VmError> {
    let user = QemuUser::for_probe();
    let reason = match closed(user) {
        Some(reason) => reason,
        None => match count(&["-accel", "kvm", "-cpu", "host"], COUNT, user)? {
            Verdict::Done => return Ok(Accelerator::Kvm),
            Verdict::Slow => format!("{DEVICE} is emulated on this host and slower than QEMU's translator"),
            Verdict::Failed(why) => format!("{DEVICE} exists but cannot run a machine here ({why})"),
        },
    };
    Ok(Accelerator::Tcg { reason })
}

/// Why the device cannot be opened, where that is known without QEMU, with the remedy.
fn closed(user: Option<QemuUser>) -> Option<String> {
    let device = match fs::metadata(DEVICE) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!("this host has no {DEVICE}"));
        }
        Err(error) => return Some(format!("{DEVICE} cannot be looked at: {error}")),
    };
    let Some(user) = user else {
        return match File::options().read(true).write(true).open(DEVICE) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("no permission for {DEVICE}: add yourself to the group `kvm`"))
            }
            Err(error) => Some(format!("{DEVICE} cannot be opened: {error}")),
        };
    };
    let by_group = device.gid() == user.gid && device.mode() & 0o060 == 0o060;
    let by_all = device.mode() & 0o006 == 0o006;
    (!by_group && !by_all).then(|| {
        format!(
            "hypervisors run as users without rights, and {DEVICE} is root's alone: \
             `groupadd --system --force kvm && chgrp kvm {DEVICE} && chmod 660 {DEVICE}`"
        )
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The guest counted to its end.
    Done,
    /// It did not within [`PROCESSOR_SECONDS`].
    Slow,
    /// QEMU ended otherwise; what it said.
    Failed(String),
}

/// Lets a guest count to `to` and report.
fn count(accelerator: &[&str], to: u32, user: Option<QemuUser>) -> Result<Verdict, VmError> {
    let itself = Path::new(PROGRAM);
    let name = c"tci-probe";
    let mut firmware =
        File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).io("probe with", itself)?);
    firmware.write_all(&counter(to)).io("probe with", itself)?;
    let mut command = Command::new(PROGRAM);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-M",
            "microvm",
            "-m",
            "32",
        ])
        .args(accelerator)
        .args(["-device", EXIT_PORT, "-bios"])
        .arg(format!("/proc/self/fd/{}", firmware.as_raw_fd()))
        .stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let setup = move || {
        let limit = Rlimit { current: Some(PROCESSOR_SECONDS), ..getrlimit(Resource::Cpu) };
        setrlimit(Resource::Cpu, limit)?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        crate::process::inherit_only([firmware.as_fd()].into_iter())
    };
    // SAFETY: between fork and exec the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(setup) };
    let output = command.output().map_err(|source| missing(&source))?;
    Ok(match (output.status.code(), output.status.signal()) {
        (Some(DONE), _) => Verdict::Done,
        (None, Some(libc::SIGXCPU)) => Verdict::Slow,
        _ => {
            let text = String::from_utf8_lossy(&output.stderr);
            let said = text.lines().next().map(|line| line.trim().to_owned());
            Verdict::Failed(said.unwrap_or_else(|| format!("QEMU ended with {}", output.status)))
        }
    })
}

/// A firmware that counts down from `to` with a 32-bit processor, writes 0x10 to the port 0xf4, and waits for ever.
fn counter(to: u32) -> Vec<u8> {
    /// A PC's firmware ends at 4 GiB; QEMU takes multiples of this.
    const SIZE: usize = 64 * 1024;
    /// Where a processor begins, 16 bytes before the end (Intel SDM volume 3, "First Instruction Executed").
    const RESET: usize = SIZE - 16;
    /// A null descriptor, and code over all 4 GiB that is marked as used: the processor need not write to this ROM.
    const DESCRIPTORS: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0];
    let mut rom = vec![0; SIZE];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    put(RESET, &[0xe9, 0x0d, 0x00]); //                                jmp  0 (of the segment, which is the ROM)
    put(0x00, &[0xfa]); //                                             cli
    put(0x01, &[0x2e, 0x66, 0x0f, 0x01, 0x16, 0x30, 0x00]); //         lgdtl cs:0x30
    put(0x08, &[0x0f, 0x20, 0xc0]); //                                 mov  eax, cr0
    put(0x0b, &[0x0c, 0x01]); //                                       or   al, 1
    put(0x0d, &[0x0f, 0x22, 0xc0]); //                                 mov  cr0, eax
    put(0x10, &[0x66, 0xea, 0x20, 0x00, 0xff, 0xff, 0x08, 0x00]); //   ljmpl 8:0xffff0020
    put(0x20, &[0xb9]); //                                             mov  ecx, to
    put(0x21, &to.to_le_bytes());
    put(0x25, &[0x49]); //                                             dec  ecx
    put(0x26, &[0x75, 0xfd]); //                                       jnz  0x25
    put(0x28, &[0xb0, 0x10]); //                                       mov  al, 0x10
    put(0x2a, &[0xe6, 0xf4]); //                                       out  0xf4, al
    put(0x2c, &[0xf4, 0xeb, 0xfd]); //                                 hlt, again and again
    put(0x30, &[0x0f, 0x00]); //                                       the descriptors' size less one, and address
    put(0x32, &0xffff_0038_u32.to_le_bytes());
    put(0x38, &DESCRIPTORS);
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCG: [&str; 4] = ["-accel", "tcg", "-cpu", "max"];

    #[test]
    fn a_guest_that_counts_to_its_end_is_believed() {
        assert_eq!(count(&TCG, 1000, QemuUser::for_probe()).unwrap(), Verdict::Done);
    }

    #[test]
    fn a_guest_that_is_too_slow_is_ended_after_a_second_of_the_processor() {
        // The translator needs some ten seconds for this.
        assert_eq!(count(&TCG, u32::MAX, QemuUser::for_probe()).unwrap(), Verdict::Slow);
    }

    #[test]
    fn what_qemu_says_is_the_reason() {
        let Verdict::Failed(why) = count(&["-accel", "nonsense"], 1, None).unwrap() else {
            panic!("it failed not")
        };
        assert!(why.contains("nonsense"), "{why}");
    }
}
