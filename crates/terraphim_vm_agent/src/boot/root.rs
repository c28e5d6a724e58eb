//! The root file system: the image's read-only disk below, the VM's scratch disk above.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt},
    path::Path,
};

use rustix::{
    mount::{MountFlags, mount_bind, mount_move},
    process::{chdir, chroot},
};
use terraphim_vm_protocol::message::SCRATCH;

use super::{BootError, Step, Uevents, cmdline::CommandLine, mounts::mount_at};

/// The driver names the disks in the order in which the hypervisor has them.
const BASE: &str = "/dev/vda";
const WRITABLE: &str = "/dev/vdb";
const NEW_ROOT: &str = "/newroot";

/// Mounts the new root, moves into it, and offers the rest of the scratch disk at [`SCRATCH`].
pub(super) fn switch(
    line: &CommandLine,
    uevents: &Uevents,
    warnings: &mut Vec<String>,
) -> Result<(), BootError> {
    uevents.wait_for(BASE, || Ok(is_block_device(BASE).then_some(()))).step(|| format!("find {BASE}"))?;
    let format = line.rootfs.name();
    mount_at(BASE, "/lower", format, MountFlags::RDONLY, "").step(|| format!("mount {BASE} as {format}"))?;
    mount_writable(warnings)?;
    for directory in ["/rw/root", "/rw/work", "/rw/scratch"] {
        fs::create_dir_all(directory).step(|| format!("make {directory}"))?;
    }
    // Without `volatile`: it would refuse the disk of a VM that was not shut down in good order.
    let options = "lowerdir=/lower,upperdir=/rw/root,workdir=/rw/work";
    mount_at("overlay", NEW_ROOT, "overlay", MountFlags::empty(), options)
        .step(|| "mount the root".to_owned())?;
    let run = format!("{NEW_ROOT}/run");
    mount_at("tmpfs", &run, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=755")
        .step(|| "mount /run".to_owned())?;
    expose_scratch().step(|| format!("offer the scratch disk at {SCRATCH}"))?;
    for directory in ["/proc", "/sys", "/dev"] {
        let target = format!("{NEW_ROOT}{directory}");
        fs::create_dir_all(&target).step(|| format!("make {directory}"))?;
        mount_move(directory, &target).step(|| format!("move {directory}"))?;
    }
    enter().step(|| "enter the root".to_owned())
}

fn is_block_device(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Both disks are there once the first is: the driver finds them all while it is loaded.
fn mount_writable(warnings: &mut Vec<String>) -> Result<(), BootError> {
    if is_block_device(WRITABLE) {
        // Discards tell the host which blocks of its sparse file it may free.
        let flags = MountFlags::NOATIME;
        return mount_at(WRITABLE, "/rw", "ext4", flags, "discard").step(|| format!("mount {WRITABLE}"));
    }
    warnings.push(format!("there is no {WRITABLE}: what is written stays in memory"));
    mount_at("tmpfs", "/rw", "tmpfs", MountFlags::empty(), "mode=755").step(|| "mount /rw".to_owned())
}

/// Only root may pass: a job reaches its part through its view.
fn expose_scratch() -> io::Result<()> {
    let target = format!("{NEW_ROOT}{SCRATCH}");
    let parent = Path::new(&target).parent().unwrap_or(Path::new(NEW_ROOT));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    fs::create_dir(&target)?;
    Ok(mount_bind("/rw/scratch", &target)?)
}

/// The initial RAM disk is the file system that `pivot_root` cannot leave, so the new root is put over it.
fn enter() -> io::Result<()> {
    chdir(NEW_ROOT)?;
    mount_move(".", "/")?;
    chroot(".")?;
    Ok(chdir("/")?)
}
