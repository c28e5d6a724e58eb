//! A home, a data directory and a configuration of its own for every test; nothing may be left of them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A user of `tci` on a machine of their own.
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
    pub(crate) fn new() -> World {
        let directory = tempfile::Builder::new().prefix("tci-cli-").tempdir().unwrap();
        for name in ["home", "repo", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        World { directory }
    }

    /// A world whose repository is one for git, with this workflow.
    pub(crate) fn with_workflow(text: &str) -> World {
        let world = World::new();
        world.git(&["init", "-q", "-b", "main", "."]);
        world.write(".github/workflows/ci.yml", text);
        world
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.directory.path().join("repo")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Writes a file below the repository.
    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.repo().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn git(&self, args: &[&str]) {
        let output = self.hermetic("git").args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `tci` in the repository, with nothing of the environment of the tests.
    pub(crate) fn tci(&self) -> Command {
        self.hermetic(env!("CARGO_BIN_EXE_tci"))
    }

    fn hermetic(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.directory.path().join("run"))
            .env("TCI_DATA_DIR", self.data())
            .env("TZ", "UTC")
            .envs(["AUTHOR", "COMMITTER"].iter().flat_map(|who| {
                [(format!("GIT_{who}_NAME"), "n"), (format!("GIT_{who}_EMAIL"), "n@example.org")]
            }))
            .current_dir(self.repo())
            .stdin(Stdio::null());
        command
    }

    /// Runs `tci` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::of(&self.tci().args(args).output().unwrap())
    }

    fn mentions_us(&self, cmdline: &[u8]) -> bool {
        let path: &OsStr = self.directory.path().as_os_str();
        cmdline.windows(path.len()).any(|part| part == path.as_bytes())
    }

    /// What is still there that belongs to this world.
    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if self.mentions_us(&cmdline) {
                left.push(format!("process {}", String::from_utf8_lossy(&cmdline).replace('\0', " ")));
            }
        }
        left.extend(names(&self.data().join("vms")).map(|vm| format!("VM {vm}")));
        for host in fs::read_dir(self.directory.path().join("run/tci")).into_iter().flatten().flatten() {
            left.extend(names(&host.path()).map(|socket| format!("socket directory {socket}")));
        }
        left
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

impl Drop for World {
    fn drop(&mut self) {
        let left = self.leftovers();
        // A test that failed has its own message.
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {left:#?}");
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended so, and standard error has all of `words`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        assert_eq!(self.stdout, "", "a failure prints no data");
    }

    /// It succeeded, and standard output has all of `words`.
    #[track_caller]
    pub(crate) fn prints(&self, words: &[&str]) {
        assert_eq!(self.code, 0, "{self:#?}");
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in {self:#?}");
        }
    }
}
