//! The file systems of the kernel.

use std::{
    ffi::CString,
    fs, io,
    os::fd::AsRawFd,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::{BootError, Step};

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Makes the mount point and mounts.
pub(super) fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let options = CString::new(options)?;
    Ok(mount(source, target, kind, flags, Some(options.as_c_str()))?)
}

/// What loading modules and finding disks needs, in the initial RAM disk.
pub(super) fn early() -> Result<(), BootError> {
    let essential = [
        ("proc", "/proc", "proc", PLAIN, ""),
        ("sysfs", "/sys", "sysfs", PLAIN, ""),
        ("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=755"),
    ];
    for (source, target, kind, flags, options) in essential {
        mount_at(source, target, kind, flags, options).step(|| format!("mount {target}"))?;
    }
    standard_streams().step(|| "open standard streams".to_owned())
}

/// Without a console the kernel starts PID 1 with no descriptors: the next files opened would be taken for them.
fn standard_streams() -> io::Result<()> {
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    let log = fs::File::options().write(true).open("/dev/kmsg")?;
    for (target, source) in [(0, &null), (1, &log), (2, &log)] {
        // SAFETY: replaces a standard stream, which nobody owns; `source` stays open meanwhile.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // Should they themselves have become standard streams, closing them would undo the above.
    for file in [null, log] {
        if file.as_raw_fd() <= 2 {
            std::mem::forget(file);
        }
    }
    Ok(())
}

/// What programs expect, in the new root.
pub(super) fn late(warnings: &mut Vec<String>) {
    let optional = [
        (
            "devpts",
            "/dev/pts",
            "devpts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            "gid=5,mode=620,ptmxmode=666",
        ),
        ("tmpfs", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777"),
        ("mqueue", "/dev/mqueue", "mqueue", PLAIN, ""),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", PLAIN, "nsdelegate"),
    ];
    for (source, target, kind, flags, options) in optional {
        if let Err(error) = mount_at(source, target, kind, flags, options) {
            warnings.push(format!("cannot mount {target}: {error}"));
        }
    }
    // udev makes these elsewhere; bash's `<(...)` needs the first.
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        if let Err(error) = symlink(target, link)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            warnings.push(format!("cannot make {link}: {error}"));
        }
    }
    for (path, mode) in [("/tmp", 0o1777), ("/dev/fuse", 0o666), ("/dev/net/tun", 0o666)] {
        if Path::new(path).exists()
            && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode))
        {
            warnings.push(format!("cannot set permissions of {path}: {error}"));
        }
    }
}

/// Before the power goes off: nothing may be half written on the scratch disk.
pub(super) fn detach_all() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let targets: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    // Last mounted, first unmounted; what is in use becomes read-only, which writes it out as well.
    for target in targets.into_iter().rev() {
        if unmount(target, UnmountFlags::NOFOLLOW).is_err() {
            let _ = mount_remount(target, MountFlags::RDONLY, c"");
        }
    }
}
