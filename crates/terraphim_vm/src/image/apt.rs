//! An apt of our own for one Debian suite: its lists, its packages, its keys; nothing of the host's suites.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::Duration;

use super::error::{ImageError, IoContext};
use super::files::Lock;
use super::progress::Progress;
use super::tool::{Tool, for_each_line};

/// Lists younger than this are used without asking the server: Debian changes a stable suite a few times a day at most,
/// and a build that needs nothing new must not wait for the network.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// How long old lists are used after servers could not be reached: apt takes seconds to find that out, more than once a build.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// Debian's public keys, from the package `debian-archive-keyring`.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The host's apt settings that say how to reach servers; the rest of its configuration is about its own suites.
const HOST_SETTINGS: [&str; 4] =
    ["Acquire::http::", "Acquire::https::", "Acquire::Check-Valid-Until ", "Acquire::ForceIPv4 "];

/// Where packages come from.
pub(super) struct Source<'a> {
    pub(super) suite: &'a str,
    pub(super) mirror: &'a str,
    pub(super) security_mirror: &'a str,
}

/// One package as its suite describes it.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) sha256: String,
    /// Names in its `Depends`, the first of each group of alternatives.
    pub(super) depends: Vec<String>,
}

/// The state of our apt for one source. It holds the lock of the cache.
pub(super) struct Apt {
    root: PathBuf,
    suite: String,
    lock: Lock,
}

impl Source<'_> {
    /// The lines of `sources.list`, for our apt and for the apt inside an image.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { suite, mirror, security_mirror } = self;
        let line = |url: &str, suite: &str| format!("deb [signed-by={KEYRING}] {url} {suite} main");
        let mut lines = vec![line(mirror, suite)];
        // Debian's development suite has neither updates nor security updates: it is both.
        if !["sid", "unstable"].contains(suite) {
            lines.push(line(mirror, &format!("{suite}-updates")));
            lines.push(line(security_mirror, &format!("{suite}-security")));
        }
        lines
    }
}

impl Apt {
    /// Opens, and makes if need be, the state for `source` below `cache`.
    pub(super) fn open(
        cache: &Path,
        source: &Source<'_>,
        progress: &dyn Progress,
    ) -> Result<Apt, ImageError> {
        let lock = Lock::take(&cache.join("lock"), progress)?;
        if !Path::new(KEYRING).exists() {
            return Err(ImageError::KeyringMissing);
        }
        let lines = source.lines().join("\n") + "\n";
        // Another mirror is another state: lists of two mirrors must not be mixed.
        let name = format!("{}-{}", source.suite, &super::Digest::of(lines.as_bytes()).to_string()[..8]);
        let root = cache.join("apt").join(name);
        for directory in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
            "var/cache/apt/archives/partial",
            "packages",
        ] {
            let path = root.join(directory);
            fs::create_dir_all(&path).io("create", &path)?;
        }
        let write = |name: &str, content: &str| {
            let path = root.join(name);
            // apt reads all lists again, for a second, when these files are younger than what it has made of them.
            match fs::read_to_string(&path) {
                Ok(old) if old == content => Ok(()),
                _ => fs::write(&path, content).io("write", &path),
            }
        };
        write("etc/apt/sources.list", &lines)?;
        write("var/lib/dpkg/status", "")?;
        let settings = configuration(&root)?;
        write("apt.conf", &settings)?;
        Ok(Apt { root, suite: source.suite.to_owned(), lock })
    }

    /// Fetches the package lists and checks their signatures, unless the ones we have are fresh and `force` is not set.
    pub(super) fn update(&self, force: bool, progress: &dyn Progress) -> Result<(), ImageError> {
        let (stamp, failed) = (self.root.join("updated"), self.root.join("unreachable"));
        let age = age(&stamp);
        let is_fresh =
            age.is_some_and(|age| age < FRESH) || self::age(&failed).is_some_and(|age| age < RETRY);
        if !force && is_fresh {
            return Ok(());
        }
        progress.stage(&format!("fetching the package lists of {}", self.suite));
        let update = self
            .tool("apt-get", "fetching package lists")
            .args(["-qq", "-o", "APT::Status-Fd=1", "-o", "APT::Update::Error-Mode=any", "update"])
            .read(|status| follow(status, progress));
        match (update, age) {
            (Ok(()), _) => fs::write(&stamp, "").io("write", &stamp),
            // Old lists are as authentic as new ones; a machine without network can still build.
            (Err(ImageError::ToolFailed { hint: super::Hint::Network, .. }), Some(age)) if !force => {
                progress.note(&format!(
                    "no package server can be reached: using the lists of {} from {} days ago",
                    self.suite,
                    age.as_secs() / (24 * 60 * 60)
                ));
                fs::write(&failed, "").io("write", &failed)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The newest version of a package.
    pub(super) fn show(&self, package: &str) -> Result<Package, ImageError> {
        let missing = || ImageError::NoPackage { suite: self.suite.clone(), package: package.to_owned() };
        // apt-cache ends with 100 for a package it does not know.
        let stanza = self
            .tool("apt-cache", "reading package lists")
            .args(["show", "--no-all-versions", package])
            .text()
            .map_err(|error| match error {
                ImageError::ToolFailed { status, .. } if status.code() == Some(100) => missing(),
                other => other,
            })?;
        Package::parse(&stanza).ok_or_else(missing)
    }

    /// The package's file, fetched if we do not have it; apt checks it against the signed lists.
    pub(super) fn fetch(&self, package: &Package, progress: &dyn Progress) -> Result<PathBuf, ImageError> {
        let Package { name, version, sha256, .. } = package;
        let wanted = self.root.join("packages").join(format!("{name}-{sha256}.deb"));
        if wanted.exists() {
            return Ok(wanted);
        }
        progress.stage(&format!("downloading {name}"));
        let packages = self.root.join("packages");
        let directory = tempfile::tempdir_in(&packages).io("create a directory in", &packages)?;
        self.tool("apt-get", "downloading a package")
            .args(["-qq", "-o", "APT::Status-Fd=1", "download", &format!("{name}={version}")])
            .directory(directory.path())
            .read(|status| follow(status, progress))?;
        let downloaded = super::files::entries(directory.path())?.pop();
        let Some(downloaded) = downloaded else {
            return Err(ImageError::NoPackage { suite: self.suite.clone(), package: name.clone() });
        };
        fs::rename(&downloaded, &wanted).io("rename", &downloaded)?;
        Ok(wanted)
    }

    /// Fetches `packages`, those they need, and those that every Debian system has. An interrupted download goes on
    /// where it ended.
    pub(super) fn fetch_system(
        &self,
        packages: &[String],
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        progress.stage(&format!("downloading packages of {}", self.suite));
        // Versions that the lists no longer have are of no use.
        self.tool("apt-get", "clearing old packages").args(["-qq", "autoclean"]).run()?;
        self.tool("apt-get", "downloading packages")
            .args([
                "-qq",
                "-y",
                "--no-install-recommends",
                "--download-only",
                "-o",
                "APT::Status-Fd=1",
                "install",
            ])
            .args(["?essential", "?priority(required)", "apt"])
            .args(packages)
            .read(|status| follow(status, progress))
    }

    /// Where [`Apt::fetch_system`] puts packages.
    pub(super) fn archives(&self) -> PathBuf {
        self.root.join("var/cache/apt/archives")
    }

    /// Where the package lists are.
    pub(super) fn lists(&self) -> PathBuf {
        self.root.join("var/lib/apt/lists")
    }

    fn tool(&self, program: &'static str, stage: &'static str) -> Tool {
        Tool::new(program, "apt", stage).env("APT_CONFIG", self.root.join("apt.conf")).holding(&self.lock)
    }
}

impl Package {
    fn parse(stanza: &str) -> Option<Package> {
        let field = |name: &str| {
            let value = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(str::to_owned)
        };
        let first_name = |group: &str| group.split_whitespace().next().map(str::to_owned);
        let depends = field("Depends").unwrap_or_default().split(',').filter_map(first_name).collect();
        Some(Package {
            name: field("Package")?,
            version: field("Version")?,
            sha256: field("SHA256")?,
            depends,
        })
    }
}

/// How long ago a file was written, if it is there. One from the future tells of a clock that was set back, and is as good
/// as new.
fn age(file: &Path) -> Option<Duration> {
    let written = fs::metadata(file).and_then(|file| file.modified()).ok()?;
    Some(written.elapsed().unwrap_or_default())
}

fn configuration(root: &Path) -> Result<String, ImageError> {
    let host = Tool::new("apt-config", "apt", "reading the configuration of apt").arg("dump").text()?;
    let kept = host.lines().filter(|line| HOST_SETTINGS.iter().any(|prefix| line.starts_with(prefix)));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    // Downloads run as the caller: apt's own user could not enter a directory in the caller's home.
    text += &format!(
        "Dir \"{root}\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nDir::Etc::netrc \"/etc/apt/auth.conf\";\n\
         APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"\";\n\
         APT::Install-Recommends \"false\";\nAPT::Get::Assume-Yes \"true\";\nAcquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n",
        root = root.display()
    );
    Ok(text)
}

/// Passes on what apt reports: lines `dlstatus:<number>:<percent>:<text>`.
fn follow(status: ChildStdout, progress: &dyn Progress) -> Result<(), ImageError> {
    let percent =
        |line: &str| -> Option<f64> { line.strip_prefix("dlstatus:")?.split(':').nth(1)?.parse().ok() };
    for_each_line(status, |line| {
        if let Some(percent) = percent(line) {
            progress.advance((percent / 100.0).clamp(0.0, 1.0));
        }
    })
    .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    .io("read the progress of", Path::new("apt-get"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_is_read() {
        let stanza = "Package: linux-image-cloud-amd64\nVersion: 6.1.1-1\nDepends: linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1), kmod | module-init-tools\nSHA256: abc\n";
        let package = Package::parse(stanza).unwrap();
        assert_eq!(package.depends, ["linux-image-6.1.0-1-cloud-amd64", "kmod"]);
        assert!(
            Package::parse("Package: x\nVersion: 1\n").is_none(),
            "a package without a hash cannot be checked"
        );
    }

    #[test]
    fn a_stable_suite_comes_with_its_security_updates() {
        let source =
            |suite| Source { suite, mirror: "http://m/debian", security_mirror: "http://s/security" };
        assert_eq!(source("sid").lines().len(), 1);
        let lines = source("trixie").lines();
        assert!(lines[2].ends_with("http://s/security trixie-security main"), "{lines:?}");
    }
}
