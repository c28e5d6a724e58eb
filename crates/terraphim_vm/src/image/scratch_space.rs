//! Where mmdebstrap unpacks a system, and in whose name.
//!
//! Root unpacks as root. An ordinary user unpacks in a user namespace in which a range of subordinate user ids stands for
//! the users of the new system. Those ids are strangers to the user's own directories, which are usually closed to strangers:
//! then the unpacking happens below `/var/tmp`, in a directory of fixed name so that the next build finds what a killed one left.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Digest;
use super::error::{ImageError, IoContext};
use super::files;
use super::tool::Tool;

/// A place to unpack a system. The caller holds the lock of the store that builds.
#[derive(Debug)]
pub(super) struct ScratchSpace {
    path: PathBuf,
    is_root: bool,
}

impl ScratchSpace {
    /// Prepares a place for a build that works in `work`.
    pub(super) fn prepare(work: &Path) -> Result<ScratchSpace, ImageError> {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Ok(ScratchSpace { path: work.to_owned(), is_root: true });
        }
        require_subordinate_ids(uid.as_raw())?;
        let path = if work.ancestors().all(is_open_to_strangers) {
            work.to_owned()
        } else {
            let store = work.parent().unwrap_or(work);
            files::require_space(Path::new("/var/tmp"), 1024)?;
            let name = &Digest::of(store.as_os_str().as_encoded_bytes()).to_string()[..16];
            private_directory(Path::new("/var/tmp").join(format!("tci-image-{name}")), uid.as_raw())?
        };
        let space = ScratchSpace { path, is_root: false };
        Ok(space)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether root unpacks.
    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    /// Removes what mmdebstrap left, if it could not do so itself.
    pub(super) fn clear(&self) -> Result<(), ImageError> {
        if self.path.starts_with("/var/tmp") { remove_tree(&self.path) } else { Ok(()) }
    }
}

/// Removes a tree that may hold files of subordinate users, which only a user namespace may remove.
pub(super) fn remove_tree(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // It cannot remove what is our own, says so, and leaves that to us; hence its result does not matter.
            let _ = Tool::new("mmdebstrap", "mmdebstrap", "clearing up")
                .args(["--unshare-helper", "rm", "-rf"])
                .args(files::entries(path)?)
                .run();
            fs::remove_dir_all(path).io("remove", path)
        }
        result => result.io("remove", path),
    }
}

fn is_open_to_strangers(directory: &Path) -> bool {
    // The last ancestor of a relative path is empty; stores have absolute paths.
    fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

fn private_directory(path: PathBuf, uid: u32) -> Result<PathBuf, ImageError> {
    match path.symlink_metadata() {
        // Anybody may make directories in /var/tmp: only our own is used.
        Ok(metadata) if metadata.is_dir() && metadata.uid() == uid => remove_tree(&path)?,
        Ok(_) => return Err(ImageError::ForeignDirectory { path }),
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o711).create(&path).io("create", &path)?;
    Ok(path)
}

/// Fails unless the user has ranges of subordinate ids. Format: subuid(5).
fn require_subordinate_ids(uid: u32) -> Result<(), ImageError> {
    let name = Tool::new("id", "coreutils", "asking for the user's name").arg("-un").text()?;
    let (name, number) = (name.trim(), uid.to_string());
    for file in ["/etc/subuid", "/etc/subgid"] {
        // A missing file is a file without ranges.
        let text = fs::read_to_string(file).unwrap_or_default();
        let owner = |line: &str| line.split(':').next().is_some_and(|owner| owner == name || owner == number);
        if !text.lines().any(owner) {
            return Err(ImageError::NoSubordinateIds { uid });
        }
    }
    Ok(())
}
