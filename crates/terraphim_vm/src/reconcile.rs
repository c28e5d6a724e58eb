//! Registry and reality brought together: what a killed process left is recorded, ended and cleared away.
//!
//! Nothing here guesses. Whoever acts for a VM has its lock, so no living supervisor is disturbed; and only what the registry
//! says is gone, or what holds nothing of value, is removed: a registry that was moved away or put back from a copy costs
//! no VM its disk.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use crate::{
    Host, Paths, ProcessId, VmError, VmId, VmRecord,
    error::IoContext as _,
    fault::{self, Point},
    process::{Role, boot_id},
    registry::{Claim, EndReason, Registry, RegistryError, VmEnd},
    supervisor::VmLock,
};

/// A hypervisor that the kernel has killed gives back its memory before it is gone.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// Rows that are repaired together: each holds the descriptor of a lock, of which a process has 1,024 where nobody has
/// said otherwise.
const AT_ONCE: usize = 128;

impl Host {
    /// Brings every row in line with the processes that really run and removes what nobody will come back for. Every
    /// command does so first; it costs a query and three directory listings when there is nothing to do, and writes nothing.
    ///
    /// # Errors
    /// The registry cannot be read, or something cannot be repaired; the rest is repaired all the same.
    pub fn reconcile(&self) -> Result<(), VmError> {
        if !self.paths().registry().exists() {
            return Ok(());
        }
        let mut first = Ok(());
        // What a row that cannot be read is about is left alone.
        let held = self.read()?.list_held()?.into_iter().flatten();
        let broken: Vec<VmRecord> = held.filter(VmRecord::needs_repair).collect();
        let known = self.read()?.ids()?.into_iter().collect();
        for rows in broken.chunks(AT_ONCE) {
            first = first.and(self.repair_rows(rows, ""));
        }
        for id in self.read()?.removed()? {
            first = first.and(self.finish_removal(&id));
        }
        for id in self.emptied() {
            first = first.and(self.finish_emptied(&id));
        }
        for id in self.strays(&known) {
            first = first.and(self.clear_stray(&id));
        }
        first
    }

    /// The same for one VM. A living supervisor's row is not touched: its lock cannot be had.
    pub(crate) fn repair(&self, id: &VmId) -> Result<(), VmError> {
        self.repair_because(id, "")
    }

    /// Likewise for who knows how the supervisor ended.
    pub(crate) fn repair_because(&self, id: &VmId, detail: &str) -> Result<(), VmError> {
        let row = self.read()?.get(id)?.filter(VmRecord::needs_repair);
        self.repair_rows(row.as_slice(), detail)
    }

    /// What each row says is undone, then all of them are written; the locks are held meanwhile.
    fn repair_rows(&self, rows: &[VmRecord], detail: &str) -> Result<(), VmError> {
        let mut first = Ok(());
        let mut broken: Vec<(VmRecord, VmLock)> = Vec::new();
        for row in rows {
            match self.prepare_repair(row) {
                Ok(prepared) => broken.extend(prepared),
                Err(error) => first = first.and(Err(error)),
            }
        }
        if broken.is_empty() {
            return first;
        }
        let registry = self.write()?;
        let claim = |row: &VmRecord| Claim { id: row.id.clone(), epoch: row.epoch };
        let end = |row| VmEnd { detail: detail.to_owned(), ..VmEnd::of(loss(row)) };
        let is_lost = |row: &&VmRecord| row.state.is_owned();
        let rows = || broken.iter().map(|(row, _)| row);
        registry.set_lost(&rows().filter(is_lost).map(|row| (claim(row), end(row))).collect::<Vec<_>>())?;
        if rows().any(|row| is_lost(&row)) {
            fault::at(Point::RepairRecorded)?;
        }
        // A VM that was made for one process is of no use to anybody else.
        for row in rows().filter(|row| row.owner.is_some()) {
            first = first.and(purge(self.paths(), &registry, &claim(row)));
        }
        first
    }

    /// Takes the lock of a row and clears away what it says and is no more; `None` when there is nothing to repair.
    fn prepare_repair(&self, row: &VmRecord) -> Result<Option<(VmRecord, VmLock)>, VmError> {
        let Some(lock) = self.lock_after(row)? else { return Ok(None) };
        // Read again under the lock: somebody may have repaired, started or removed it meanwhile.
        let Some(row) = self.read()?.get(&row.id)? else {
            return lock.discard(self.paths(), &row.id).map(|()| None);
        };
        if !row.needs_repair() {
            return Ok(None);
        }
        fault::at(Point::RepairLocked)?;
        if row.state.is_owned() {
            self.await_hypervisor(&row)?;
            if let Some(socket) = &row.socket {
                let _ = fs::remove_file(socket);
                let _ = fs::remove_dir(self.paths().vm_runtime(&row.id));
            }
            crate::cgroup::remove_left(self.paths(), &row.id)?;
            fault::at(Point::RepairUnbound)?;
        }
        Ok(Some((row, lock)))
    }

    /// Takes the lock that the dead supervisor of a row had; `None` when somebody else has it. A process that dies loses its
    /// memory, and with it the arguments that it is known by, a moment before its files and their locks.
    fn lock_after(&self, row: &VmRecord) -> Result<Option<VmLock>, VmError> {
        let lock = VmLock::try_take(self.paths(), &row.id)?;
        let Some(supervisor) = row.supervisor.as_ref().filter(|_| lock.is_none()) else { return Ok(lock) };
        supervisor.ended_within(DEATH_LIMIT).io("watch the supervisor in", Path::new("/proc"))?;
        VmLock::try_take(self.paths(), &row.id)
    }

    /// A row says `stopped` only after the hypervisor has gone. The kernel has killed it with its supervisor; this is for
    /// the moment that it takes to go.
    fn await_hypervisor(&self, row: &VmRecord) -> Result<(), VmError> {
        let Some(hypervisor) = &row.hypervisor else { return Ok(()) };
        let proc = Path::new("/proc");
        hypervisor.kill_as(Role::Hypervisor, &row.id).io("kill the hypervisor in", proc)?;
        // In this order: one that goes away between the two looks is seen by the second.
        if (hypervisor.is_alive_as(Role::Hypervisor, &row.id) || hypervisor.is_exiting())
            && !hypervisor.ended_within(DEATH_LIMIT).io("watch the hypervisor in", proc)?
        {
            let detail = format!("its hypervisor (pid {}) cannot be killed", hypervisor.pid);
            return Err(VmError::Stuck { id: row.id.clone(), detail });
        }
        Ok(())
    }

    /// Removes the files of a VM whose row was deleted.
    fn finish_removal(&self, id: &VmId) -> Result<(), VmError> {
        // Its supervisor, or whoever removes it, is at it.
        let Some(_lock) = VmLock::try_take(self.paths(), id)? else { return Ok(()) };
        let registry = self.write()?;
        // A row of this id is there again only when somebody put it back.
        if registry.get(id)?.is_none() {
            remove_files(self.paths(), id)?;
        }
        Ok(registry.forget_removed(id)?)
    }

    /// VMs whose files went before their rows, see [`empty`].
    fn emptied(&self) -> Vec<VmId> {
        let entries = fs::read_dir(self.paths().vms()).into_iter().flatten().flatten();
        let id = |name: &str| VmId::from_str(name.strip_suffix(EMPTIED)?).ok();
        entries.filter_map(|entry| id(entry.file_name().to_str()?)).collect()
    }

    /// Deletes the row for which there was no room.
    fn finish_emptied(&self, id: &VmId) -> Result<(), VmError> {
        let Some(_lock) = VmLock::try_take(self.paths(), id)? else { return Ok(()) };
        let registry = self.write()?;
        match registry.get(id)? {
            Some(row) => purge(self.paths(), &registry, &Claim { id: id.clone(), epoch: row.epoch }),
            None => remove_tree(&emptied_directory(self.paths(), id)),
        }
    }

    /// Gives back the room of a VM that has ended and is to be removed, when there is none to record its end.
    pub(crate) fn empty_ended(&self, id: &VmId) -> Result<(), VmError> {
        let Some(row) = self.read()?.get(id)?.filter(VmRecord::is_stale) else { return Ok(()) };
        match self.prepare_repair(&row)? {
            Some((_, _lock)) => empty(self.paths(), id),
            None => Ok(()),
        }
    }

    /// Ids that files are named by and no row is.
    fn strays(&self, known: &BTreeSet<VmId>) -> BTreeSet<VmId> {
        let paths = self.paths();
        let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
        entries(&paths.vms())
            .chain(entries(&paths.locks()))
            .chain(entries(paths.runtime()))
            .filter_map(|entry| VmId::from_str(entry.file_name().to_str()?).ok())
            .filter(|id| !known.contains(id))
            .collect()
    }

    /// Removes what a start leaves that raced with the VM's removal: a lock, a directory of sockets, a supervisor's log. A
    /// directory with anything else in it stays, see [the module](self).
    fn clear_stray(&self, id: &VmId) -> Result<(), VmError> {
        let Some(_lock) = VmLock::try_take(self.paths(), id)? else { return Ok(()) };
        if self.read()?.get(id)?.is_some() {
            return Ok(());
        }
        let directory = self.paths().vm(id);
        let names = |directory| -> io::Result<Vec<_>> {
            fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
        };
        match names(&directory) {
            Ok(names) if names == ["supervisor.log"] => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Ok(()),
        }
        remove_files(self.paths(), id)
    }
}

impl VmRecord {
    /// Whether somebody has to act: its supervisor is dead, or it has ended and the process that it was made for is dead.
    fn needs_repair(&self) -> bool {
        let is_abandoned = || self.owner.as_ref().is_some_and(|owner| !owner.is_alive());
        self.is_stale() || (!self.state.is_owned() && is_abandoned())
    }
}

/// Why a VM has no supervisor any more.
fn loss(row: &VmRecord) -> EndReason {
    let same_boot = |it: &ProcessId| boot_id().is_ok_and(|boot| boot == it.boot_id);
    if row.supervisor.as_ref().is_some_and(same_boot) {
        EndReason::SupervisorDied
    } else {
        EndReason::HostRebooted
    }
}

/// Removes a VM that nobody owns, row first where there is room: the row leaves a note, so that whoever comes next finishes
/// what this process did not. The caller holds the lock.
pub(crate) fn purge(paths: &Paths, registry: &Registry, claim: &Claim) -> Result<(), VmError> {
    delete_row(paths, &claim.id, || registry.delete(claim))?;
    fault::at(Point::RemoveDeleted)?;
    clear(paths, registry, &claim.id)
}

/// A full disk has no room for the deletion of a row: the VM's files give it back first.
fn delete_row(
    paths: &Paths,
    id: &VmId,
    mut delete: impl FnMut() -> Result<(), RegistryError>,
) -> Result<(), VmError> {
    match delete() {
        Err(error) if error.is_full() => {
            empty(paths, id)?;
            Ok(delete()?)
        }
        deleted => Ok(deleted?),
    }
}

/// What is behind the name of a directory whose VM is being removed, although its row is still there.
const EMPTIED: &str = ".removed";

fn emptied_directory(paths: &Paths, id: &VmId) -> PathBuf {
    paths.vms().join(format!("{id}{EMPTIED}"))
}

/// Whether a VM has lost its files to its removal, and waits only for room in which its row can be deleted.
pub(crate) fn is_emptied(paths: &Paths, id: &VmId) -> bool {
    emptied_directory(paths, id).exists()
}

/// Removes what a VM has in its directory. The new name of that directory, which takes no room, says so until the row is
/// gone: such a VM is not started, and whoever comes next deletes the row. The caller holds the lock.
fn empty(paths: &Paths, id: &VmId) -> Result<(), VmError> {
    crate::cgroup::remove_left(paths, id)?;
    let (directory, emptied) = (paths.vm(id), emptied_directory(paths, id));
    // What somebody who was killed here has left would be in the way.
    remove_content(&emptied)?;
    gone(fs::rename(&directory, &emptied)).io("rename", &directory)?;
    remove_content(&emptied)
}

fn remove_content(directory: &Path) -> Result<(), VmError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.io("read", directory)?,
    };
    for entry in entries {
        let entry = entry.io("read", directory)?;
        let path = entry.path();
        match entry.file_type().io("read", &path)?.is_dir() {
            true => remove_tree(&path)?,
            false => gone(fs::remove_file(&path)).io("remove", &path)?,
        }
    }
    Ok(())
}

/// Removes the files of a VM whose row is gone. The caller holds the lock.
pub(crate) fn clear(paths: &Paths, registry: &Registry, id: &VmId) -> Result<(), VmError> {
    remove_files(paths, id)?;
    fault::at(Point::RemoveFiles)?;
    Ok(registry.forget_removed(id)?)
}

/// Removes everything that a VM has on disk, its lock last. The caller holds the lock.
pub(crate) fn remove_files(paths: &Paths, id: &VmId) -> Result<(), VmError> {
    crate::cgroup::remove_left(paths, id)?;
    for directory in [paths.vm(id), emptied_directory(paths, id), paths.vm_runtime(id)] {
        remove_tree(&directory)?;
    }
    let lock = paths.lock(id);
    gone(fs::remove_file(&lock)).io("remove", &lock)
}

fn remove_tree(directory: &Path) -> Result<(), VmError> {
    gone(fs::remove_dir_all(directory)).io("remove", directory)
}

/// What is not there need not be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmSpec;

    /// A host with one VM that has a disk.
    fn host() -> (tempfile::TempDir, Host, VmId) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(Paths::new(dir.path()).unwrap()).unwrap();
        let id = VmId::random();
        host.write().unwrap().insert(&id, "vm", &VmSpec::default(), None).unwrap();
        fs::create_dir_all(host.paths().vm(&id).join("exec")).unwrap();
        fs::write(host.paths().vm(&id).join("scratch.qcow2"), "disk").unwrap();
        (dir, host, id)
    }

    fn full() -> RegistryError {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let source = rusqlite::Error::SqliteFailure(code, None);
        RegistryError::Database { path: PathBuf::from("vms.db"), source }
    }

    #[test]
    fn on_a_full_disk_the_files_make_room_for_the_deletion_of_the_row() {
        let (_dir, host, id) = host();
        let paths = host.paths();
        let disk = paths.vm(&id).join("scratch.qcow2");
        let delete = || if disk.exists() { Err(full()) } else { Ok(()) };
        delete_row(paths, &id, delete).unwrap();
        assert!(!paths.vm(&id).exists());
        remove_files(paths, &id).unwrap();
        assert_eq!(fs::read_dir(paths.vms()).unwrap().count(), 0);
    }

    #[test]
    fn any_other_failure_costs_no_file() {
        let (_dir, host, id) = host();
        let refused = delete_row(host.paths(), &id, || Err(RegistryError::Superseded(id.clone())));
        assert!(matches!(refused, Err(VmError::Registry(RegistryError::Superseded(_)))));
        assert!(host.paths().vm(&id).join("scratch.qcow2").exists() && !is_emptied(host.paths(), &id));
    }

    #[test]
    fn a_row_that_could_not_be_deleted_says_so_and_goes_when_there_is_room() {
        let (_dir, host, id) = host();
        for _ in 0..2 {
            delete_row(host.paths(), &id, || Err(full())).unwrap_err();
            assert!(is_emptied(host.paths(), &id));
            // A start that was refused has left its log.
            fs::create_dir_all(host.paths().vm(&id)).unwrap();
            fs::write(host.paths().vm(&id).join("supervisor.log"), "").unwrap();
        }
        assert_eq!(host.list().unwrap().len(), 1);
        host.reconcile().unwrap();
        assert!(host.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(host.paths().vms()).unwrap().count(), 0);
    }
}
