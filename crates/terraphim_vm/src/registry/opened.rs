//! The registry as one process keeps it open.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Registry, RegistryError};

/// The connections of one process, each opened when it is first needed: to open one takes longer than to write through it.
/// A database that was moved away or replaced is opened anew.
#[derive(Debug)]
pub(crate) struct Opened {
    path: PathBuf,
    reader: Kept,
    writer: Kept,
}

/// A connection and the file that it is to. Std mutex: held while a database is opened, never across an await.
type Kept = Mutex<Option<(File, Arc<Registry>)>>;

/// Which file: device and inode, neither of which is used again while it is open.
type File = (u64, u64);

impl Opened {
    pub(crate) fn new(path: PathBuf) -> Opened {
        Opened { path, reader: Kept::default(), writer: Kept::default() }
    }

    /// As [`Registry::read_only`].
    pub(crate) fn reader(&self) -> Result<Arc<Registry>, RegistryError> {
        self.get(&self.reader, Registry::read_only)
    }

    /// As [`Registry::read_write`].
    pub(crate) fn writer(&self) -> Result<Arc<Registry>, RegistryError> {
        self.get(&self.writer, Registry::read_write)
    }

    fn get(
        &self,
        kept: &Kept,
        open: impl Fn(&Path) -> Result<Registry, RegistryError>,
    ) -> Result<Arc<Registry>, RegistryError> {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is opened: one that takes its place meanwhile is seen the next time.
        let file = self.file()?;
        if let Some((_, registry)) = kept.as_ref().filter(|(opened, _)| Some(*opened) == file) {
            return Ok(Arc::clone(registry));
        }
        let registry = Arc::new(open(&self.path)?);
        *kept = file.map(|file| (file, Arc::clone(&registry)));
        Ok(registry)
    }

    fn file(&self) -> Result<Option<File>, RegistryError> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RegistryError::Io { path: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VmId, VmSpec};

    #[test]
    fn a_database_is_opened_once_and_again_when_another_is_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vms.db");
        let opened = Opened::new(path);
        assert!(opened.reader().unwrap().list().unwrap().is_empty(), "there is none yet");
        let insert = |name| opened.writer().unwrap().insert(&VmId::random(), name, &VmSpec::default(), None);
        insert("one").unwrap();
        insert("two").unwrap();
        assert!(Arc::ptr_eq(&opened.writer().unwrap(), &opened.writer().unwrap()));
        assert!(Arc::ptr_eq(&opened.reader().unwrap(), &opened.reader().unwrap()));
        assert_eq!(opened.reader().unwrap().list().unwrap().len(), 2);
        let old = opened.reader().unwrap();
        for name in ["vms.db", "vms.db-wal", "vms.db-shm"] {
            fs::rename(dir.path().join(name), dir.path().join(format!("old-{name}"))).unwrap();
        }
        assert!(opened.reader().unwrap().list().unwrap().is_empty());
        insert("three").unwrap();
        assert_eq!((opened.reader().unwrap().list().unwrap().len(), old.list().unwrap().len()), (1, 2));
    }
}
