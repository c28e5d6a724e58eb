//! A tar stream below a directory, and nowhere else.
//!
//! The kernel resolves every parent directory relative to the target's descriptor and refuses to leave it, so neither
//! `..` nor a symbolic link, whether in the archive or already there, leads outside, also while others change the tree.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod,
        linkat, makedev, mkdirat, mknodat, open, openat, openat2, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

/// Large, because each write passes through an overlay.
const COPY_SIZE: usize = 256 * 1024;
const NAME_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// Where and how entries are written.
struct Target {
    root: OwnedFd,
    resolve: ResolveFlags,
    owner: Option<(u32, u32)>,
    /// Only root gives files away.
    is_root: bool,
}

/// What is to be set on an entry once it is there.
struct Attributes {
    owner: Option<(u32, u32)>,
    mode: Mode,
    modified: Timespec,
}

/// Unpacks everything, made when missing, into `directory`.
pub(super) fn unpack(stream: impl Read, directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    if fs::symlink_metadata(directory).is_err() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        if let Some((uid, gid)) = owner.filter(|_| is_root) {
            std::os::unix::fs::chown(directory, Some(uid), Some(gid))?;
        }
    }
    let root = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Nothing is outside the root directory, and absolute links within it are common (`/var/run`).
    let resolve = if directory == Path::new("/") { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
    let target = Target { root, resolve: resolve | ResolveFlags::NO_MAGICLINKS, owner, is_root };
    let mut directories = Vec::new();
    let mut archive = Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let described =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        target.entry(&mut entry, &path, &mut directories).map_err(described)?;
    }
    // After everything below them is written: a directory may be read-only, and writing changes its time.
    for (path, attributes) in directories.iter().rev() {
        target.finish_directory(path, attributes)?;
    }
    // The sender's trailing padding is part of the body.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// The path without `.` and a leading `/`; `..` is refused.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the name contains `..`"));
            }
        }
    }
    Ok(clean)
}

impl Target {
    fn entry<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        path: &Path,
        directories: &mut Vec<(PathBuf, Attributes)>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        // `git archive` puts the commit's id here.
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let clean = relative(path)?;
        let attributes = self.attributes(entry)?;
        let Some(name) = clean.file_name() else {
            // The directory itself keeps what it has.
            return if kind.is_dir() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) };
        };
        let parent = self.directory(clean.parent().unwrap_or(Path::new("")))?;
        let parent = parent.as_fd();
        if kind.is_dir() {
            make_directory(parent, name)?;
            directories.push((clean.clone(), attributes));
            return Ok(());
        }
        remove(parent, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return write_file(parent, name, entry, &attributes);
            }
            EntryType::Symlink => symlinkat(link_name(entry)?, parent, name)?,
            EntryType::Link => {
                let first = relative(&link_name(entry)?)?;
                let source = self.directory(first.parent().unwrap_or(Path::new("")))?;
                let first = first.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                // Its attributes are those of the first name.
                return Ok(linkat(&source, first, parent, name, AtFlags::empty())?);
            }
            EntryType::Fifo => mknodat(parent, name, FileType::Fifo, attributes.mode, 0)?,
            EntryType::Char | EntryType::Block => make_device(parent, name, entry, attributes.mode)?,
            other => return Err(io::Error::other(format!("entries of type {other:?} are not supported"))),
        }
        attributes.set_by_name(parent, name, kind == EntryType::Symlink)
    }

    fn attributes<R: Read>(&self, entry: &Entry<'_, R>) -> io::Result<Attributes> {
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner's number is too large"));
        let raw = header.as_old();
        let owner = match self.owner {
            Some(owner) => owner,
            None => (id(number(&raw.uid, header.uid())?)?, id(number(&raw.gid, header.gid())?)?),
        };
        let seconds = number(&raw.mtime, header.mtime())?;
        let seconds = i64::try_from(seconds).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Attributes {
            owner: self.is_root.then_some(owner),
            mode: Mode::from_raw_mode(header.mode()? & 0o7777),
            modified: Timespec { tv_sec: seconds, tv_nsec: 0 },
        })
    }

    /// Opens a directory below the root, making those that are missing.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match openat2(&self.root, path, flags, Mode::empty(), self.resolve) {
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => return Err(outside()),
            other => return Ok(other?),
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        make_directory(parent.as_fd(), name)?;
        if let Some((uid, gid)) = self.owner.filter(|_| self.is_root) {
            chownat(&parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), NAME_FLAGS)?;
        }
        Ok(openat2(&self.root, path, flags, Mode::empty(), self.resolve)?)
    }

    fn finish_directory(&self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let directory = openat2(
            &self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            self.resolve,
        );
        match directory {
            Ok(directory) => attributes.set(&directory),
            // A later entry of the archive replaced it.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A blank field is zero, as for tar(1): some writers leave out what they do not know.
fn number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { parsed }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "it is outside of the directory")
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> io::Result<PathBuf> {
    let name = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link has no target"))?;
    Ok(PathBuf::from(OsStr::from_bytes(&name)))
}

/// Makes a directory, or leaves the one that is there (or that a link there leads to).
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(parent, name, NAME_FLAGS)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory | FileType::Symlink => Ok(()),
                _ => {
                    unlinkat(parent, name, AtFlags::empty())?;
                    Ok(mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
                }
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Makes room for an entry. A directory is only replaced when it is empty.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
        Err(errno) => Err(errno.into()),
    }
}

fn write_file(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    content: &mut impl Read,
    attributes: &Attributes,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
    let mut buffer = vec![0; COPY_SIZE];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            count => file.write_all(&buffer[..count])?,
        }
    }
    attributes.set(&file.into())
}

fn make_device<R: Read>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry<'_, R>,
    mode: Mode,
) -> io::Result<()> {
    let header = entry.header();
    let number = |number: Option<u32>| number.ok_or_else(|| io::Error::other("a device has no number"));
    let device = makedev(number(header.device_major()?)?, number(header.device_minor()?)?);
    let kind = if header.entry_type() == EntryType::Char {
        FileType::CharacterDevice
    } else {
        FileType::BlockDevice
    };
    Ok(mknodat(parent, name, kind, mode, device)?)
}

impl Attributes {
    fn times(&self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }

    /// The owner first: changing it clears the set-user-id bit.
    fn set(&self, file: &OwnedFd) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fchmod(file, self.mode)?;
        Ok(rustix::fs::futimens(file, &self.times())?)
    }

    /// For what cannot be opened without side effects.
    fn set_by_name(&self, parent: BorrowedFd<'_>, name: &OsStr, is_link: bool) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), NAME_FLAGS)?;
        }
        if !is_link {
            rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())?;
        }
        Ok(utimensat(parent, name, &self.times(), NAME_FLAGS)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        assert_eq!(relative(Path::new("/./a//b/.")).unwrap(), Path::new("a/b"));
        assert!(relative(Path::new("a/../b")).is_err());
    }
}
