//! Processes named so that a reused pid is never mistaken for the process that had it before.

use std::{fs, io, time::Duration};

use crate::VmId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of one boot of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks after boot (proc(5), `stat` field 22).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` when it started.
    pub boot_id: String,
}

/// What happened to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// It was delivered.
    Sent,
    /// The process had ended before.
    Gone,
}

/// What a process is to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Owns it.
    Supervisor,
    /// Runs it.
    Hypervisor,
}

impl Role {
    /// The argument by which a process of this role names its VM, and the one before it.
    fn arguments(self, id: &VmId) -> (&'static str, String) {
        match self {
            Role::Supervisor => (crate::supervisor::SUBCOMMAND, id.to_string()),
            Role::Hypervisor => ("-name", crate::driver::qemu::process_name(id)),
        }
    }
}

impl ProcessId {
    /// The calling process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn current() -> io::Result<ProcessId> {
        ProcessId::of(std::process::id().cast_signed())
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    /// There is none, or `/proc` cannot be read.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        let stat = Stat::read(pid)?;
        Ok(ProcessId { pid, start_time: stat.start_time, boot_id: boot_id()? })
    }

    /// Whether the process runs. One that nobody has reaped yet has ended (a container's PID 1 may never do it).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && Stat::read(self.pid).is_ok_and(|stat| stat.start_time == self.start_time && !stat.has_ended())
    }

    /// Whether the process runs and is what a row says it is: a pid and a start time can be written by anybody, the
    /// arguments of a process name the VM that it belongs to.
    pub(crate) fn is_alive_as(&self, role: Role, id: &VmId) -> bool {
        let (before, name) = role.arguments(id);
        let named = fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|line| {
            let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            arguments.windows(2).any(|pair| pair[0] == before.as_bytes() && pair[1] == name.as_bytes())
        });
        // Looked at second: what was read belonged to this very process.
        named && self.is_alive()
    }

    /// Whether the process is on its way out: it has given its memory back, and with it the arguments that it is known by,
    /// but is still there.
    pub(crate) fn is_exiting(&self) -> bool {
        let is_mine = |stat: &Stat| stat.start_time == self.start_time && !stat.has_ended();
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && Stat::read(self.pid).is_ok_and(|stat| is_mine(&stat) && stat.flags & PF_EXITING != 0)
    }

    /// Kills the process if it is what the row of VM `id` says it is.
    ///
    /// # Errors
    /// The kernel refuses (no permission).
    pub(crate) fn kill_as(&self, role: Role, id: &VmId) -> io::Result<Signalled> {
        if self.is_alive_as(role, id) { self.signal(Signal::KILL) } else { Ok(Signalled::Gone) }
    }

    /// A descriptor that becomes readable when the process ends; `None` when it has ended.
    ///
    /// # Errors
    /// The kernel refuses (too many descriptors).
    pub fn open(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Checked after opening: from here on the descriptor cannot change its meaning.
        Ok(self.is_alive().then_some(pidfd))
    }

    /// Blocks until the process has ended, for at most `limit`; false when it has not.
    ///
    /// # Errors
    /// The kernel refuses (too many descriptors).
    pub(crate) fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        let Some(pidfd) = self.open()? else { return Ok(true) };
        let limit = rustix::time::Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut wait = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| rustix::event::poll(&mut wait, Some(&limit)))? > 0)
    }

    /// Sends a signal to exactly this process.
    ///
    /// # Errors
    /// The kernel refuses (no permission).
    pub fn signal(&self, signal: Signal) -> io::Result<Signalled> {
        let Some(pidfd) = self.open()? else { return Ok(Signalled::Gone) };
        match pidfd_send_signal(pidfd, signal) {
            Ok(()) => Ok(Signalled::Sent),
            Err(rustix::io::Errno::SRCH) => Ok(Signalled::Gone),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Lets the program that is about to be executed inherit no descriptor but the standard ones and `keep`, whatever else
/// this process has open, its own or inherited. For the moment between fork and exec: it allocates nothing.
pub(crate) fn inherit_only<'fd>(keep: impl Iterator<Item = std::os::fd::BorrowedFd<'fd>>) -> io::Result<()> {
    // SAFETY: the call takes three numbers and changes only flags of descriptors. A kernel before 5.11 refuses it; then
    // what was opened without the flag is inherited, as it always was.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for fd in keep {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

/// The id of this boot of the machine.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// `include/linux/sched.h` of the kernel.
const PF_EXITING: u32 = 4;

struct Stat {
    state: u8,
    flags: u32,
    threads: u64,
    start_time: u64,
}

impl Stat {
    /// The state is that of the first thread, which may be a zombie while others still end and hold what the process has open,
    /// a disk's lock for instance. The first one counts among them until the whole process is reaped.
    fn has_ended(&self) -> bool {
        self.state == b'Z' && self.threads <= 1
    }

    fn read(pid: i32) -> io::Result<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
    }

    /// The command name is in parentheses and may itself hold any byte, so fields count from the last `)`.
    fn parse(text: &[u8]) -> Option<Stat> {
        let after = text.iter().rposition(|byte| *byte == b')')? + 2;
        let rest = std::str::from_utf8(text.get(after..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // proc_pid_stat(5): the 9th, the 20th and the 22nd of all fields.
        let flags = fields.nth(5)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        Some(Stat { state, flags, threads, start_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let me = ProcessId::current().unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me.clone() }.is_alive());
        assert!(!ProcessId { boot_id: "another boot".into(), ..me }.is_alive());
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        rustix::event::poll(&mut [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)], None)
            .unwrap();
        assert!(!id.is_alive());
        child.wait().unwrap();
        assert_eq!(id.signal(Signal::TERM).unwrap(), Signalled::Gone);
    }

    #[test]
    fn a_command_name_with_parentheses_is_read() {
        let mut text = b"1 (a) b (c) S".to_vec();
        for field in 4..=52 {
            text.extend_from_slice(format!(" {field}").as_bytes());
        }
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.state, stat.flags, stat.threads, stat.start_time), (b'S', 9, 20, 22));
    }

    /// As a hypervisor does for some milliseconds when it is killed.
    #[test]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        const PROGRAM: &str = "\
            import ctypes, threading, time\n\
            threading.Thread(target=time.sleep, args=(60,)).start()\n\
            ctypes.CDLL(None).syscall(60, 0)"; // exit(2), of this thread only
        let mut child = std::process::Command::new("python3").args(["-c", PROGRAM]).spawn().unwrap();
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        let begun = std::time::Instant::now();
        while Stat::read(id.pid).unwrap().state != b'Z' {
            assert!(begun.elapsed() < Duration::from_secs(60), "its first thread does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(id.is_alive() && id.is_exiting());
        assert!(!id.ended_within(Duration::from_millis(10)).unwrap());
        assert_eq!(id.signal(Signal::KILL).unwrap(), Signalled::Sent);
        assert!(id.ended_within(Duration::from_secs(60)).unwrap());
        assert!(!id.is_alive());
        child.wait().unwrap();
    }
}
