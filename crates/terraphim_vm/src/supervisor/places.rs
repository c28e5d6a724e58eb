//! Where executions keep what they write: a directory each, made before it is needed.
//!
//! A new file takes a file system milliseconds when many were removed a moment ago (ext4 does not use the inodes of the
//! last seconds again), and who asks for an execution waits for that. So the directory of the next one is made while the
//! guest is busy with this one, and then only gets its name.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{VmError, error::IoContext as _, past::ExecutionNote};

/// No execution has such an id.
const NEXT: &str = ".next";
const OUTPUT: &str = "output";

/// The places of one VM's executions.
#[derive(Clone, Debug)]
pub(super) struct Places {
    directory: PathBuf,
}

impl Places {
    pub(super) fn open(directory: PathBuf) -> Result<Places, VmError> {
        crate::make_private_directory(&directory).io("create", &directory)?;
        Ok(Places { directory })
    }

    /// Makes the place of the next execution. What goes wrong is left to that one: it makes what is missing, and says why
    /// it cannot.
    pub(super) fn prepare(&self) {
        let next = self.directory.join(NEXT);
        let made = match fs::create_dir(&next) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        let files = [OUTPUT, ExecutionNote::NAME].map(|name| next.join(name));
        if let Err(error) = made.and_then(|()| files.iter().try_for_each(|file| create(file).map(drop))) {
            tracing::debug!("cannot prepare {}: {error}", next.display());
        }
    }

    /// The place of the execution `id`: its directory, and where its output goes.
    ///
    /// # Errors
    /// It was used before, or cannot be made.
    pub(super) fn take(&self, id: &str) -> Result<(PathBuf, File), VmError> {
        let place = self.directory.join(id);
        let named = renameat_with(CWD, self.directory.join(NEXT), CWD, &place, RenameFlags::NOREPLACE);
        if named.is_err() {
            // None is prepared, or the id was used before: then this fails too.
            fs::create_dir(&place).io("create", &place)?;
        }
        let output = place.join(OUTPUT);
        let file = create(&output).io("create", &output)?;
        Ok((place, file))
    }
}

/// A file that is there already is as empty as a new one.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_place_is_used_once_and_a_used_id_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path().join("exec")).unwrap();
        places.prepare();
        places.prepare();
        let next = dir.path().join("exec").join(NEXT);
        let prepared = fs::metadata(next.join(OUTPUT)).unwrap();
        let (first, _) = places.take("aa").unwrap();
        let inode = |meta: &fs::Metadata| std::os::unix::fs::MetadataExt::ino(meta);
        assert_eq!(inode(&fs::metadata(first.join(OUTPUT)).unwrap()), inode(&prepared));
        assert!(!next.exists());
        let (second, _) = places.take("bb").unwrap();
        assert!(second.join(OUTPUT).exists());
        places.prepare();
        for used in ["aa", "bb"] {
            let refused = places.take(used).unwrap_err();
            let is_used = |source: &io::Error| source.kind() == io::ErrorKind::AlreadyExists;
            assert!(matches!(&refused, VmError::Io { source, .. } if is_used(source)), "{refused:?}");
        }
        assert!(next.exists());
    }

    #[test]
    fn a_place_that_a_killed_supervisor_had_half_made_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path().join("exec")).unwrap();
        fs::create_dir(dir.path().join("exec").join(NEXT)).unwrap();
        let (place, _) = places.take("aa").unwrap();
        assert!(place.join(OUTPUT).exists());
    }
}
