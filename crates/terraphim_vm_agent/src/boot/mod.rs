//! From the kernel's first call of `/init` to a guest in which processes can run.
//!
//! ```text
//! early mounts -> modules -> disks -> overlay root -> move mounts, chroot -> late mounts -> names, network
//! ```
//!
//! What the guest cannot do without ends the boot with a message on the console; the rest becomes a warning.

mod cmdline;
mod etc;
mod modules;
mod mounts;
mod network;
mod root;
mod uevent;

use std::{fmt, fs, io};

use rustix::{
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, reboot},
};

use crate::{kmsg, priority};
use cmdline::CommandLine;
pub(crate) use uevent::Uevents;

/// What many open files need: servers and build tools of today exceed the kernel's default of 1024.
const OPEN_FILES: Rlimit = Rlimit { current: Some(65_536), maximum: Some(1_048_576) };
const HOSTNAME: &str = "tci";

/// A started guest.
pub(crate) struct Booted {
    pub(crate) warnings: Vec<String>,
    pub(crate) uevents: Uevents,
}

/// A step without which there is no guest.
#[derive(Debug)]
pub(crate) struct BootError {
    what: String,
    why: String,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)
    }
}

/// Names the step that failed.
trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, BootError>;
}

impl<T, E: fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, BootError> {
        self.map_err(|error| BootError { what: what(), why: error.to_string() })
    }
}

/// Makes the guest usable.
pub(crate) fn boot() -> Result<Booted, BootError> {
    let mut warnings = Vec::new();
    mounts::early()?;
    let uevents = Uevents::open().step(|| "listen to the kernel's device events".to_owned())?;
    let line = fs::read_to_string("/proc/cmdline").step(|| "read /proc/cmdline".to_owned())?;
    let line = CommandLine::parse(&line).step(|| "understand the kernel command line".to_owned())?;
    modules::load_all(&mut warnings)?;
    root::switch(&line, &uevents, &mut warnings)?;
    mounts::late(&mut warnings);
    let mut attempt = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("cannot {what}: {error}"));
        }
    };
    attempt("raise the limit of open files", setrlimit(Resource::Nofile, OPEN_FILES).map_err(Into::into));
    // The out-of-memory killer spares PID 1 as it is (`oom_unkillable_task`), so nothing is to be set for it, and no child
    // has anything to undo.
    attempt("give the agent its priority", priority::come_first());
    attempt("set the host name", set_hostname(HOSTNAME));
    attempt("start the loopback interface", network::start_loopback());
    if let Some(net) = &line.net {
        attempt("start the network", network::start(net));
        attempt("write /etc/resolv.conf", etc::write_resolv_conf(net.dns));
    }
    Ok(Booted { warnings, uevents })
}

/// Sets the host name, `/etc/hostname` and `/etc/hosts`.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(good) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "use 1 to 64 letters, digits, `-` and `.`"));
    }
    rustix::system::sethostname(name.as_bytes())?;
    etc::write_names(name)
}

/// Writes everything to disk and ends the machine.
pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    mounts::detach_all();
    rustix::fs::sync();
    let error = reboot(RebootCommand::PowerOff);
    kmsg::say(&format!("cannot power off: {error:?}"));
    // The kernel panics when PID 1 ends, which ends the machine too.
    std::process::abort()
}

/// Says why on the console and ends the machine.
pub(crate) fn give_up(why: &str) -> ! {
    kmsg::say(why);
    power_off()
}
