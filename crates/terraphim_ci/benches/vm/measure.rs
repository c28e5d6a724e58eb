//! Clocks, costs of processes, and watching them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use terraphim_vm::{ProcessId, VmId};

use crate::table::Sample;

pub(crate) const TCI: &str = env!("CARGO_BIN_EXE_tci");
/// A wait that takes this long is a failure of what is measured.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// `tci` on this data directory, silent.
pub(crate) fn tci(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(TCI);
    command
        .arg("--data-dir")
        .arg(data)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs a command to its end: its time, the processor time of it and of all it waited for, and whether it succeeded.
#[expect(clippy::zombie_processes, reason = "waited for by wait4, which tells what it cost")]
pub(crate) fn run(command: &mut Command) -> (Sample, bool) {
    let begun = Instant::now();
    let child = command.spawn().expect("the command starts");
    let pid = i32::try_from(child.id()).expect("a pid");
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage, plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one number and one rusage, for which there is room.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "it can be waited for: {}", io::Error::last_os_error());
    #[expect(clippy::cast_precision_loss, reason = "the processor time of a short command")]
    let time = |time: libc::timeval| time.tv_sec as f64 * 1000.0 + time.tv_usec as f64 / 1000.0;
    let sample =
        Sample { wall_ms: milliseconds(begun), cpu_ms: Some(time(usage.ru_utime) + time(usage.ru_stime)) };
    (sample, libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}

/// A command that is to succeed, `count` times.
pub(crate) fn repeat(count: usize, command: impl Fn() -> Command) -> Vec<Sample> {
    let once = |_| {
        let mut command = command();
        let (sample, good) = run(&mut command);
        assert!(good, "{command:?} fails");
        sample
    };
    (0..count).map(once).collect()
}

/// Notes when a process has ended.
pub(crate) fn death(process: &ProcessId) -> JoinHandle<Instant> {
    let pidfd = process.open().expect("a pidfd").expect("the process lives");
    std::thread::spawn(move || {
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert!(rustix::event::poll(&mut fds, Some(&limit)).expect("a wait") > 0, "the process does not end");
        Instant::now()
    })
}

/// When a row said so, and whether the process that was watched beside lived at that moment.
struct Seen {
    at: Instant,
    alive: bool,
}

/// Notes when a row says `state`, by asking the database five thousand times a second.
pub(crate) struct RowWatch {
    thread: JoinHandle<Option<Seen>>,
    stop: Arc<AtomicBool>,
}

impl RowWatch {
    pub(crate) fn start(registry: PathBuf, id: &VmId, state: &'static str) -> RowWatch {
        RowWatch::beside(registry, id, state, None)
    }

    pub(crate) fn beside(
        registry: PathBuf,
        id: &VmId,
        state: &'static str,
        process: Option<ProcessId>,
    ) -> RowWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let (id, stopped) = (id.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let database = Connection::open_with_flags(registry, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .expect("the registry");
            let mut statement = database.prepare("SELECT state FROM vms WHERE id = ?1").expect("a query");
            let deadline = Instant::now() + LIMIT;
            while Instant::now() < deadline && !stopped.load(Ordering::Relaxed) {
                let found: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).ok();
                if found.as_deref() == Some(state) {
                    let at = Instant::now();
                    return Some(Seen { at, alive: process.is_some_and(|process| process.is_alive()) });
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            None
        });
        RowWatch { thread, stop }
    }

    /// When the row said so.
    pub(crate) fn seen(self) -> Instant {
        let seen = self.thread.join().expect("the watcher");
        seen.expect("the row reaches that state").at
    }

    /// Whether it has said so by now, and while the process lived.
    pub(crate) fn seen_while_alive(self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher").is_some_and(|seen| seen.alive)
    }
}

/// Processor time of a process with one thread, in milliseconds: `/proc/PID/schedstat` counts nanoseconds.
pub(crate) fn cpu_ms(pid: i32) -> f64 {
    cpu_ms_if_alive(pid).expect("the process lives")
}

/// The same; nothing of a process that has ended.
pub(crate) fn cpu_ms_if_alive(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e6)
}

/// The number in a line `NAME: NUMBER ...` of a file of `/proc/PID`, all lines of that name added.
pub(crate) fn proc_number(pid: i32, file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives");
    let of = |line: &str| {
        line.strip_prefix(name)?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(of).sum::<f64>()
}

/// How many entries a directory of `/proc/PID` has.
pub(crate) fn proc_count(pid: i32, directory: &str) -> f64 {
    let count = fs::read_dir(format!("/proc/{pid}/{directory}")).expect("the process lives").count();
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Files and sockets below a directory; links are not followed.
pub(crate) fn files_below(directory: &Path) -> f64 {
    let mut count = 0.0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        count += if is_directory { files_below(&entry.path()) } else { 1.0 };
    }
    count
}
