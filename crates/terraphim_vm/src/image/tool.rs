//! Runs the programs that images are built with.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::error::{Hint, ImageError, IoContext, Tail};
use super::files::Lock;

/// How many lines of a failed program's standard error are shown.
const TAIL_LINES: usize = 20;
/// A longer line is cut: a program's output must not fill our memory.
const LINE_BYTES: u64 = 4096;

/// One call of a program.
pub(super) struct Tool {
    program: &'static str,
    package: &'static str,
    stage: &'static str,
    command: Command,
    end: Signal,
}

impl Tool {
    /// `package` is the Debian package that has `program`; `stage` completes `failed while ...`.
    pub(super) fn new(program: &'static str, package: &'static str, stage: &'static str) -> Self {
        let mut command = Command::new(program);
        command.env("PATH", search_path(&callers_path()));
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { program, package, stage, command, end: Signal::TERM }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(super) fn stdin(mut self, input: impl Into<Stdio>) -> Self {
        self.command.stdin(input);
        self
    }

    pub(super) fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stdout(output);
        self
    }

    /// As [`Tool::new`], for root: the program runs in namespaces of its own. Nobody else sees its mounts, and when we die,
    /// so do all its processes at once, and its mounts with them.
    pub(super) fn confined(program: &'static str, package: &'static str, stage: &'static str) -> Self {
        let mut tool = Tool::new("unshare", package, stage).args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            program,
        ]);
        tool.program = program;
        // `unshare` passes no milder signal on.
        tool.end = Signal::KILL;
        tool
    }

    /// Hands the lock on to the program, so that it stays taken as long as the program works, even if we are killed.
    pub(super) fn holding(mut self, lock: &Lock) -> Self {
        let descriptor = lock.as_raw_fd();
        // SAFETY: the closure only makes one system call, which is safe between fork and exec; it allocates nothing. The
        // descriptor is open: our caller keeps the lock until the program has ended, and it is started before that.
        unsafe {
            self.command.pre_exec(move || {
                let lock = BorrowedFd::borrow_raw(descriptor);
                rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty()).map_err(io::Error::from)
            });
        }
        self
    }

    /// Runs to the end.
    pub(super) fn run(self) -> Result<(), ImageError> {
        self.watch(|_| ())
    }

    /// Runs to the end, passing every line of the standard error on.
    pub(super) fn watch(mut self, mut line: impl FnMut(&str)) -> Result<(), ImageError> {
        let mut child = self.spawn()?;
        let mut tail = VecDeque::new();
        let stderr = child.stderr.take().expect("the standard error is piped");
        for_each_line(stderr, |text| {
            line(text);
            remember(&mut tail, text);
        })
        .io("read the output of", Path::new(self.program))?;
        self.finish(child, tail)
    }

    /// Runs to the end and lets `read` consume the standard output meanwhile.
    ///
    /// The program's own failure is told rather than that of `read`, which it usually causes.
    pub(super) fn read<T>(
        mut self,
        read: impl FnOnce(ChildStdout) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        self.command.stdout(Stdio::piped());
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().expect("the standard output is piped");
        let stderr = child.stderr.take().expect("the standard error is piped");
        let reader = std::thread::spawn(move || {
            let mut tail = VecDeque::new();
            for_each_line(stderr, |text| remember(&mut tail, text)).map(|()| tail)
        });
        let result = read(stdout);
        if result.is_err() {
            // Nobody reads its output any more; whether it had already ended does not matter.
            let _ = child.kill();
        }
        let tail = reader
            .join()
            .expect("the reader does not panic")
            .io("read the output of", Path::new(self.program))?;
        match (self.finish(child, tail), result) {
            (Err(ImageError::ToolFailed { status, .. }), Err(cause)) if status.code().is_none() => Err(cause),
            (Err(failed), _) => Err(failed),
            (Ok(()), result) => result,
        }
    }

    /// Runs to the end and returns the standard output as text.
    pub(super) fn text(self) -> Result<String, ImageError> {
        let program = self.program;
        self.read(|stdout| io::read_to_string(stdout).io("read the output of", Path::new(program)))
    }

    fn spawn(&mut self) -> Result<Child, ImageError> {
        self.command.stderr(Stdio::piped());
        end_with_parent(&mut self.command, self.end);
        self.command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                ImageError::ToolMissing { program: self.program, package: self.package }
            }
            _ => ImageError::Io { operation: "start", path: self.program.into(), source },
        })
    }

    fn finish(self, mut child: Child, tail: VecDeque<String>) -> Result<(), ImageError> {
        let status = child.wait().io("wait for", Path::new(self.program))?;
        if status.success() {
            return Ok(());
        }
        let tail = Tail(tail.into());
        let hint = Hint::from_output(&tail);
        Err(ImageError::ToolFailed { program: self.program, stage: self.stage, status, hint, tail })
    }
}

/// Fails unless the program is installed: better told before a long build than in its middle.
pub(super) fn require(program: &'static str, package: &'static str) -> Result<(), ImageError> {
    let path = search_path(&callers_path());
    if std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    Err(ImageError::ToolMissing { program, package })
}

/// The system's directories, those of mkfs and its like too, which Debian leaves out of an ordinary user's path; then the
/// caller's. The programs are Debian's and call each other by name, `mmtarfilter` even its interpreter: a python3 of the
/// caller's own (pyenv, conda) does not work for the user that an image is unpacked as.
fn search_path(callers: &OsStr) -> OsString {
    let mut path = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:");
    path.push(callers);
    path
}

fn callers_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn remember(tail: &mut VecDeque<String>, line: &str) {
    // What Debian's tools merely inform about would push the error out of sight.
    if line.starts_with("I: ") {
        return;
    }
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.to_owned());
}

/// Calls `line` with every line, and with the parts between carriage returns, which progress bars use.
pub(super) fn for_each_line(source: impl Read, mut line: impl FnMut(&str)) -> io::Result<()> {
    let mut source = BufReader::new(source);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if source.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes);
        text.split(['\r', '\n']).map(str::trim_end).filter(|part| !part.is_empty()).for_each(&mut line);
    }
}

/// Lets the kernel end the program when we die, even if we are killed.
fn end_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: the closure only makes one system call, which is safe between fork and exec; it allocates nothing.
    unsafe {
        command.pre_exec(move || set_parent_process_death_signal(Some(signal)).map_err(io::Error::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        Tool::new("sh", "dash", "testing").args(["-c", script])
    }

    #[test]
    fn a_failure_shows_the_end_of_the_error_output() {
        let error = shell("for i in $(seq 30); do echo line $i >&2; done; exit 3").run().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh` failed while testing (exit status: 3)\n  line 11\n"), "{text}");
        assert!(text.ends_with("  line 30"), "{text}");
    }

    #[test]
    fn a_program_of_the_caller_s_stands_behind_the_system_s() {
        let path = search_path(OsStr::new("/home/me/.pyenv/shims"));
        let directories: Vec<_> = std::env::split_paths(&path).collect();
        assert_eq!(directories.last().unwrap(), Path::new("/home/me/.pyenv/shims"));
        assert!(directories.contains(&"/usr/bin".into()) && directories.contains(&"/usr/sbin".into()));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Tool::new("no-such-program-here", "some-package", "testing").run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "program `no-such-program-here` is missing; install it with: sudo apt-get install some-package"
        );
    }

    #[test]
    fn the_programs_failure_wins_over_that_of_its_reader() {
        let failing = |_| Err(ImageError::NotFound("reader".into()));
        let error = shell("echo broken >&2; exit 4").read::<()>(|mut out| {
            io::copy(&mut out, &mut io::sink()).unwrap();
            Err(ImageError::NotFound("reader".into()))
        });
        assert!(error.unwrap_err().to_string().contains("broken"));
        // Here the program fails only because nobody reads it.
        let error = shell("yes").read::<()>(failing).unwrap_err();
        assert!(matches!(error, ImageError::NotFound(_)), "{error}");
    }

    #[test]
    fn the_hint_follows_from_the_output() {
        let error = shell("echo 'write: No space left on device' >&2; exit 1").run().unwrap_err().to_string();
        assert!(error.contains("the disk is full; free some space"), "{error}");
    }
}
