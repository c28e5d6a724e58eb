//! Hardware virtualisation where it works, software emulation where it does not.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{probe, qemu::PROGRAM};
use crate::{
    error::{IoContext as _, VmError},
    process::boot_id,
};

/// What executes the guest's instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor (`/dev/kvm`).
    Kvm,
    /// QEMU's translator, some ten times slower; `reason` says why KVM is not used.
    Tcg {
        /// One sentence for people.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Cached {
    boot_id: String,
    version: String,
    accelerator: Accelerator,
}

impl Accelerator {
    /// What this host offers. `TCI_ACCEL=kvm|tcg` decides by itself; otherwise KVM is tried once per boot of the host
    /// and version of QEMU (a guest has to run, see `probe`), and the answer is kept in `cache`.
    ///
    /// # Errors
    /// `TCI_ACCEL` has another value, or QEMU is not installed.
    pub fn detect(cache: &Path) -> Result<Accelerator, VmError> {
        match std::env::var("TCI_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Accelerator::Kvm),
            Ok("tcg") => return Ok(Accelerator::Tcg { reason: "TCI_ACCEL=tcg asks for it".to_owned() }),
            Ok("auto" | "") | Err(_) => {}
            Ok(other) => {
                return Err(VmError::Host {
                    what: format!("TCI_ACCEL={other}"),
                    remedy: "use kvm, tcg or auto".to_owned(),
                });
            }
        }
        let file = cache.join("accelerator.json");
        let (boot_id, version) = (boot_id().unwrap_or_default(), program_stamp());
        let kept = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Cached>(&text).ok());
        if let Some(kept) = kept.filter(|kept| kept.boot_id == boot_id && kept.version == version) {
            return Ok(kept.accelerator);
        }
        let accelerator = probe::probe()?;
        crate::make_private_directory(cache).io("create", cache)?;
        let text = serde_json::to_vec(&Cached { boot_id, version, accelerator: accelerator.clone() });
        let temporary = cache.join(format!("accelerator.{}", std::process::id()));
        fs::write(&temporary, text.expect("plain data is JSON")).io("write", &temporary)?;
        fs::rename(&temporary, &file).io("write", &file)?;
        Ok(accelerator)
    }
}

/// Tells one installed QEMU from the next without starting it.
fn program_stamp() -> String {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)).find_map(|file| fs::metadata(file).ok())
    });
    found.map(|meta| format!("{}-{:?}", meta.len(), meta.modified().ok())).unwrap_or_default()
}

pub(super) fn missing(source: &io::Error) -> VmError {
    VmError::Host {
        what: format!("cannot run {PROGRAM} ({source})"),
        remedy: "install QEMU (Debian, Ubuntu: `apt install qemu-system-x86`)".to_owned(),
    }
}
