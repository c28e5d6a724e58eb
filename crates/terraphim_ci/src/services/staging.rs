//! Where uploads are until they are complete: `uploads/<server>/<upload>/`. What a server that was killed left is removed
//! by the next one.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::entry;

/// The uploads of one server. Dropping it removes them.
pub(super) struct Staging {
    directory: PathBuf,
    /// Held for as long as the server lives: the kernel frees it however the server ends.
    _lock: File,
}

impl Staging {
    /// Makes room for the uploads of this server and removes what dead ones left.
    pub(super) fn open(services: &Path) -> io::Result<Staging> {
        let root = services.join("uploads");
        entry::make_directory(&root)?;
        // A directory whose owner has not locked it yet must not look like that of a dead one.
        let turn = File::create(root.join(".turn"))?;
        turn.lock()?;
        for directory in entry::directories(&root)? {
            if is_abandoned(&directory)? {
                fs::remove_dir_all(&directory)?;
            }
        }
        let directory = root.join(uuid::Uuid::new_v4().simple().to_string());
        entry::make_directory(&directory)?;
        let lock = File::create(directory.join(LOCK))?;
        lock.lock()?;
        Ok(Staging { directory, _lock: lock })
    }

    /// A directory for an upload.
    pub(super) fn make(&self, upload: &str) -> io::Result<PathBuf> {
        let directory = self.directory.join(upload);
        entry::make_directory(&directory)?;
        Ok(directory)
    }
}

const LOCK: &str = ".lock";

fn is_abandoned(directory: &Path) -> io::Result<bool> {
    let lock = match File::open(directory.join(LOCK)) {
        Ok(lock) => lock,
        // Its owner was killed before it came so far.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_servers_left_goes_and_what_living_ones_do_stays() {
        let services = tempfile::tempdir().unwrap();
        let uploads = services.path().join("uploads");
        let living = Staging::open(services.path()).unwrap();
        let upload = living.make("one").unwrap();
        let dead = uploads.join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let next = Staging::open(services.path()).unwrap();
        assert!(upload.exists() && !dead.exists());
        drop((living, next));
        assert!(entry::directories(&uploads).unwrap().is_empty());
    }
}
