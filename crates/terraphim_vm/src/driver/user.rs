//! In whose name a hypervisor runs.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::accelerator::Accelerator;
use crate::VmId;

/// A user and group of the host without a name and without any file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QemuUser {
    /// Its id.
    pub uid: u32,
    /// Its only group: its own, or the one that may use `/dev/kvm`.
    pub gid: u32,
}

/// Above the ids that systemd gives out (systemd.io, "Users, Groups, UIDs and GIDs on systemd systems": everything from
/// 1879048192 up to 2^31 is unused), below 2^31, which some programs take for negative.
const FIRST_UID: u32 = 0x7800_0000;
/// Present in every user namespace that has more than one user.
const NOBODY: u32 = 65_534;

impl QemuUser {
    /// The user for a VM's hypervisor when root starts it: one of its own, made from the VM's id, so that no hypervisor
    /// can touch another one. `None` when we are not root and QEMU gets our own rights, or when this user namespace has
    /// no user but root.
    #[must_use]
    pub fn for_vm(id: &VmId, accelerator: &Accelerator) -> Option<QemuUser> {
        let digits = u32::from_str_radix(&id.as_str()[..6], 16).expect("an id is hexadecimal");
        QemuUser::numbered(digits, accelerator)
    }

    /// The same for a hypervisor that only has to show whether KVM works.
    pub(super) fn for_probe() -> Option<QemuUser> {
        QemuUser::numbered(0x00ff_ffff, &Accelerator::Kvm)
    }

    fn numbered(digits: u32, accelerator: &Accelerator) -> Option<QemuUser> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let map = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let uid = mapped(&map("uid_map"), FIRST_UID + digits)?;
        let own = mapped(&map("gid_map"), FIRST_UID + digits)?;
        let kvm = match accelerator {
            Accelerator::Kvm => fs::metadata("/dev/kvm").ok().map(|device| device.gid()),
            Accelerator::Tcg { .. } => None,
        };
        Some(QemuUser { uid, gid: kvm.filter(|gid| *gid != 0).unwrap_or(own) })
    }
}

/// The id, where the namespace has it; else nobody's, where it has that. Format: user_namespaces(7).
fn mapped(map: &str, wanted: u32) -> Option<u32> {
    let has = |id: u32| {
        map.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.nth(1)) else { return false };
            (first..first + count).contains(&u64::from(id))
        })
    };
    [wanted, NOBODY].into_iter().find(|id| has(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_the_namespace_lacks_is_nobody_s() {
        assert_eq!(mapped("         0          0 4294967295\n", FIRST_UID), Some(FIRST_UID));
        assert_eq!(mapped("0 100000 65536\n", FIRST_UID), Some(NOBODY));
        assert_eq!(mapped("0 1000 1\n", FIRST_UID), None);
    }
}
