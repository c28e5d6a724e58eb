//! The VMs of this host: define, start, stop, remove, list, and repair what a crash left.

mod start;
mod stop;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    Events, Paths, ProcessId, SshKeys, StopOptions, VmClient, VmError, VmId, VmRecord, VmSpec,
    error::IoContext as _,
    fault::{self, Point},
    image::{Digest, ImageStore, ImageUse},
    process::Role,
    reconcile::purge,
    registry::{Claim, Opened, Registry, RegistryError},
    spec::host_memory_mib,
    supervisor::{SUBCOMMAND, VmLock},
};

/// One host. Cheap to clone; clones share their connections to the registry.
#[derive(Clone, Debug)]
pub struct Host {
    paths: Paths,
    program: PathBuf,
    registry: Arc<Opened>,
}

/// After its last answer a supervisor has only to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
impl Host {
    /// The host that keeps its data in `paths`. Supervisors are this very program.
    ///
    /// # Errors
    /// The program's own path cannot be read.
    pub fn open(paths: Paths) -> Result<Host, VmError> {
        let program = std::env::current_exe().io("find", Path::new("/proc/self/exe"))?;
        let registry = Arc::new(Opened::new(paths.registry()));
        Ok(Host { paths, program, registry })
    }

    /// Starts supervisors as `program vm-supervisor ...` instead.
    #[must_use]
    pub fn with_supervisor_program(mut self, program: PathBuf) -> Host {
        self.program = program;
        self
    }

    /// Where things are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The image store.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn images(&self) -> Result<ImageStore, VmError> {
        Ok(ImageStore::open(&self.paths.images())?)
    }

    /// Removes an image, see [`ImageStore::remove`]; without `force` only one that no VM of this host starts from.
    ///
    /// # Errors
    /// There is no such image, VMs start from it
    /// ([`ImageError::InUse`](crate::image::ImageError::InUse)), or it cannot be removed.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Digest, VmError> {
        let images = self.images()?;
        if force {
            return Ok(images.remove(name)?);
        }
        let used = |vm: VmRecord| ImageUse {
            vm: format!("{} ({}, {})", vm.name, vm.id, vm.effective_state()),
            image: vm.spec.image,
        };
        let uses: Vec<ImageUse> = self.list()?.into_iter().map(used).collect();
        Ok(images.remove_unless_used(name, &uses)?)
    }

    /// Defines a VM.
    ///
    /// # Errors
    /// All mistakes of the definition at once, a name that is taken, an image that does not exist.
    pub fn create(&self, spec: &VmSpec) -> Result<VmRecord, VmError> {
        self.create_for(spec, None)
    }

    /// Like [`Host::create`], for a VM that is to be started with [`Host::start_owned`]: it is removed also when `owner` ends
    /// before that.
    ///
    /// # Errors
    /// As [`Host::create`].
    pub fn create_owned(&self, spec: &VmSpec, owner: &ProcessId) -> Result<VmRecord, VmError> {
        self.create_for(spec, Some(owner))
    }

    fn create_for(&self, spec: &VmSpec, owner: Option<&ProcessId>) -> Result<VmRecord, VmError> {
        let problems = spec.problems(host_memory_mib());
        if !problems.is_empty() {
            return Err(VmError::Invalid(problems));
        }
        self.images()?.resolve(&spec.image)?;
        let id = VmId::random();
        let name = spec.name.clone().unwrap_or_else(|| format!("vm-{id}"));
        fault::at(Point::CliCreateChecked)?;
        let registry = self.write()?;
        registry.insert(&id, &name, spec, owner)?;
        fault::at(Point::CliCreateInserted)?;
        if let Err(error) = SshKeys::of(&self.paths, &id).ensure() {
            let _lock = VmLock::try_take(&self.paths, &id)?;
            purge(&self.paths, &registry, &Claim { id, epoch: 0 })?;
            return Err(error);
        }
        registry.get(&id)?.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    /// What happens to the VMs of this host: the events after number `after`, or those from now on.
    ///
    /// # Errors
    /// The registry cannot be read or watched.
    pub fn events(&self, after: Option<i64>) -> Result<Events, VmError> {
        Events::open(self, after)
    }

    /// Removes a VM with its disk and logs; with `force` also one that runs. On a full disk its files go first, and make room
    /// for the deletion of its row.
    ///
    /// # Errors
    /// There is no such VM, or it runs.
    pub async fn remove(&self, id: &VmId, force: bool) -> Result<(), VmError> {
        loop {
            if let Err(error) = self.repair(id) {
                if !is_full(&error) {
                    return Err(error);
                }
                self.empty_ended(id)?;
                self.repair(id)?;
            }
            let record = self.record(id)?;
            if record.state.is_owned() {
                if !force {
                    return Err(VmError::WrongState { id: id.clone(), state: record.state });
                }
                self.stop(id, &StopOptions { grace: Duration::ZERO }).await?;
            }
            let _lock = self.lock(id).await?;
            // Read again under the lock: it may have been started, and lost, or removed meanwhile.
            let record = self.record(id)?;
            if !record.state.is_owned() {
                fault::at(Point::CliRemoveLocked)?;
                let registry = self.write()?;
                return purge(&self.paths, &registry, &Claim { id: id.clone(), epoch: record.epoch });
            }
        }
    }

    /// All VMs, oldest first. Writes nothing. Rows that cannot be read are warned of and left out.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn list(&self) -> Result<Vec<VmRecord>, VmError> {
        let warn = |error: &_| tracing::warn!("{error}");
        Ok(self.read()?.list()?.into_iter().filter_map(|row| row.inspect_err(warn).ok()).collect())
    }

    /// The VM with this name, id, or start of an id. Writes nothing.
    ///
    /// # Errors
    /// There is none, several ids start so, or its row is damaged.
    pub fn find(&self, wanted: &str) -> Result<VmRecord, VmError> {
        let mut all = Vec::new();
        for row in self.read()?.list()? {
            match row {
                Ok(record) => all.push(record),
                Err(error @ RegistryError::Row { .. }) if error.is_about(wanted) => return Err(error.into()),
                Err(_) => {}
            }
        }
        if let Some(exact) = all.iter().find(|vm| vm.name == wanted || vm.id.as_str() == wanted) {
            return Ok(exact.clone());
        }
        let mut matching: Vec<VmRecord> = all;
        matching.retain(|vm| !wanted.is_empty() && vm.id.as_str().starts_with(wanted));
        match (matching.pop(), matching.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                let shown = matching.iter().chain([&last]).map(|vm| format!("{} ({})", vm.id, vm.name));
                Err(VmError::Ambiguous { prefix: wanted.to_owned(), candidates: shown.collect() })
            }
            (None, _) => Err(VmError::NotFound(wanted.to_owned())),
        }
    }

    /// Talks to a running VM.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub fn client(&self, id: &VmId) -> Result<VmClient, VmError> {
        let record = self.record(id)?;
        match record.socket {
            Some(socket)
                if record.state.is_owned()
                    && record.supervisor.as_ref().is_some_and(|it| it.is_alive_as(Role::Supervisor, id)) =>
            {
                Ok(VmClient::new(id.clone(), self.paths.clone(), socket))
            }
            _ => Err(VmError::WrongState { id: id.clone(), state: record.effective_state() }),
        }
    }

    /// The lock of a VM whose supervisor is leaving.
    ///
    /// # Errors
    /// The VM was removed meanwhile, or the lock cannot be had.
    async fn lock(&self, id: &VmId) -> Result<VmLock, VmError> {
        let lock = self.lock_unless_removed(id, LEAVE_LIMIT).await?;
        lock.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    /// `None` when the VM was removed meanwhile.
    async fn lock_unless_removed(&self, id: &VmId, limit: Duration) -> Result<Option<VmLock>, VmError> {
        let lock = VmLock::take(&self.paths, id, limit).await?.ok_or_else(|| busy(id))?;
        if self.read()?.get(id)?.is_none() {
            lock.discard(&self.paths, id)?;
            return Ok(None);
        }
        Ok(Some(lock))
    }

    fn record(&self, id: &VmId) -> Result<VmRecord, VmError> {
        self.read()?.get(id)?.ok_or_else(|| VmError::NotFound(id.to_string()))
    }

    pub(crate) fn read(&self) -> Result<Arc<Registry>, VmError> {
        Ok(self.registry.reader()?)
    }

    pub(crate) fn write(&self) -> Result<Arc<Registry>, VmError> {
        Ok(self.registry.writer()?)
    }
}

/// Whether the registry could not be written for want of room on the disk.
fn is_full(error: &VmError) -> bool {
    matches!(error, VmError::Registry(error) if error.is_full())
}

fn busy(id: &VmId) -> VmError {
    VmError::Stuck { id: id.clone(), detail: "another process has been using it for too long".to_owned() }
}

/// The arguments with which this program was started, if it was started as a supervisor.
#[must_use]
pub fn supervisor_arguments(mut args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    args.next();
    (args.next()? == SUBCOMMAND).then(|| args.collect())
}
