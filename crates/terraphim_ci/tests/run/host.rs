//! A user on a host of their own, with the shared guest images; nothing may be left behind.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{ffi::OsStrExt as _, fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes; reached only when something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A supervisor gives those who still read from it two seconds.
const LEAVE_LIMIT: Duration = Duration::from_secs(20);

/// The user's configuration. Two tests at once fill a small machine; a guest with a second processor is booted by software at
/// a fifth more of processor time, and nothing here looks at it. The tests of other configurations put theirs in its place.
const CONFIG: &str = "[vm-types.default]\ncpus = 1\n";

/// What is kept of a program's words to be shown with a failure.
const KEPT: usize = 1 << 20;

pub(crate) struct World {
    directory: TempDir,
}

/// What `tci` said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// A host with the shared images and an empty git repository, in which `tci` is called.
    pub(crate) fn new() -> World {
        let images = env::var_os("TCI_TEST_IMAGES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tci-test"),
            PathBuf::from,
        );
        assert!(
            images.join("images").is_dir(),
            "no guest images in {}: run `make test` once, it builds them",
            images.display()
        );
        let world = World::without_images();
        fs::create_dir(world.data()).unwrap();
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).unwrap();
            symlink(fs::canonicalize(images.join(name)).unwrap(), world.data().join(name)).unwrap();
        }
        world
    }

    /// The same with nothing in place.
    pub(crate) fn without_images() -> World {
        let directory = tempfile::Builder::new().prefix("tci-run-").tempdir().unwrap();
        for name in ["home/.config/tci", "repo", "run"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("home/.config/tci/config.toml"), CONFIG).unwrap();
        let world = World { directory };
        world.git(&["init", "-q", "-b", "main", "."]);
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path().join("repo")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Writes a file below the repository.
    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.repo().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a workflow: jobs in the notation of YAML.
    pub(crate) fn workflow(&self, name: &str, text: &str) {
        self.write(&format!(".github/workflows/{name}.yml"), text);
    }

    pub(crate) fn git(&self, args: &[&str]) {
        let output = self.hermetic("git").args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `tci` in the repository, with nothing of the environment of the tests.
    pub(crate) fn tci(&self) -> Command {
        let mut command = self.hermetic(env!("CARGO_BIN_EXE_tci"));
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// `tci` and what it starts can write no file beyond this size.
    pub(crate) fn limited_to(&self, bytes: u64, args: &[&str]) -> Command {
        let mut command = self.hermetic("bash");
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 1024);
        command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_tci"), "--data-dir"]);
        command.arg(self.data()).args(args);
        command
    }

    fn hermetic(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap())
            .env("HOME", self.path().join("home"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("TZ", "UTC")
            .envs(["AUTHOR", "COMMITTER"].iter().flat_map(|who| {
                [(format!("GIT_{who}_NAME"), "n"), (format!("GIT_{who}_EMAIL"), "n@example.org")]
            }))
            .current_dir(self.repo())
            .stdin(Stdio::null());
        command
    }

    /// Runs `tci` to its end.
    pub(crate) fn tell(&self, args: &[&str]) -> Said {
        Said::of(&self.tci().args(args).output().unwrap())
    }

    /// `tci run ARGS --json FILE`, and the JSON.
    pub(crate) fn run(&self, args: &[&str]) -> (Said, Value) {
        let file = self.path().join("result.json");
        let mut command = self.tci();
        command.arg("run").args(args).arg("--json").arg(&file);
        let said = Said::of(&command.output().unwrap());
        let text = fs::read_to_string(&file).unwrap_or_default();
        (said, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Starts `tci` without waiting for its end.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.tci();
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The test has what it wanted.
                    let _ = sender.send(line);
                }
            });
        }
        Running { child, lines, seen: String::new() }
    }

    /// The control socket of a VM that runs.
    pub(crate) fn control_socket(&self, vm: &str) -> PathBuf {
        let hosts = fs::read_dir(self.path().join("run/tci")).unwrap().flatten();
        let sockets = hosts.map(|host| host.path().join(vm).join("control-1"));
        sockets.into_iter().find(|socket| socket.exists()).unwrap_or_else(|| panic!("VM {vm} has no socket"))
    }

    /// The processes that name this world in their arguments.
    pub(crate) fn processes(&self) -> BTreeMap<i32, String> {
        let path: &OsStr = self.path().as_os_str();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line.windows(path.len()).any(|part| part == path.as_bytes()) {
                let pid = entry.file_name().to_string_lossy().parse().unwrap();
                found.insert(pid, String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        found
    }

    /// Waits until a hypervisor runs.
    pub(crate) fn until_hypervisor(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.processes().values().any(|line| line.starts_with("qemu-system")) {
            assert!(Instant::now() < deadline, "no hypervisor was started");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the log of the first job of the first run holds `text`.
    pub(crate) fn until_logged(&self, text: &str) {
        let log = self.data().join("runs/1/job-1.log");
        let deadline = Instant::now() + LIMIT;
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains(text)) {
            assert!(Instant::now() < deadline, "{text:?} is not in {}", log.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most memory that the supervisor of a VM has had so far, in KiB.
    pub(crate) fn supervisor_peak_kib(&self) -> u64 {
        let of = |(pid, line): (i32, String)| line.contains(" vm-supervisor ").then(|| peak_kib(pid))?;
        // Its keeper has the same arguments and next to no memory.
        self.processes().into_iter().filter_map(of).max().expect("a supervisor runs")
    }

    /// What is still there that belongs to this world.
    fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().into_values().map(|line| format!("process {line}")).collect();
        left.extend(names(&self.data().join("vms")).map(|vm| format!("VM {vm}")));
        left.extend(names(&self.data().join("locks")).map(|lock| format!("lock {lock}")));
        for host in fs::read_dir(self.path().join("run/tci")).into_iter().flatten().flatten() {
            left.extend(names(&host.path()).map(|socket| format!("socket directory {socket}")));
        }
        left
    }

    /// The leak audit: no process, VM, disk or socket.
    pub(crate) fn assert_clean(&self) {
        let deadline = Instant::now() + LEAVE_LIMIT;
        // A supervisor's process goes a moment after its VM; after a kill it needs a moment to notice.
        while !self.leftovers().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.leftovers(), Vec::<String>::new(), "left behind");
    }
}

/// The most memory that a process has had so far, in KiB.
pub(crate) fn peak_kib(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean();
            return;
        }
        for pid in self.processes().into_keys().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        Said {
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything it said.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// How many errors it told of.
    pub(crate) fn errors(&self) -> usize {
        self.stderr.lines().filter(|line| line.starts_with("error: ")).count()
    }

    /// It ended so, and said all of `words`.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.all().contains(word), "no {word:?} in {self:#?}");
        }
        assert!(!self.all().contains("panicked at"), "{self:#?}");
    }
}

/// As a shell sees it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// A `tci` that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Waits until it says `text`; returns the line.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(LIMIT) else {
                panic!("it never said {text:?}, but:\n{}", self.seen)
            };
            if self.seen.len() > KEPT {
                self.seen.clear();
            }
            self.seen += &format!("{line}\n");
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Waits for its end: the exit code, and everything it said.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        self.seen.extend(self.lines.iter().map(|line| line + "\n"));
        (code(status), self.seen)
    }
}
