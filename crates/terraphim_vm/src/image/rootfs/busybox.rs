//! A root file system of one program: every command is a link to busybox.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::Job;
use super::squash::squash;
use super::users::{HOSTNAME, HOSTS, RESOLV_CONF, RUNNER_ID};
use crate::image::apt::Apt;
use crate::image::builder::suite_source;
use crate::image::deb;
use crate::image::error::{ImageError, IoContext};
use crate::image::manifest::PackageVersion;
use crate::image::tool::Tool;

/// Directories with their permissions and owner, parents first.
const DIRECTORIES: [(&str, u32, u32); 19] = [
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 0),
    ("home/runner", 0o755, RUNNER_ID),
    ("mnt", 0o755, 0),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("sbin", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
    ("usr/sbin", 0o755, 0),
    ("var", 0o755, 0),
    ("var/log", 0o755, 0),
    ("var/tmp", 0o1777, 0),
    ("workspace", 0o755, RUNNER_ID),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nrunner:x:1001:1001:runner:/home/runner:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nrunner:x:1001:\nnogroup:x:65534:\n";

pub(super) fn build(job: &Job<'_>) -> Result<Vec<PackageVersion>, ImageError> {
    let apt = Apt::open(job.cache, &suite_source(job.recipe, &job.recipe.suite), job.progress)?;
    apt.update(job.refresh, job.progress)?;
    let package = apt.show("busybox-static")?;
    let file = apt.fetch(&package, job.progress)?;
    drop(apt);

    job.progress.stage("building the root file system");
    let busybox = deb::read_file(&file, "bin/busybox", "bin/busybox")
        .or_else(|_| deb::read_file(&file, "usr/bin/busybox", "busybox"))?;
    let applets = applets(job.work, &busybox)?;
    let tar = job.work.join("rootfs.tar");
    write_tar(&tar, &busybox, &applets).io("write", &tar)?;
    squash(super::open(&tar)?, job.target)?;
    Ok(vec![PackageVersion { name: package.name, version: package.version }])
}

/// The paths at which busybox wants to be linked, as it says itself.
fn applets(work: &Path, busybox: &[u8]) -> Result<Vec<PathBuf>, ImageError> {
    let content = work.join("busybox.content");
    fs::write(&content, busybox).io("write", &content)?;
    // The shell writes the program, because a process that one of our threads is just starting might for a moment hold open
    // what we write, and a program that is open for writing cannot be started.
    let list = Tool::new("sh", "dash", "listing the commands of busybox")
        .args(["-ec", "cat > busybox; chmod 755 busybox; exec ./busybox --list-full"])
        .directory(work)
        .stdin(super::open(&content)?)
        .text()?;
    Ok(list.lines().map(PathBuf::from).collect())
}

fn write_tar(path: &Path, busybox: &[u8], applets: &[PathBuf]) -> io::Result<()> {
    let mut tar = tar::Builder::new(fs::File::create_new(path)?);
    for (path, mode, owner) in DIRECTORIES {
        let mut header = header(EntryType::Directory, mode, owner);
        tar.append_data(&mut header, path, io::empty())?;
    }
    for (path, mode, major_minor) in [("dev/console", 0o600, (5, 1)), ("dev/null", 0o666, (1, 3))] {
        let mut header = header(EntryType::Char, mode, 0);
        header.set_device_major(major_minor.0)?;
        header.set_device_minor(major_minor.1)?;
        tar.append_data(&mut header, path, io::empty())?;
    }
    for (path, mode, content) in [
        ("bin/busybox", 0o755, busybox),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
        ("etc/hostname", 0o644, HOSTNAME.as_bytes()),
        ("etc/hosts", 0o644, HOSTS.as_bytes()),
        ("etc/resolv.conf", 0o644, RESOLV_CONF.as_bytes()),
    ] {
        let mut header = header(EntryType::Regular, mode, 0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content)?;
    }
    for applet in applets.iter().filter(|path| !path.ends_with("busybox")) {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, applet, "/bin/busybox")?;
    }
    tar.into_inner().map(drop)
}

fn header(kind: EntryType, mode: u32, owner: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_size(0);
    header.set_mtime(0);
    header
}
