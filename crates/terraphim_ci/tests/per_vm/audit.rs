//! What a host has outside its processes, so that before and after can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rusqlite::Connection;
use terraphim_vm::Host;

/// Files, sockets, mounts and control groups of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inventory {
    files: BTreeSet<String>,
    sockets: Vec<String>,
    mounts: Vec<String>,
    control_groups: Vec<String>,
}

/// What a host keeps when its last VM is removed: the registry (with its log, when the last to close it only read), the lists
/// of nothing, and the directories of sockets, empty.
const KEPT: &[&str] =
    &["data/vms.db", "data/vms.db-shm", "data/vms.db-wal", "data/vms", "data/locks", "run/tci"];

impl Inventory {
    /// Of the host below `directory`.
    pub(crate) fn take(directory: &Path) -> Inventory {
        let mut files = BTreeSet::new();
        list(directory, directory, &mut files);
        files.retain(|file| !KEPT.contains(&file.as_str()) && !is_socket_root(file));
        let text = directory.to_string_lossy();
        let naming = |path: &str| {
            let all = fs::read_to_string(path).unwrap();
            all.lines().filter(|line| line.contains(&*text)).map(str::to_owned).collect()
        };
        Inventory {
            files,
            sockets: naming("/proc/net/unix"),
            mounts: naming("/proc/self/mounts"),
            control_groups: control_groups(directory),
        }
    }
}

/// `run/tci/HASH`, the directory of the host's sockets.
fn is_socket_root(file: &str) -> bool {
    file.strip_prefix("run/tci/").is_some_and(|rest| !rest.contains('/'))
}

/// All files below `directory`, relative to `root`; links are not followed.
fn list(directory: &Path, root: &Path, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        files.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, root, files);
        }
    }
}

/// The VMs that a host has or had, by its history; none while its registry cannot be read.
pub(crate) fn vms_ever(directory: &Path) -> Vec<String> {
    let registry = directory.join("data/vms.db");
    if !registry.exists() {
        return Vec::new();
    }
    let read = |connection: Connection| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT DISTINCT vm_id FROM events")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    Connection::open_with_flags(registry, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(read)
        .unwrap_or_default()
}

/// Control groups named after a VM that this host has or had.
fn control_groups(directory: &Path) -> Vec<String> {
    let ids = vms_ever(directory);
    let mut groups = BTreeSet::new();
    list(Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup"), &mut groups);
    groups.into_iter().filter(|group| ids.iter().any(|id| group.contains(id.as_str()))).collect()
}

/// Removals that nobody has finished.
pub(crate) fn notes_of_removal(host: &Host) -> i64 {
    if !host.paths().registry().exists() {
        return 0;
    }
    let connection = Connection::open(host.paths().registry()).unwrap();
    connection.query_row("SELECT count(*) FROM removed", [], |row| row.get(0)).unwrap()
}

/// 512-byte blocks that each file below `directory` takes, links not followed.
pub(crate) fn blocks(directory: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeSet::new();
    list(directory, directory, &mut files);
    let of = |file: &str| fs::symlink_metadata(directory.join(file)).map_or(0, |meta| meta.blocks());
    files.into_iter().map(|file| (file.clone(), of(&file))).collect()
}
