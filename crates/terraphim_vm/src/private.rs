//! Directories and files that only their owner may look into: a VM's disk, its output and the secrets of a server lie there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Makes a directory with mode 0700 and those above it that are missing, whatever the umask is. One that exists is left
/// as it is: its mode was somebody's choice.
///
/// # Errors
/// The file system refuses, or something else has the name.
pub fn make_private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        // The umask may have taken even the owner's rights away.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes an empty file with mode 0600 unless there is one. SQLite gives a database's mode to the files beside it.
///
/// # Errors
/// The file system refuses.
pub fn make_private_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => File::set_permissions(&file, Permissions::from_mode(0o600)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_private_and_what_exists_is_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let deep = dir.path().join("a/b");
        make_private_directory(&deep).unwrap();
        make_private_directory(&deep).unwrap();
        assert_eq!([mode(dir.path()), mode(&dir.path().join("a")), mode(&deep)], [0o755, 0o700, 0o700]);
        let file = deep.join("file");
        make_private_file(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        fs::write(&file, "kept").unwrap();
        make_private_file(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(make_private_directory(&file).is_err());
        assert!(make_private_directory(&file.join("below")).is_err());
    }
}
