//! A host of its own for every test, which refuses to leave anything behind.

use std::{
    env, fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tempfile::TempDir;
use terraphim_vm::{Host, Network, Paths, VmRecord, VmSpec};

/// Far more than anything here takes; reached only when something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct TestHost {
    directory: TempDir,
    pub(crate) host: Host,
}

impl TestHost {
    pub(crate) fn new() -> TestHost {
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
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).unwrap();
            symlink(fs::canonicalize(images.join(name)).unwrap(), directory.path().join(name)).unwrap();
        }
        let paths = Paths::new(directory.path()).unwrap();
        let host = Host::open(paths).unwrap().with_supervisor_program(env!("CARGO_BIN_EXE_tci").into());
        TestHost { directory, host }
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

    pub(crate) fn row(&self, vm: &VmRecord) -> Option<VmRecord> {
        self.host.list().unwrap().into_iter().find(|row| row.id == vm.id)
    }

    /// What an operator could do with the sqlite3 shell.
    pub(crate) fn sql(&self, statement: &str) {
        let connection = Connection::open(self.host.paths().registry()).unwrap();
        connection.busy_timeout(LIMIT).unwrap();
        assert_eq!(connection.execute(statement, []).unwrap(), 1, "{statement}");
    }

    /// Pids of the processes that belong to this host: each names the host's directory in its arguments.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let needle = self.directory.path().as_os_str().as_bytes();
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let ours = line.windows(needle.len()).any(|window| window == needle);
            (ours && pid != std::process::id().cast_signed()).then_some(pid)
        });
        pids.collect()
    }

    /// Waits for something that has no event a test could wait for, for at most [`LIMIT`].
    pub(crate) async fn until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !happened() {
            assert!(Instant::now() < deadline, "{what} did not happen within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The leak audit: nothing runs, no socket is left, no row says otherwise.
    pub(crate) fn assert_clean(&self) {
        let deadline = Instant::now() + LIMIT;
        // A killed process is gone from /proc a moment after its end was reported.
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.processes(), Vec::<i32>::new(), "processes are left");
        let runtime = self.host.paths().runtime();
        let left: Vec<_> = fs::read_dir(runtime).map(|all| all.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "sockets are left: {left:?}");
        for row in self.host.list().unwrap() {
            assert!(!row.state.is_owned(), "row {} still says {}", row.id, row.state);
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // A test that fails in the middle leaves what it was working on; its own failure is what matters.
        if std::thread::panicking() {
            for pid in self.processes() {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        } else {
            self.assert_clean();
        }
        let _ = fs::remove_dir_all(self.host.paths().runtime());
    }
}
