//! Where things are on disk.

use std::{
    env,
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{VmId, error::VmError};

/// The directories of one host: everything that `tci` keeps, and where its sockets are.
///
/// Several hosts may live on one machine (tests do that); they share nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    data: PathBuf,
    runtime: PathBuf,
}

impl Paths {
    /// The host whose data is in `data` (made absolute). Sockets go to a directory of their own, because a socket's
    /// path may have 107 bytes at most (unix(7)) and data directories may be deep.
    ///
    /// # Errors
    /// The current directory is needed and cannot be read.
    pub fn new(data: &Path) -> Result<Paths, VmError> {
        Paths::with_environment(data, env::var_os("XDG_RUNTIME_DIR"))
    }

    /// `$TCI_DATA_DIR`, else `$XDG_DATA_HOME/tci`, else `~/.local/share/tci`.
    ///
    /// # Errors
    /// None of the three variables is set.
    pub fn from_env() -> Result<Paths, VmError> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = set("TCI_DATA_DIR")
            .or_else(|| set("XDG_DATA_HOME").map(|base| base.join("tci")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/tci")))
            .ok_or(VmError::NoHome)?;
        Paths::new(&data)
    }

    /// A supervisor gets both directories from the process that starts it, so that the environment decides only once.
    #[must_use]
    pub fn from_parts(data: PathBuf, runtime: PathBuf) -> Paths {
        Paths { data, runtime }
    }

    /// The same with another value of `$XDG_RUNTIME_DIR`. One that is relative, or too long for a socket's path, is not used.
    ///
    /// # Errors
    /// As [`Paths::new`].
    pub fn with_environment(data: &Path, xdg_runtime: Option<OsString>) -> Result<Paths, VmError> {
        let data = std::path::absolute(data).map_err(|source| VmError::Io {
            operation: "find",
            path: data.to_owned(),
            source,
        })?;
        let base = xdg_runtime
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute() && dir.as_os_str().len() < 40)
            .map_or_else(
                || env::temp_dir().join(format!("tci-{}", rustix::process::getuid().as_raw())),
                |dir| dir.join("tci"),
            );
        let digest = Sha256::digest(data.as_os_str().as_bytes());
        let name: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Ok(Paths { data, runtime: base.join(name) })
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The directory of the sockets.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The registry's database.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.data.join("vms.db")
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Things that can be made again.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// The directories of all VMs.
    #[must_use]
    pub fn vms(&self) -> PathBuf {
        self.data.join("vms")
    }

    /// The locks of all VMs.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.data.join("locks")
    }

    /// Everything that belongs to one VM: disk, console, logs, executions.
    #[must_use]
    pub fn vm(&self, id: &VmId) -> PathBuf {
        self.vms().join(id.as_str())
    }

    /// The lock that a VM's supervisor holds for its life. Outside [`Paths::vm`], which is removed with the VM.
    #[must_use]
    pub fn lock(&self, id: &VmId) -> PathBuf {
        self.locks().join(id.as_str())
    }

    /// The directory of a VM's socket, mode 0700.
    #[must_use]
    pub fn vm_runtime(&self, id: &VmId) -> PathBuf {
        self.runtime.join(id.as_str())
    }

    /// The control socket of the `epoch`-th start of a VM: a socket is never shared between two starts.
    #[must_use]
    pub fn socket(&self, id: &VmId, epoch: i64) -> PathBuf {
        self.vm_runtime(id).join(format!("control-{epoch}"))
    }

    /// The frames of one execution.
    #[must_use]
    pub fn exec_output(&self, id: &VmId, exec: &str) -> PathBuf {
        self.vm(id).join("exec").join(exec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_data_directory_has_a_short_socket_path() {
        let data = PathBuf::from("/").join("deep/".repeat(60));
        let paths = Paths::with_environment(&data, None).unwrap();
        let socket = paths.socket(&VmId::random(), i64::MAX);
        assert!(socket.as_os_str().len() < 108, "{socket:?}");
    }

    #[test]
    fn a_long_runtime_directory_is_not_used() {
        let long = "/x".repeat(30);
        let paths = Paths::with_environment(Path::new("/data"), Some(long.clone().into())).unwrap();
        assert!(!paths.runtime().starts_with(long));
    }
}
