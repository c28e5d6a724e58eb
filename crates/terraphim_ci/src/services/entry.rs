//! What is kept, as directories: `meta.json` beside `content`.
//!
//! A directory is made aside and renamed to its place when it is complete, which the kernel does at once and only if
//! nothing is there. So a crash at any moment leaves either nothing or a whole entry, the name of the directory (a digest
//! of what must be unique) is the uniqueness, and several programs may work in one store. A table in a database beside the
//! files could disagree with them; this cannot.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, de::DeserializeOwned};

const META: &str = "meta.json";
const CONTENT: &str = "content";

/// The file that holds an entry's bytes.
pub(super) fn content(directory: &Path) -> PathBuf {
    directory.join(CONTENT)
}

/// Makes a directory that only its owner may enter.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Completes the entry in `staging`, whose content is there, and moves it to `place`; false if one is there already.
pub(super) fn publish(staging: &Path, meta: &impl Serialize, place: &Path) -> io::Result<bool> {
    let text = serde_json::to_vec_pretty(meta).expect("plain data is JSON");
    let mut file = File::create(staging.join(META))?;
    file.write_all(&text)?;
    file.sync_all()?;
    File::open(content(staging))?.sync_all()?;
    File::open(staging)?.sync_all()?;
    let parent = place.parent().unwrap_or(place);
    make_directory(parent)?;
    match fs::rename(staging, place) {
        Ok(()) => {
            File::open(parent)?.sync_all()?;
            Ok(true)
        }
        // A directory that is not empty is never replaced.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The entry in `directory`; `None` if there is none.
pub(super) fn read<M: DeserializeOwned>(directory: &Path) -> io::Result<Option<M>> {
    match fs::read(directory.join(META)) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All entries below `parent`. A damaged one is told of and left out: it must not take the others with it.
pub(super) fn list<M: DeserializeOwned>(parent: &Path) -> io::Result<Vec<(PathBuf, M)>> {
    let mut all = Vec::new();
    for directory in directories(parent)? {
        match read(&directory) {
            Ok(meta) => all.extend(meta.map(|meta| (directory, meta))),
            Err(error) => tracing::warn!("{} is damaged and is ignored: {error}", directory.display()),
        }
    }
    Ok(all)
}

/// The directories in `parent` but for those that are going; none if it is not there.
pub(super) fn directories(parent: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(subdirectories(parent)?.into_iter().filter(|path| !is_going(path)).collect())
}

fn subdirectories(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(paths.map(|entry| entry.path()).collect())
}

/// What a directory is called while it is removed.
const GOING: &str = ".going-";

fn is_going(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(GOING.as_bytes()))
}

/// Removes an entry at once; false if there was none. What an earlier removal left is removed too.
pub(super) fn remove(directory: &Path) -> io::Result<bool> {
    let Some(parent) = directory.parent() else { return Ok(false) };
    let aside = parent.join(format!("{GOING}{}", uuid::Uuid::new_v4().simple()));
    match fs::rename(directory, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    for gone in subdirectories(parent)?.into_iter().filter(|path| is_going(path)) {
        match fs::remove_dir_all(&gone) {
            // Somebody else removes it, too.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// Notes that an entry was used now.
pub(super) fn touch(directory: &Path) -> io::Result<()> {
    File::options().write(true).open(directory.join(META))?.set_modified(SystemTime::now())
}

/// When an entry was used last, in milliseconds since 1970.
pub(super) fn used_at_ms(directory: &Path) -> io::Result<i64> {
    let modified = fs::metadata(directory.join(META))?.modified()?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A number that no entry of before has, and that a JavaScript number holds exactly: microseconds since 1970.
pub(super) fn new_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_micros()).unwrap_or(0);
    let next = |last: u64| Some(now.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
    now.max(last + 1)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The name of the directory of what is unique by these texts.
pub(super) fn name_of(texts: &[&str]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for text in texts {
        // With lengths, so that no two lists look the same.
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    hex(digest.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_whole_unique_and_gone_at_once() {
        let root = tempfile::tempdir().unwrap();
        let staged = |name: &str| {
            let staging = root.path().join(name);
            make_directory(&staging).unwrap();
            fs::write(content(&staging), name).unwrap();
            staging
        };
        let place = root.path().join("kept/entry");
        assert!(publish(&staged("first"), &1, &place).unwrap());
        let second = staged("second");
        assert!(!publish(&second, &2, &place).unwrap());
        assert_eq!(fs::read(content(&place)).unwrap(), b"first");
        fs::create_dir(root.path().join("kept/half")).unwrap();
        assert_eq!(list::<i32>(&root.path().join("kept")).unwrap(), [(place.clone(), 1)]);
        fs::write(root.path().join("kept/half/meta.json"), "{").unwrap();
        assert_eq!(list::<i32>(&root.path().join("kept")).unwrap().len(), 1);
        assert!(remove(&place).unwrap() && !remove(&place).unwrap());
        assert!(list::<i32>(&root.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn numbers_differ_and_names_do() {
        let ids: std::collections::HashSet<u64> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| *id < 1 << 53));
        assert_ne!(name_of(&["a", "bc"]), name_of(&["ab", "c"]));
    }
}
