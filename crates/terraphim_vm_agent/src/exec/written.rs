//! `write_files`: small files that a process finds when it starts.
//!
//! Every step of a job finds five empty ones, which are to be returned and which most steps leave as they are. An emulated
//! guest feels every call: their directory is looked up once, and what nobody touched is not opened again.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};
use terraphim_vm_protocol::message::{ExecFailed, ExecFailure, ExecRequest, FileWrite};

use super::failed;
use crate::{users::User, worker::Seat};

/// The permission to read of the one who a file is written for.
const OWNER_READS: u32 = 0o400;

/// The files that are to be returned, when each of them was written empty, and all into one directory.
pub(super) struct Blank {
    directory: OwnedFd,
    files: Vec<(String, Stat)>,
}

impl Blank {
    /// Whether they all are what was written, still empty, and with the permissions that they were given.
    pub(super) fn is_untouched(&self) -> bool {
        self.files.iter().all(|(name, written)| {
            let now = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let essence = |of: &Stat| (of.st_dev, of.st_ino, of.st_size, of.st_mode, of.st_uid, of.st_gid);
            now.is_ok_and(|now| essence(&now) == essence(written))
        })
    }
}

/// Writes the files of a request as `user`.
pub(super) fn write_files(
    seat: &mut Seat,
    user: &User,
    request: &ExecRequest,
) -> Result<Option<Blank>, ExecFailed> {
    if request.write_files.is_empty() {
        return Ok(None);
    }
    let written = seat
        .act_as(user)
        .map_err(|error| format!("cannot act as user `{}`: {error}", user.name))
        .and_then(|()| seat.without_mask(|mask| write_all(request, mask)));
    seat.act_as_root()
        .map_err(|error| failed(ExecFailure::Resources, format!("cannot act as root: {error}")))?;
    written.map_err(|message| failed(ExecFailure::WriteFile, message))
}

fn write_all(request: &ExecRequest, mask: u32) -> Result<Option<Blank>, String> {
    let mut directory: Option<Directory> = None;
    let mut blank = Vec::new();
    for file in &request.write_files {
        let path = Path::new(&file.path);
        let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
            return Err(format!("cannot write {}: it is not an absolute path of a file", file.path));
        };
        let mut write = || {
            if directory.as_ref().is_none_or(|directory| directory.path != parent) {
                // Files of another directory are of no interest: they are not where those to return are.
                blank.clear();
                directory = Some(Directory::open(parent)?);
            }
            let directory = directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let target = write_file(directory, name, file, mask)?;
            let is_blank = file.content.is_empty() && file.mode & OWNER_READS != 0;
            if is_blank && request.return_files.contains(&file.path) {
                blank.push((name.to_string_lossy().into_owned(), fstat(target)?));
            }
            Ok(())
        };
        write().map_err(|error: io::Error| format!("cannot write {}: {error}", file.path))?;
    }
    let all_are_blank = !blank.is_empty() && blank.len() == request.return_files.len();
    Ok(directory.filter(|_| all_are_blank).map(|directory| Blank { directory: directory.file, files: blank }))
}

/// A directory that was looked up.
struct Directory {
    path: PathBuf,
    file: OwnedFd,
}

impl Directory {
    /// Missing ones are made.
    fn open(path: &Path) -> io::Result<Directory> {
        let open = || openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let file = match open() {
            Err(Errno::NOENT) => {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
                open()?
            }
            opened => opened?,
        };
        Ok(Directory { path: path.to_owned(), file })
    }
}

/// A new file has its permissions from the start unless the thread's mask may take some away.
fn write_file(directory: &Directory, name: &OsStr, file: &FileWrite, mask: u32) -> io::Result<File> {
    let mode = file.mode & 0o7777;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let new = openat(&directory.file, name, flags | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(mode));
    let (target, is_right) = match new {
        Err(Errno::EXIST) => (openat(&directory.file, name, flags | OFlags::TRUNC, Mode::empty())?, false),
        created => (created?, mode & mask == 0),
    };
    let mut target = File::from(target);
    if !is_right {
        target.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    if !file.content.is_empty() {
        target.write_all(file.content.as_bytes())?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(directory: &Path, contents: &[&str]) -> ExecRequest {
        let path = |index| directory.join(format!("new/{index}")).to_str().unwrap().to_owned();
        let file = |(index, content): (usize, &&str)| FileWrite {
            path: path(index),
            content: (*content).to_owned(),
            mode: 0o644,
        };
        let write_files: Vec<FileWrite> = contents.iter().enumerate().map(file).collect();
        let return_files = write_files.iter().map(|file| file.path.clone()).collect();
        ExecRequest { write_files, return_files, ..ExecRequest::default() }
    }

    #[test]
    fn empty_files_are_untouched_until_something_happens_to_one() {
        type Touch = fn(&Path);
        let touches: [(Touch, &str); 8] = [
            (|file| fs::write(file, "x").unwrap(), "written"),
            (|file| fs::remove_file(file).unwrap(), "removed"),
            (|file| fs::rename(file.with_file_name("other"), file).unwrap(), "replaced"),
            (
                |file| {
                    fs::rename(file, file.with_file_name("moved")).unwrap();
                    fs::write(file, "").unwrap();
                },
                "moved",
            ),
            (|file| fs::rename(file.with_file_name("1"), file).unwrap(), "replaced by another of them"),
            (|file| fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap(), "unreadable"),
            (
                |file| {
                    fs::remove_file(file).unwrap();
                    std::os::unix::fs::symlink("1", file).unwrap();
                },
                "a link",
            ),
            (
                |file| {
                    fs::remove_file(file).unwrap();
                    fs::create_dir(file).unwrap();
                },
                "a directory",
            ),
        ];
        for (touch, what) in touches {
            let dir = tempfile::tempdir().unwrap();
            let blank = write_all(&request(dir.path(), &["", ""]), 0o777).unwrap().unwrap();
            fs::write(dir.path().join("new/other"), "").unwrap();
            assert!(blank.is_untouched());
            touch(&dir.path().join("new/0"));
            assert!(!blank.is_untouched(), "{what}");
        }
    }

    #[test]
    fn files_with_content_or_in_several_directories_are_looked_at_anyway() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_all(&request(dir.path(), &["", "x"]), 0).unwrap().is_none());
        assert_eq!(fs::read(dir.path().join("new/1")).unwrap(), b"x");
        let mut apart = request(&dir.path().join("a"), &[""]);
        let other = request(&dir.path().join("b"), &[""]);
        apart.write_files.extend(other.write_files);
        apart.return_files.extend(other.return_files);
        assert!(write_all(&apart, 0).unwrap().is_none());
        let mut unreadable = request(dir.path(), &[""]);
        unreadable.write_files[0].mode = 0o200;
        assert!(write_all(&unreadable, 0).unwrap().is_none());
        let mut unwritten = request(dir.path(), &[""]);
        unwritten.return_files.push("/etc/passwd".to_owned());
        assert!(write_all(&unwritten, 0).unwrap().is_none());
    }

    #[test]
    fn an_existing_file_is_emptied_and_gets_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let mut again = request(dir.path(), &["long"]);
        write_all(&again, 0).unwrap();
        again.write_files[0].content = String::new();
        again.write_files[0].mode = 0o600;
        assert!(write_all(&again, 0).unwrap().unwrap().is_untouched());
        let found = fs::metadata(&again.write_files[0].path).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o7777), (0, 0o600));
    }

    #[test]
    fn a_path_that_names_no_file_is_refused() {
        for path in ["relative", "/", "/tmp/..", ""] {
            let file = FileWrite { path: path.to_owned(), content: String::new(), mode: 0o644 };
            let request = ExecRequest { write_files: vec![file], ..ExecRequest::default() };
            let message = write_all(&request, 0).err().unwrap();
            assert!(message.contains("not an absolute path"), "{message}");
        }
    }
}
