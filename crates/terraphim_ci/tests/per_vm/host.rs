//! A host of its own for every test, which refuses to leave anything behind.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tempfile::TempDir;
use terraphim_vm::{
    Host, Network, Paths, StopOptions, VmError, VmRecord, VmSpec,
    fault::{Action, Point, VARIABLE},
};

use crate::{
    audit::{self, Inventory},
    processes::{Process, Role},
};

/// Far more than anything here takes; reached only when something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The guest is not asked, so nothing waits for it to boot.
pub(crate) const NOW: StopOptions = StopOptions { grace: Duration::ZERO };

pub(crate) struct TestHost {
    directory: TempDir,
    before: Inventory,
    pub(crate) host: Host,
}

/// What `tci` said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestHost {
    pub(crate) fn new() -> TestHost {
        TestHost::with_data(|data| fs::create_dir(data).unwrap())
    }

    /// The same with a data directory that `make` makes.
    pub(crate) fn with_data(make: impl FnOnce(&Path)) -> TestHost {
        let images = env::var_os("TCI_TEST_IMAGES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tci-test"),
            PathBuf::from,
        );
        assert!(
            images.join("images").is_dir(),
            "no guest images in {}: run `make test` once, it builds them",
            images.display()
        );
        let directory = tempfile::Builder::new().prefix("tci-test-").tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        for name in ["run", "tmp", "home"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let data = path.join("data");
        make(&data);
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).unwrap();
            symlink(fs::canonicalize(images.join(name)).unwrap(), data.join(name)).unwrap();
        }
        let paths = Paths::with_environment(&data, Some(path.join("run").into())).unwrap();
        assert!(paths.runtime().starts_with(&path), "{path:?} is too long for sockets");
        let host = Host::open(paths).unwrap().with_supervisor_program(env!("CARGO_BIN_EXE_tci").into());
        let before = Inventory::take(&path);
        TestHost { directory, before, host }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spec() -> VmSpec {
        VmSpec {
            image: "busybox".to_owned(),
            vcpus: 1,
            memory_mib: 128,
            disk_mib: 256,
            network: Network::None,
            ..VmSpec::default()
        }
    }

    pub(crate) fn create(&self) -> VmRecord {
        self.host.create(&TestHost::spec()).unwrap()
    }

    pub(crate) async fn running(&self) -> VmRecord {
        let vm = self.create();
        self.host.start(&vm.id).await.unwrap()
    }

    /// The row as it is written, which repairs nothing.
    pub(crate) fn row(&self, vm: &VmRecord) -> Option<VmRecord> {
        self.rows().into_iter().find(|row| row.id == vm.id)
    }

    pub(crate) fn rows(&self) -> Vec<VmRecord> {
        self.host.list().unwrap()
    }

    /// What an operator could do with the sqlite3 shell.
    pub(crate) fn sql(&self, statement: &str) -> usize {
        let connection = Connection::open(self.host.paths().registry()).unwrap();
        connection.busy_timeout(LIMIT).unwrap();
        connection.execute(statement, []).unwrap()
    }

    /// The states that a VM went through.
    pub(crate) fn history(&self, vm: &VmRecord) -> Vec<String> {
        let connection = Connection::open(self.host.paths().registry()).unwrap();
        let mut statement =
            connection.prepare("SELECT state FROM events WHERE vm_id = ?1 ORDER BY seq").unwrap();
        let states = statement.query_map([vm.id.as_str()], |row| row.get(0)).unwrap();
        states.collect::<Result<_, _>>().unwrap()
    }

    /// `tci` on this host, with nothing of the environment of the tests.
    pub(crate) fn tci(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tci"));
        self.hermetic(&mut command);
        command.arg("--data-dir").arg(self.host.paths().data()).args(args);
        command
    }

    pub(crate) fn hermetic(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap())
            .env("HOME", self.path().join("home"))
            .env("TMPDIR", self.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .stdin(Stdio::null());
    }

    /// The same for a process that is to do `action` at `point`, or whose supervisor is.
    pub(crate) fn faulty(&self, args: &[&str], point: Point, action: Action) -> Command {
        static HAS_FAULTS: OnceLock<bool> = OnceLock::new();
        assert!(
            HAS_FAULTS.get_or_init(|| self.refuses_an_unknown_fault()),
            "this tci has no fault points: build it as `make test` does (cargo test --workspace)"
        );
        let mut command = self.tci(args);
        command.env(VARIABLE, format!("{}:{}", point.name(), action.name()));
        command
    }

    /// A program without the feature `failpoints` passes every point as if nothing were asked of it, and every test would
    /// succeed.
    fn refuses_an_unknown_fault(&self) -> bool {
        let create = ["vm", "create", "--image", "busybox", "--memory", "128", "--disk", "256"];
        let said = self.tci(&create).env(VARIABLE, "nowhere:kill").output().unwrap();
        String::from_utf8_lossy(&said.stderr).contains("no such point")
    }

    /// Runs `tci` to its end.
    pub(crate) fn tell(&self, args: &[&str]) -> Said {
        Said::of(&self.tci(args).output().unwrap())
    }

    /// What runs that belongs to this host.
    pub(crate) fn processes(&self) -> Vec<Process> {
        Process::all_of(self.path(), &audit::vms_ever(self.path()))
    }

    pub(crate) fn process(&self, role: Role) -> Option<Process> {
        self.processes().into_iter().find(|process| process.role == role)
    }

    /// Waits for something that has no event a test could wait for, for at most [`LIMIT`].
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !happened() {
            assert!(
                Instant::now() < deadline,
                "{what} did not happen within {LIMIT:?}; rows: {:#?}, processes: {:#?}",
                self.rows(),
                self.processes()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same in a test that is a task.
    pub(crate) async fn until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !happened() {
            assert!(Instant::now() < deadline, "{what} did not happen within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Every VM is removed as a user would.
    pub(crate) fn remove_all(&self) {
        for row in self.rows() {
            let said = self.tell(&["vm", "rm", "--force", row.id.as_str()]);
            // Somebody else's removal may have been under way.
            let is_gone = said.code == Some(0) || said.stderr.contains("there is no VM");
            assert!(is_gone, "{said:#?}");
        }
    }

    /// The leak audit: everything is as it was before the first VM.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let deadline = Instant::now() + LIMIT;
        // A process is gone from /proc a moment after its end was reported; a supervisor's keeper goes after it.
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.processes(), Vec::new(), "processes are left");
        assert_eq!(Inventory::take(self.path()), self.before, "something is left (second: before)");
    }

    /// Ends with the leak audit, for who wants to see it before the test is over.
    #[track_caller]
    pub(crate) fn end(&self) {
        self.remove_all();
        self.assert_clean();
        assert_eq!(audit::notes_of_removal(&self.host), 0, "removals are left unfinished");
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // A test that fails in the middle leaves what it was working on; its own failure is what matters.
        if std::thread::panicking() {
            for process in self.processes() {
                process.kill();
            }
        } else {
            self.end();
        }
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended so, with one error at most, and said all of `words`.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stdout.contains(word) || self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, usize::from(code != 0), "{self:#?}");
        assert!(!self.stderr.contains("panicked at"), "{self:#?}");
    }
}

/// Waits for the end of a child, for at most [`LIMIT`]; then it is killed and the test fails.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Said {
    let deadline = Instant::now() + LIMIT;
    loop {
        if child.try_wait().unwrap().is_some() {
            return Said::of(&child.wait_with_output().unwrap());
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("it hangs: {:#?}", Said::of(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn error<T: std::fmt::Debug>(result: Result<T, VmError>) -> VmError {
    result.expect_err("this must fail")
}
