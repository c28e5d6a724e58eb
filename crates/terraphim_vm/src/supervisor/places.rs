//! Where executions keep what they write: a file each for the frames, and a line in one file for what was asked.
//!
//! A new file takes a file system milliseconds when many were removed a moment ago (ext4 does not use the inodes of the
//! last seconds again), and who asks for an execution waits for that. So the file of the next one is made while the guest
//! is busy with this one, and then only gets its name.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::files::own_directory;
use crate::{VmError, error::IoContext as _, past::ExecutionNote};

/// No execution has such an id.
const NEXT: &str = ".next";

/// The places of one VM's executions.
#[derive(Clone, Debug)]
pub(super) struct Places {
    directory: PathBuf,
    // Std mutexes: held for an exchange of values or one write, never across an await.
    /// The open file of the next one.
    next: Arc<Mutex<Option<File>>>,
    notes: Arc<Mutex<Notes>>,
}

/// One line for each execution, the whole ones first.
#[derive(Debug)]
struct Notes {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Places {
    pub(super) fn open(directory: PathBuf) -> Result<Places, VmError> {
        own_directory(&directory)?;
        let notes = Notes::open(directory.join(ExecutionNote::FILE))?;
        Ok(Places { directory, next: Arc::default(), notes: Arc::new(Mutex::new(notes)) })
    }

    /// Makes the place of the next execution. What goes wrong is left to that one: it makes what is missing, and says why
    /// it cannot.
    pub(super) fn prepare(&self) {
        let path = self.directory.join(NEXT);
        match open(&path, false) {
            Ok(file) => *self.lock_next() = Some(file),
            Err(error) => tracing::debug!("cannot prepare {}: {error}", path.display()),
        }
    }

    /// The place of the execution `id`, where its output goes; what it is has been noted down.
    ///
    /// # Errors
    /// It was used before, or cannot be made.
    pub(super) fn take(&self, id: &str, note: &ExecutionNote) -> Result<(PathBuf, File), VmError> {
        let place = self.directory.join(id);
        let named = renameat_with(CWD, self.directory.join(NEXT), CWD, &place, RenameFlags::NOREPLACE);
        let file = match (named, self.lock_next().take()) {
            (Ok(()), Some(file)) => file,
            // An earlier supervisor prepared it.
            (Ok(()), None) => open(&place, false).io("create", &place)?,
            // None is prepared, or the id was used before: then this fails too.
            (Err(_), _) => open(&place, true).io("create", &place)?,
        };
        if let Err(error) = self.notes.lock().unwrap_or_else(PoisonError::into_inner).add(note) {
            // It will not begin, so there is nothing to list.
            let _ = fs::remove_file(&place);
            return Err(error);
        }
        Ok((place, file))
    }

    fn lock_next(&self) -> MutexGuard<'_, Option<File>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn open(path: PathBuf) -> Result<Notes, VmError> {
        let file = open(&path, false).io("create", &path)?;
        let length = file.metadata().io("read", &path)?.len();
        let mut notes = Notes { path, file, length };
        // The last line of a supervisor that was killed may lack its end: the next one starts on a line of its own.
        if length > 0 {
            notes.write(b"\n")?;
        }
        Ok(notes)
    }

    fn add(&mut self, note: &ExecutionNote) -> Result<(), VmError> {
        let mut line = serde_json::to_vec(note).expect("plain data is JSON");
        line.push(b'\n');
        self.write(&line)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), VmError> {
        // What a full disk cut off is written over by the next one.
        self.file.write_all_at(bytes, self.length).io("write", &self.path)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Unless it must be new, a file that is there already is as good as a new one.
fn open(path: &Path, is_new: bool) -> io::Result<File> {
    File::options().read(true).write(true).create(true).create_new(is_new).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn note(id: &str) -> ExecutionNote {
        ExecutionNote { id: id.to_owned(), argv: vec!["x\n\"y\"".to_owned()], started_at_ms: 1 }
    }

    fn noted(directory: &Path) -> Vec<String> {
        let mut ids: Vec<String> = ExecutionNote::read_all(directory).unwrap().into_keys().collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_prepared_place_is_used_once_and_a_used_id_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("exec");
        let places = Places::open(directory.clone()).unwrap();
        places.prepare();
        places.prepare();
        let next = directory.join(NEXT);
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let prepared = inode(&next);
        let (first, mut file) = places.take("aa", &note("aa")).unwrap();
        file.write_all(b"first").unwrap();
        assert_eq!((inode(&first), fs::read(&first).unwrap()), (prepared, b"first".to_vec()));
        assert!(!next.exists());
        let (second, _) = places.take("bb", &note("bb")).unwrap();
        assert!(second.exists());
        for used in ["aa", "bb"] {
            places.prepare();
            let refused = places.take(used, &note(used)).unwrap_err();
            let is_used = |source: &io::Error| source.kind() == io::ErrorKind::AlreadyExists;
            assert!(matches!(&refused, VmError::Io { source, .. } if is_used(source)), "{refused:?}");
            assert_eq!(fs::read(&first).unwrap(), b"first");
        }
        assert_eq!(noted(&directory), ["aa", "bb"]);
    }

    #[test]
    fn a_killed_supervisor_leaves_nothing_that_stops_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("exec");
        Places::open(directory.clone()).unwrap().take("aa", &note("aa")).unwrap();
        let notes = directory.join(ExecutionNote::FILE);
        let mut torn = fs::read(&notes).unwrap();
        torn.extend_from_slice(br#"{"id":"bb","ar"#);
        fs::write(&notes, torn).unwrap();
        fs::write(directory.join(NEXT), "").unwrap();
        let places = Places::open(directory.clone()).unwrap();
        places.prepare();
        places.take("cc", &note("cc")).unwrap();
        assert_eq!(noted(&directory), ["aa", "cc"]);
    }
}
